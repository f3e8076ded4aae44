//! What is known of each model beyond its prices: thinking modes, effort levels, cache minimum, features.
//!
//! Prices and sizes come from the [`PriceTable`](otto_core::model::PriceTable) of the options; this table
//! only decides which requests a model refuses and how it behaves. A model that is not listed here accepts
//! everything.
//!
//! Source: vendor documentation and price maps, state 2026-11-22.

use otto_core::model::ModelSpec;

/// How a model behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) id: &'static str,
    /// The dated or undated second name.
    pub(crate) alias: Option<&'static str>,
    pub(crate) released: &'static str,
    pub(crate) lifecycle: &'static str,
    pub(crate) retires: Option<&'static str>,
    /// Shorter prompts are not cached.
    pub(crate) min_cacheable_tokens: u64,
    pub(crate) thinking: Thinking,
    /// Effort levels accepted, lowest first.
    pub(crate) efforts: &'static [&'static str],
    /// Whether `tool_choice` `any` and `tool` are accepted.
    pub(crate) forced_tool_choice: bool,
    /// Whether the last message may be the assistant's.
    pub(crate) prefill: bool,
    /// Whether `system` entries in `messages` are accepted.
    pub(crate) system_entries: bool,
    /// Whether thinking blocks are bound to everything before them.
    pub(crate) binds_thinking: bool,
    /// Whether non-default sampling fields work under the old version.
    pub(crate) sampling: bool,
    pub(crate) fast: Fast,
    /// Whether `inference_geo` is accepted.
    pub(crate) geo: bool,
    /// Hidden tokens when tools are present: with `auto` or `none`, with `any` or `tool`.
    pub(crate) tool_prompt: (u64, u64),
}

/// Which thinking modes a model accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thinking {
    pub(crate) adaptive: bool,
    pub(crate) enabled: bool,
    pub(crate) disabled: bool,
    pub(crate) between_tools: bool,
    /// Whether the model thinks if the request does not say.
    pub(crate) by_default: bool,
    /// Whether `display` is `omitted` if the request does not say.
    pub(crate) omitted: bool,
}

/// What `speed: fast` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fast {
    /// Runs and costs twice as much.
    Accepted,
    /// Runs as standard.
    Ignored,
    /// A 400.
    Refused,
}

const ALL_EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];
const NO_XHIGH: &[&str] = &["low", "medium", "high", "max"];
const OLD_EFFORTS: &[&str] = &["low", "medium", "high"];

const ALWAYS: Thinking = Thinking {
    adaptive: true,
    enabled: false,
    disabled: false,
    between_tools: false,
    by_default: true,
    omitted: true,
};
const BY_DEFAULT: Thinking = Thinking {
    disabled: true,
    ..ALWAYS
};
const ON_REQUEST: Thinking = Thinking {
    by_default: false,
    ..BY_DEFAULT
};
const EITHER: Thinking = Thinking {
    adaptive: true,
    enabled: true,
    disabled: true,
    between_tools: false,
    by_default: false,
    omitted: false,
};
const MANUAL: Thinking = Thinking {
    adaptive: false,
    ..EITHER
};

/// A recent model: the base of most entries.
const RECENT: Traits = Traits {
    id: "",
    alias: None,
    released: "",
    lifecycle: "active",
    retires: None,
    min_cacheable_tokens: 512,
    thinking: ALWAYS,
    efforts: ALL_EFFORTS,
    forced_tool_choice: false,
    prefill: false,
    system_entries: true,
    binds_thinking: true,
    sampling: false,
    fast: Fast::Refused,
    geo: true,
    tool_prompt: (340, 460),
};

/// The generation before thinking was bound to its prefix.
const UNBOUND: Traits = Traits {
    binds_thinking: false,
    forced_tool_choice: true,
    ..RECENT
};

/// The generation with 200,000 tokens of context.
const OLD: Traits = Traits {
    system_entries: false,
    prefill: true,
    sampling: true,
    geo: false,
    thinking: MANUAL,
    min_cacheable_tokens: 4_096,
    tool_prompt: (496, 588),
    efforts: &[],
    ..UNBOUND
};

