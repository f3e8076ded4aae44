//! The host: Otto's side of the boundary. It starts workers on first use, keeps them warm, gives each call
//! to one of them, and treats what comes back as hostile.
//!
//! A worker belongs to one agent and one grant and is never shared. A call that ends early, for whatever
//! reason, costs the worker its life: dropping the stream is what kills it.
//!
//! No call runs before the self-test has passed (see [`crate::probe`]); when an attack succeeded, none ever
//! does.

mod config;
mod connection;
pub(crate) mod exec;
mod inner;
mod pins;
mod pool;
mod run;

pub use config::{ExecPolicy, HostConfig, LevelChoice};
pub use pins::PinError;
pub use run::WorkerHost;

pub(crate) use connection::{CallError, Connection};
pub(crate) use inner::Inner as WorkerHostInner;
pub(crate) use pins::Pins;
pub(crate) use pool::{Key, Pool};
