//! Proof that the confinement holds here and now: before the first call of a tool, workers of every kind are
//! started the way production starts them and asked to break out.
//!
//! Feature bits prove nothing: there are hosts on which a namespace can be made and is powerless, and
//! libraries that report success on a kernel that enforces nothing. So the level is what was tried and held.
//! Each kind also has to be able to do what it is for; a sandbox that refuses everything would otherwise
//! look perfect.
//!
//! Invariant: one attack that succeeds, or one control that fails, and no tool runs in this process.

pub(crate) mod attacks;
mod doctor;
mod fixes;
mod proof;
mod scene;
mod steps;

pub use doctor::{Check, DoctorReport, Expectation, Mechanism};
pub(crate) use proof::{Proof, prove};
