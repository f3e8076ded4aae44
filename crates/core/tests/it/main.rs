//! Tests of `otto-core` through its public face: one binary, so that it links once.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod ahead_model;
mod events;
mod journal;
mod ledger_model;
mod ledger_speed;
mod redaction;
mod support;
