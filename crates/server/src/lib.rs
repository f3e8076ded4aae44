//! Otto over HTTP.
//!
//! Invocations (wait, async, as a stream of events), sessions, artifacts, usage, agents, tools, kill switch,
//! health, metrics, and the OpenAPI document that describes them. One file per resource in `routes/`.
//!
//! It decides nothing about agents: every request becomes a call of the `otto` library. TLS is left to a proxy.
//!
//! Invariant: only loopback may be bound without a token; every response that is not a success is a problem
//! document (RFC 9457) and holds no secret.

mod auth;
mod config;
mod connection;
mod descriptors;
mod metrics;
mod openapi;
mod problem;
mod routes;
mod server;
mod state;

pub use auth::{Token, TokenScope};
pub use config::{Bounds, ConfigProblem, ServerConfig};
pub use server::{Leftovers, ServeError, Server};
pub use state::{Project, Surroundings};
