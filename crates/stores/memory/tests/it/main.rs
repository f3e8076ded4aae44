//! The store in memory against the conformance suites, and its bounds.

mod conformance;
