//! Integration tests of the provider: recorded streams cut everywhere, replies that break every rule, and
//! the client against a server that misbehaves on purpose. Loopback only.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod calls;
mod coverage;
mod price_facts;
mod replies;
mod requests;
mod server;
mod streams;
mod world;
