//! `/v1/redact`: what redaction makes of a text. It keeps nothing of it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extract::Body;
use super::{INVOKE, Route};
use crate::state::AppState;

pub(super) fn routes() -> Vec<Route> {
    vec![
        // Not for readers: the answer tells whether a guess is a secret.
        Route::post("/v1/redact", INVOKE, "test_redaction", test)
            .summary("What a text becomes with the patterns in force, and by which rules")
            .takes::<Test>()
            .answers::<RedactedView>(StatusCode::OK, "The text after redaction."),
    ]
}

/// A text to try.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RedactionTest")]
struct Test {
    text: String,
}

/// A text after redaction.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Redacted")]
struct RedactedView {
    text: String,
    /// How often each rule masked something.
    masked: BTreeMap<String, usize>,
}

async fn test(State(state): State<AppState>, Body(body): Body<Test>) -> Json<RedactedView> {
    let redacted = state.otto.redact(&body.text);
    Json(RedactedView {
        text: redacted.text,
        masked: redacted.masked,
    })
}
