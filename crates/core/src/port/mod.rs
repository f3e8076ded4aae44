//! The contracts that the outside implements. Traits and plain data only.
//!
//! Invariant: no type of a vendor, a database or an HTTP library appears here.

pub mod contexts;
pub mod llm_client;
pub mod store;
pub mod tool;
pub mod tool_host;

use std::future::Future;
use std::pin::Pin;

/// A boxed future, so that the ports can be used as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
