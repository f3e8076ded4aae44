//! The server over real sockets on loopback, with a scripted model and a store in memory.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on fails the test"
)]

mod events;
mod hostile;
mod invocations;
mod metrics;
mod openapi;
mod rules;
mod slow;
mod sse;
mod stored;
mod world;
