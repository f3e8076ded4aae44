//! The server as a client meets it: over real sockets, byte by byte.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod billing;
mod caching;
mod client;
mod demo;
mod docs;
mod faults;
mod many;
mod models;
mod production;
mod protocol;
mod refusals;
mod summaries;
mod templates;
mod thinking;
