//! The simulator's own tests: the worlds keep their rules, and the judge is awake.

#![expect(clippy::print_stdout, reason = "what a run did is told by its test")]

mod planted;
mod worlds;
