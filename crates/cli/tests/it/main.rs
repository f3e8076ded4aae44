//! The built binary, as people and programs use it.
//!
//! Every test has a directory of its own, an empty environment and no network but the loopback listeners it
//! starts itself.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on fails the test"
)]

mod audit;
mod break_out;
mod configuration;
mod demo;
mod interrupt;
mod kill;
mod listener;
mod locked;
mod money;
mod output;
mod redact;
mod run;
mod serve;
#[path = "../../../server/tests/it/sse.rs"]
mod sse;
mod state_dir;
mod stored;
mod telemetry;
mod terminal;
mod tools;
mod usage;
mod world;
