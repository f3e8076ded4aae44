//! From JSON text to a typed input or typed settings, with errors that a model (or an operator) can act on.
//!
//! Invariant: an unknown field is an error, never ignored.

use otto_sandbox::{ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;

// BOUND: a whole file of the largest size that `fs.write` takes, with every character escaped.
const MAX_INPUT_BYTES: usize = 32 * 1024 * 1024;

/// Checks an input; see [`crate::base_tool::BaseTool::check`].
pub(crate) fn check<I: DeserializeOwned>(input: &str) -> Result<(), ToolFailure> {
    parse::<I>(input).map(drop)
}

/// Checks settings; see [`crate::base_tool::BaseTool::check_settings`].
pub(crate) fn check_settings<S: DeserializeOwned>(settings: &str) -> Result<(), ToolFailure> {
    parse_settings::<S>(Some(settings)).map(drop)
}

/// Parses input and settings and runs `tool` with them.
pub(crate) fn run<I: DeserializeOwned, S: DeserializeOwned, A: Into<WorkerAnswer>>(
    ctx: &WorkerCtx,
    request: &WorkerRequest,
    tool: fn(&WorkerCtx, I, S) -> Result<A, ToolFailure>,
) -> WorkerAnswer {
    let answer = parse(&request.input).and_then(|input| {
        let settings = parse_settings(request.settings.as_deref())?;
        tool(ctx, input, settings)
    });
    match answer {
        Ok(answer) => answer.into(),
        Err(failure) => WorkerAnswer::Failed(failure),
    }
}

pub(crate) fn parse<I: DeserializeOwned>(input: &str) -> Result<I, ToolFailure> {
    if input.len() > MAX_INPUT_BYTES {
        let message = format!(
            "the input has {} bytes, more than the limit of {MAX_INPUT_BYTES}",
            input.len()
        );
        return Err(ToolFailure::for_model(message));
    }
    // Some models send nothing at all for an input without required fields.
    let input = if input.trim().is_empty() { "{}" } else { input };
    serde_json::from_str(input)
        .map_err(|error| ToolFailure::for_model(format!("the input is not valid: {error}")))
}

pub(crate) fn parse_settings<S: DeserializeOwned>(
    settings: Option<&str>,
) -> Result<S, ToolFailure> {
    serde_json::from_str(settings.unwrap_or("{}")).map_err(|error| {
        ToolFailure::for_operator(format!("the settings of the tool are not valid: {error}"))
    })
}

/// One text or a list of texts; models write both.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
        .iter()
        .map(String::as_str)
    }
}
