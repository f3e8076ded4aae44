//! The Anthropic Messages protocol: codec, client and price table.
//!
//! [`codec`] is pure: bytes to model events and requests to bytes, without a clock or a socket. The
//! [`AnthropicClient`] puts it on a connection: one attempt per call, streaming always, every wait bounded,
//! every failure typed and free of secrets. [`price_table`] is what the vendor charges.
//!
//! This crate does not retry (the invocation machine owns that), does not log, does not read the environment
//! except for the proxy variables that the HTTP library honors, and does not decide about tools.
//!
//! Invariant: a model event means the same however the network cut the bytes, and a tool call is confirmed
//! only when the stream has proven that it was not cut off.

mod breaker;
mod call;
mod client;
pub mod codec;
mod config;
mod failure;
mod http;
mod mask;
mod prices;
mod retry_after;
mod stream;
mod usage_export;
mod watchdog;

pub use breaker::{Admission, BreakerConfig, CircuitBreaker};
pub use client::AnthropicClient;
pub use config::{
    AnthropicConfig, ConfigError, DataResidency, Plaintext, ProxySource, ThinkingDisplay,
};
pub use prices::{MODELS, ModelFacts, ThinkingDefault, facts, price_table, price_table_for};
pub use retry_after::parse_retry_after;
pub use usage_export::{Export, ExportError, ExportForm, Exported, NO_MODEL, read_export};
