//! The keys of an agent file: one list for the loader, the JSON Schema and the documentation.

use crate::decode::Field;

/// The keys of an agent file, in the order of the documentation.
pub const AGENT_FIELDS: &[Field] = &[
    NAME,
    DESCRIPTION,
    MODEL,
    SYSTEM_PROMPT,
    SYSTEM_PROMPT_FILE,
    TOOLS,
    WORKING_DIR,
    ROOTS,
    SHARED,
    BUDGETS,
    MAX_OUTPUT_TOKENS,
    COMPACT_AT,
    TELL_LIMITS,
    ALLOWED_HOSTS,
    TOOL_SETTINGS,
];

/// The keys below `budgets`.
pub const BUDGET_FIELDS: &[Field] = &[TIME, TOKENS, COST, TURNS];

pub(crate) const NAME: Field = Field {
    name: "name",
    form: "1 to 64 of a-z, A-Z, 0-9, `-` and `_`, beginning with a letter or digit",
    meaning: "The agent's unique name, as in `otto run NAME TASK`.",
    default: "required",
    schema: r#"{"type":"string","pattern":"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}"#,
};
pub(crate) const DESCRIPTION: Field = Field {
    name: "description",
    form: "a text of at most 500 characters",
    meaning: "What the agent is for, in a line.",
    default: "empty",
    schema: r#"{"type":"string","maxLength":500}"#,
};
pub(crate) const MODEL: Field = Field {
    name: "model",
    form: "a model with a known price; `otto prices` lists them",
    meaning: "The model the agent calls.",
    default: "required",
    schema: r#"{"type":"string","minLength":1,"maxLength":128}"#,
};
pub(crate) const SYSTEM_PROMPT: Field = Field {
    name: "system_prompt",
    form: "a text of at most 256 KiB",
    meaning: "The standing instruction.",
    default: "empty",
    schema: r#"{"type":"string"}"#,
};
pub(crate) const SYSTEM_PROMPT_FILE: Field = Field {
    name: "system_prompt_file",
    form: "the path of a text file inside the project, at most 256 KiB",
    meaning: "A file that holds the standing instruction, in place of `system_prompt`.",
    default: "none",
    schema: r#"{"type":"string","minLength":1}"#,
};
pub(crate) const TOOLS: Field = Field {
    name: "tools",
    form: "a list of tool names, such as [fs.read, grep]; `otto tools` lists them",
    meaning: "The tools the agent may use. What is not listed here does not exist for it.",
    default: "none",
    schema: r#"{"type":"array","maxItems":64,"uniqueItems":true,"items":{"type":"string"}}"#,
};
pub(crate) const WORKING_DIR: Field = Field {
    name: "working_dir",
    form: "an existing directory, relative to the project directory or absolute",
    meaning: "The directory the agent may touch, as far as its tools allow.",
    default: "none: the agent touches no files",
    schema: r#"{"type":"string","minLength":1}"#,
};
pub(crate) const ROOTS: Field = Field {
    name: "roots",
    form: "names and directories, such as { src: ../lib }",
    meaning: "Read-only directories beside the working directory; the agent addresses them as `@name/...`.",
    default: "none",
    schema: r#"{"type":"object","maxProperties":16,"propertyNames":{"pattern":"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"},"additionalProperties":{"type":"string","minLength":1}}"#,
};
pub(crate) const SHARED: Field = Field {
    name: "shared",
    form: "true or false",
    meaning: "Whether other agents that also say so may have an overlapping working directory.",
    default: "false",
    schema: r#"{"type":"boolean"}"#,
};
pub(crate) const BUDGETS: Field = Field {
    name: "budgets",
    form: "a mapping of limits, such as { time: 5m, tokens: 200k, cost: $0.50, turns: 30 }",
    meaning: "The limits of each invocation. The operator's ceilings narrow them.",
    default: "the defaults below",
    schema: "",
};
pub(crate) const MAX_OUTPUT_TOKENS: Field = Field {
    name: "max_output_tokens",
    form: "a whole number above zero, at most what the model can write",
    meaning: "The most tokens the model may write in one call.",
    default: "16384, or the model's own maximum if that is less",
    schema: COUNT_SCHEMA,
};
pub(crate) const COMPACT_AT: Field = Field {
    name: "compact_at",
    form: crate::limits::COMPACTION_FORM,
    meaning: "When the history is compacted: how much of the model's context window it may fill before the model summarizes its older part, under the same budget.",
    default: "80%",
    schema: r#"{"type":"string","pattern":"^(never|[1-9][0-9]%)$"}"#,
};
pub(crate) const TELL_LIMITS: Field = Field {
    name: "tell_limits",
    form: "true or false",
    meaning: "Whether the model is told when 80 % of a limit of its invocation (cost, tokens, turns, time) is used, so that it can come to an end: once per limit, in a line behind the results of its tools.",
    default: "false",
    schema: r#"{"type":"boolean"}"#,
};
pub(crate) const ALLOWED_HOSTS: Field = Field {
    name: "allowed_hosts",
    form: "a list of host names without scheme or path, such as [example.com, \"*.example.org\"]",
    meaning: "The hosts the `http` tool may reach. The operator's list narrows them.",
    default: "none",
    schema: r#"{"type":"array","maxItems":256,"items":{"type":"string","pattern":"^(\\*\\.)?[A-Za-z0-9_.:\\[\\]-]+$"}}"#,
};
pub(crate) const TOOL_SETTINGS: Field = Field {
    name: "tool_settings",
    form: "a mapping from a tool in `tools` to its settings",
    meaning: "Settings of single tools, as each tool documents them.",
    default: "none",
    schema: r#"{"type":"object","additionalProperties":{"type":"object"}}"#,
};

