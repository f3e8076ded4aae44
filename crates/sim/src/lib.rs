//! A world in a seed: simulator, fault injection, invariants and conformance suites.

pub mod conformance;
