//! The way in: headers, JSON, fields, model. What comes out of here is a request the vendor would take.

use std::sync::Arc;

use hyper::HeaderMap;
use otto_core::ModelId;
use otto_core::model::ModelSpec;
use serde_json::Value as Json;

use super::State;
use super::caller::Caller;
use super::options::UnknownModels;
use crate::digest::{Digest, short_hash};
use crate::error::ApiError;
use crate::models::Traits;
use crate::prompt::Measure;
use crate::request::{Endpoint, Request, check_model, read};

/// A request that passed all checks but those of its size and its thinking.
pub(super) struct Accepted<'a> {
    pub(super) request: Request<'a>,
    pub(super) spec: Arc<ModelSpec>,
    pub(super) traits: &'static Traits,
    caller: Caller,
}

/// Parses a body.
///
/// # Errors
/// A 400 that says where it is not JSON.
pub(super) fn parse(body: &[u8]) -> Result<Json, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let lines = body.split_inclusive(|byte| *byte == b'\n');
        let before: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        ApiError::invalid(format!(
            "The request body is not valid JSON: {reason}: line {line} column {column} (char {})",
            before + column.saturating_sub(1)
        ))
    })
}

/// Checks a request.
///
/// # Errors
/// The answer of the vendor to what is wrong with it.
pub(super) fn accept<'a>(
    state: &State,
    headers: &HeaderMap,
    body: &'a Json,
    endpoint: Endpoint,
) -> Result<Accepted<'a>, ApiError> {
    let caller = Caller::read(headers, &state.options.keys)?;
    let request = read(body, endpoint, caller.version)?;
    let known = ModelId::new(request.model)
        .ok()
        .and_then(|id| state.options.prices.find(&id).cloned());
    let spec = match (known, &state.options.unknown_models) {
        (Some(spec), _) => spec,
        (None, UnknownModels::As(spec)) => Arc::clone(spec),
        (None, UnknownModels::Refuse) => return Err(ApiError::no_model(request.model)),
    };
    let traits = Traits::of(&spec);
    check_model(&request, &spec, traits, caller.version)?;
    Ok(Accepted {
        request,
        spec,
        traits,
        caller,
    })
}

/// Answers `POST /v1/messages/count_tokens`.
pub(super) fn count(state: &State, headers: &HeaderMap, body: &Json) -> Result<u64, ApiError> {
    let accepted = accept(state, headers, body, Endpoint::CountTokens)?;
    let prompt = accepted.measure(state, false).of(&accepted.request)?;
    Ok(prompt.tokens)
}

impl Accepted<'_> {
    /// How its prompt is measured; `digest` says whether the digest of the whole prompt is wanted.
    pub(super) fn measure(&self, state: &State, digest: bool) -> Measure<'_> {
        Measure {
            spec: &self.spec,
            traits: self.traits,
            tokenizer: state.options.tokenizer,
            account: self.caller.account,
            digest,
        }
    }

    /// What the attempts of a request are counted by.
    pub(super) fn attempt_key(&self, prompt: Digest) -> Digest {
        let user = self.request.user_id.unwrap_or_default();
        let mut key = prompt.to_vec();
        key.extend_from_slice(&self.caller.account.to_le_bytes());
        key.extend_from_slice(
            format!("{} {user} {}", self.request.model, self.request.stream).as_bytes(),
        );
        short_hash(&key)
    }
}
