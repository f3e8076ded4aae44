//! The simulator's own tests: the worlds keep their rules, and the judge is awake.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what a run did is told by its test"
)]

mod contexts;
mod engine;
mod planted;
mod worlds;
