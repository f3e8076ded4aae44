//! Tests of `otto-core` through its public face: one binary, so that it links once.

mod ledger_model;
mod ledger_speed;
mod support;
