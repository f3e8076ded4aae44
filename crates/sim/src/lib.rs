//! A world in a seed: simulator, fault injection, invariants and conformance suites.
//!
//! [`run`] drives the real invocation machine, the real ledger and the real journal codec through made-up
//! worlds in which everything goes wrong that can: each seed draws who appears, which faults exist, and when
//! they strike. An oracle that was written from the rules checks them after every step. [`conformance`] holds
//! the suites that define what a port means.
//!
//! Tests only: nothing of Otto depends on it.
//!
//! Invariant: a seed gives the same world for ever; whatever fails can be seen again.

mod chance;
pub mod conformance;
mod faults;
mod oracle;
mod planted;
mod provider;
mod rule;
mod run;
mod trace;
mod world;

pub use faults::FaultKind;
pub use planted::PlantedFault;
pub use rule::Rule;
pub use run::{Options, Summary, Violation, find_violation, run};
