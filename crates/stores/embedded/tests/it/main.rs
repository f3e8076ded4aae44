//! The embedded store against the conformance suites, damaged files, other processes and failing disks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod artifacts;
mod chain;
mod conformance;
mod contexts;
mod damage;
mod derived;
mod failure;
mod fixture;
mod processes;
mod short;
mod smoke;
mod syncs;
mod upkeep;
