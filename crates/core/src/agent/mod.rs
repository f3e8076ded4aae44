//! Agents as data: a named, configured role.
//!
//! What stands here has been validated; text becomes these types once, in the `otto` crate's loader.
//!
//! Invariant: an `AgentConfig` that exists is valid.

mod budgets;
mod config;

pub use budgets::{Budgets, Limit, Origin};
pub use config::{AgentConfig, DEFAULTS, Defaults, Root};