const TABLE: &[Traits] = &[
    Traits {
        id: "claude-fable-5-2",
        released: "2026-11-09",
        fast: Fast::Accepted,
        ..RECENT
    },
    Traits {
        id: "claude-mythos-5-2",
        released: "2026-11-09",
        fast: Fast::Accepted,
        ..RECENT
    },
    Traits {
        id: "claude-fable-5-1",
        released: "2026-09-01",
        ..RECENT
    },
    Traits {
        id: "claude-mythos-5-1",
        released: "2026-09-01",
        ..RECENT
    },
    Traits {
        id: "claude-fable-5",
        released: "2026-06-09",
        ..UNBOUND
    },
    Traits {
        id: "claude-mythos-5",
        released: "2026-06-09",
        ..UNBOUND
    },
    Traits {
        id: "claude-opus-5-5",
        released: "2026-09-22",
        fast: Fast::Accepted,
        ..RECENT
    },
    Traits {
        id: "claude-opus-5",
        released: "2026-07-24",
        thinking: BY_DEFAULT,
        fast: Fast::Accepted,
        tool_prompt: (286, 406),
        ..UNBOUND
    },
    Traits {
        id: "claude-opus-4-8",
        released: "2026-05-28",
        thinking: ON_REQUEST,
        fast: Fast::Accepted,
        min_cacheable_tokens: 1_024,
        tool_prompt: (290, 410),
        ..UNBOUND
    },
    Traits {
        id: "claude-opus-4-7",
        alias: Some("claude-opus-4-7-20260416"),
        released: "2026-04-16",
        thinking: ON_REQUEST,
        min_cacheable_tokens: 2_048,
        system_entries: false,
        tool_prompt: (675, 804),
        ..UNBOUND
    },
    Traits {
        id: "claude-opus-4-6",
        alias: Some("claude-opus-4-6-20260205"),
        released: "2026-02-05",
        thinking: EITHER,
        efforts: NO_XHIGH,
        min_cacheable_tokens: 4_096,
        system_entries: false,
        sampling: true,
        fast: Fast::Ignored,
        tool_prompt: (497, 589),
        ..UNBOUND
    },
    Traits {
        id: "claude-opus-4-5-20251101",
        alias: Some("claude-opus-4-5"),
        released: "2025-11-24",
        efforts: OLD_EFFORTS,
        ..OLD
    },
    Traits {
        id: "claude-sonnet-5-5",
        released: "2026-09-28",
        thinking: Thinking {
            between_tools: true,
            ..ALWAYS
        },
        ..RECENT
    },
    Traits {
        id: "claude-sonnet-5",
        released: "2026-06-30",
        thinking: BY_DEFAULT,
        min_cacheable_tokens: 1_024,
        system_entries: false,
        tool_prompt: (354, 474),
        ..UNBOUND
    },
    Traits {
        id: "claude-sonnet-4-6",
        released: "2026-02-17",
        thinking: EITHER,
        efforts: NO_XHIGH,
        min_cacheable_tokens: 1_024,
        system_entries: false,
        sampling: true,
        tool_prompt: (497, 589),
        ..UNBOUND
    },
    Traits {
        id: "claude-sonnet-4-5-20250929",
        alias: Some("claude-sonnet-4-5"),
        released: "2025-09-29",
        lifecycle: "deprecated",
        retires: Some("2026-11-30"),
        min_cacheable_tokens: 1_024,
        ..OLD
    },
    Traits {
        id: "claude-haiku-5-5",
        released: "2026-10-07",
        thinking: BY_DEFAULT,
        forced_tool_choice: true,
        ..RECENT
    },
    Traits {
        id: "claude-haiku-4-5-20251001",
        alias: Some("claude-haiku-4-5"),
        released: "2025-10-15",
        ..OLD
    },
];

