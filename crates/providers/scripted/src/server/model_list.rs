//! `GET /v1/models` and `GET /v1/models/{id}`.
//!
//! Source: protocol reference, section 12.1 (2026-11-22).

use hyper::HeaderMap;
use otto_core::ModelId;
use otto_core::model::ModelSpec;
use serde_json::{Value as Json, json};

use super::State;
use super::caller::Caller;
use crate::error::ApiError;
use crate::models::Traits;

const DEFAULT_LIMIT: usize = 20;
const MOST: usize = 1_000;

/// One model.
pub(super) fn one(state: &State, headers: &HeaderMap, id: &str) -> Result<String, ApiError> {
    Caller::read(headers, &state.options.keys)?;
    let spec = ModelId::new(id)
        .ok()
        .and_then(|id| state.options.prices.find(&id).cloned());
    let spec = spec.ok_or_else(|| ApiError::no_model(id))?;
    Ok(entry(&spec).to_string())
}

/// A page of models, newest first.
pub(super) fn list(state: &State, headers: &HeaderMap, query: &str) -> Result<String, ApiError> {
    Caller::read(headers, &state.options.keys)?;
    let query = Query::read(query)?;
    let mut specs: Vec<_> = state.options.prices.models().collect();
    specs.retain(|spec| {
        query.lifecycles.is_empty()
            || query
                .lifecycles
                .iter()
                .any(|wanted| wanted == Traits::of(spec).lifecycle)
    });
    specs.sort_by_key(|spec| std::cmp::Reverse(Traits::of(spec).released));
    let position = |id: &Option<String>| {
        id.as_ref()
            .and_then(|id| specs.iter().position(|spec| spec.id.as_str() == id))
    };
    let (page, has_more) = match (position(&query.after), position(&query.before)) {
        (Some(after), _) => first(&specs[after + 1..], query.limit),
        (None, Some(before)) => {
            let start = before.saturating_sub(query.limit);
            (&specs[start..before], start > 0)
        }
        (None, None) => first(&specs, query.limit),
    };
    let id = |spec: Option<&&std::sync::Arc<ModelSpec>>| spec.map(|spec| spec.id.to_string());
    Ok(json!({
        "data": page.iter().map(|spec| entry(spec)).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": id(page.first()),
        "last_id": id(page.last()),
    })
    .to_string())
}

fn first<T>(list: &[T], limit: usize) -> (&[T], bool) {
    (&list[..limit.min(list.len())], list.len() > limit)
}

struct Query {
    limit: usize,
    after: Option<String>,
    before: Option<String>,
    lifecycles: Vec<String>,
}

impl Query {
    fn read(text: &str) -> Result<Self, ApiError> {
        let mut query = Self {
            limit: DEFAULT_LIMIT,
            after: None,
            before: None,
            lifecycles: Vec::new(),
        };
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            // Clients send the brackets of `lifecycle[]` encoded or plain; ids and words hold no other such characters.
            match name.replace("%5B", "[").replace("%5D", "]").as_str() {
                "limit" => match value.parse() {
                    Ok(limit @ 1..=MOST) => query.limit = limit,
                    _ => {
                        return Err(ApiError::invalid(format!(
                            "limit: Input should be a number from 1 to {MOST}"
                        )));
                    }
                },
                "after_id" => query.after = Some(value.to_owned()),
                "before_id" => query.before = Some(value.to_owned()),
                "lifecycle[]" | "lifecycle" => query.lifecycles.push(value.to_owned()),
                _ => {}
            }
        }
        if query.lifecycles.is_empty() {
            query.lifecycles = vec!["active".to_owned(), "deprecated".to_owned()];
        }
        Ok(query)
    }
}

fn entry(spec: &ModelSpec) -> Json {
    let traits = Traits::of(spec);
    let supported = |value: bool| json!({ "supported": value });
    let effort = |level: &str| supported(traits.efforts.contains(&level));
    json!({
        "type": "model",
        "id": spec.id.as_str(),
        "display_name": spec.id.as_str(),
        "created_at": format!("{}T00:00:00Z", traits.released),
        "lifecycle": traits.lifecycle,
        "deprecated_at": null,
        "retires_at": traits.retires.map(|day| format!("{day}T00:00:00Z")),
        "line": Traits::line(spec.id.as_str()),
        "max_input_tokens": spec.context_window,
        "max_tokens": spec.max_output_tokens,
        "capabilities": {
            "batch": supported(false),
            "citations": supported(false),
            "code_execution": supported(false),
            "context_management": supported(false),
            "effort": {
                "supported": !traits.efforts.is_empty(),
                "low": effort("low"), "medium": effort("medium"), "high": effort("high"),
                "xhigh": effort("xhigh"), "max": effort("max"),
            },
            "image_input": supported(true),
            "pdf_input": supported(true),
            "server_tools": supported(false),
            "structured_outputs": supported(false),
            "thinking": {
                "supported": true,
                "types": {
                    "adaptive": supported(traits.thinking.adaptive),
                    "between_tools": supported(traits.thinking.between_tools),
                    "disabled": supported(traits.thinking.disabled),
                    "enabled": supported(traits.thinking.enabled),
                },
            },
        },
    })
}