pub(crate) const TIME: Field = Field {
    name: "time",
    form: crate::limits::DURATION_FORM,
    meaning: "The longest an invocation may take.",
    default: "5m",
    schema: DURATION_SCHEMA,
};
pub(crate) const TOKENS: Field = Field {
    name: "tokens",
    form: crate::limits::COUNT_FORM,
    meaning: "The most tokens, prompts and replies together, over all model calls of an invocation.",
    default: "1M",
    schema: COUNT_SCHEMA,
};
pub(crate) const COST: Field = Field {
    name: "cost",
    form: crate::limits::MONEY_FORM,
    meaning: "The most an invocation may cost.",
    default: "$1.00",
    schema: MONEY_SCHEMA,
};
pub(crate) const TURNS: Field = Field {
    name: "turns",
    form: crate::limits::TURNS_FORM,
    meaning: "The most turns of an invocation.",
    default: "50",
    schema: r#"{"type":"integer","minimum":1,"maximum":4294967295}"#,
};

pub(crate) const DURATION_SCHEMA: &str = r#"{"type":"string","pattern":"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$","minLength":2}"#;
pub(crate) const COUNT_SCHEMA: &str = r#"{"anyOf":[{"type":"integer","minimum":1,"maximum":1000000000000},{"type":"string","pattern":"^[0-9]+(\\.[0-9]+)?[kKM]?$"}]}"#;
pub(crate) const MONEY_SCHEMA: &str = r#"{"anyOf":[{"type":"number","exclusiveMinimum":0,"maximum":9000000},{"type":"string","pattern":"^\\$?[0-9]+(\\.[0-9]{1,12})?$"}]}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{show_count, show_duration};
    use otto_core::agent::DEFAULTS;

    #[test]
    fn documented_defaults_are_the_real_ones() {
        assert_eq!(TIME.default, show_duration(DEFAULTS.time));
        assert_eq!(TOKENS.default, show_count(DEFAULTS.tokens));
        assert_eq!(COST.default, DEFAULTS.cost.to_string());
        assert_eq!(TURNS.default, DEFAULTS.turns.to_string());
        assert!(
            MAX_OUTPUT_TOKENS
                .default
                .starts_with(&DEFAULTS.max_output_tokens.to_string())
        );
        assert_eq!(
            crate::limits::parse_compaction(COMPACT_AT.default),
            Ok(Some(otto_core::compaction::CompactionRule::DEFAULT))
        );
    }
}