/// A model that is not in the table: it refuses nothing.
const UNKNOWN: Traits = Traits {
    id: "",
    released: "2026-01-01",
    min_cacheable_tokens: 1_024,
    thinking: Thinking {
        adaptive: true,
        enabled: true,
        disabled: true,
        between_tools: true,
        by_default: true,
        omitted: false,
    },
    forced_tool_choice: true,
    prefill: false,
    system_entries: true,
    binds_thinking: false,
    fast: Fast::Ignored,
    ..RECENT
};

impl Traits {
    /// How the model of that specification behaves.
    pub(crate) fn of(spec: &ModelSpec) -> &'static Self {
        let known = |name: &str| {
            TABLE
                .iter()
                .find(|traits| traits.id == name || traits.alias == Some(name))
        };
        known(spec.id.as_str())
            .or_else(|| spec.aliases.iter().find_map(|alias| known(alias.as_str())))
            .unwrap_or(&UNKNOWN)
    }

    /// The product line, from the id: `opus`, `sonnet`, `haiku`.
    pub(crate) fn line(id: &str) -> &str {
        id.split('-').nth(1).unwrap_or(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    /// The facts collected about each model; the price table of the production client is tested against the
    /// same file.
    const FACTS: &str = include_str!("../../anthropic/tests/facts/anthropic-models.json");

    #[test]
    fn the_table_agrees_with_the_collected_facts() {
        let facts: Json = serde_json::from_str(FACTS).unwrap();
        let models = facts["models"].as_array().unwrap();
        assert_eq!(models.len(), TABLE.len());
        for (model, traits) in models.iter().zip(TABLE) {
            let id = model["id"].as_str().unwrap();
            assert_eq!(traits.id, id);
            assert_eq!(traits.alias, model["aliases"][0].as_str(), "{id}");
            assert_eq!(traits.released, model["released"], "{id}");
            assert_eq!(traits.lifecycle, model["lifecycle"], "{id}");
            assert_eq!(traits.retires, model["retires_at"].as_str(), "{id}");
            assert_eq!(
                traits.min_cacheable_tokens, model["min_cacheable_tokens"],
                "{id}"
            );
            let thinking = &model["thinking"];
            let accepts = |mode: &str| {
                thinking["accepted"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|accepted| accepted == mode)
            };
            let modes = &traits.thinking;
            assert_eq!(
                [
                    modes.adaptive,
                    modes.enabled,
                    modes.disabled,
                    modes.between_tools
                ],
                [
                    accepts("adaptive"),
                    accepts("enabled"),
                    accepts("disabled"),
                    accepts("between_tools")
                ],
                "{id}"
            );
            assert_eq!(
                modes.by_default,
                thinking["when_omitted"] == "adaptive",
                "{id}"
            );
            let efforts: Vec<&str> = model["effort"]["supported"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Json::as_str)
                .collect();
            assert_eq!(traits.efforts, efforts, "{id}");
            // What is unknown is refused.
            assert_eq!(
                traits.forced_tool_choice,
                model["forced_tool_choice_any_or_tool"] == true,
                "{id}"
            );
            assert_eq!(traits.prefill, model["assistant_prefill"], "{id}");
            assert_eq!(
                traits.system_entries, model["mid_conversation_system_messages"],
                "{id}"
            );
            assert_eq!(
                traits.binds_thinking,
                model["thinking_blocks_bound_to_prefix"] != "no",
                "{id}"
            );
            assert_eq!(
                traits.geo,
                !model["inference_geo_us_multiplier"].is_null(),
                "{id}"
            );
            assert_eq!(
                traits.fast == Fast::Accepted,
                model["fast_mode"]["accepted"] == true,
                "{id}"
            );
            if let Some(hidden) = model["tool_system_prompt_tokens"].as_object() {
                let tokens = (
                    hidden["auto_or_none"].as_u64().unwrap(),
                    hidden["any_or_tool"].as_u64().unwrap(),
                );
                assert_eq!(traits.tool_prompt, tokens, "{id}");
            }
        }
    }
}
