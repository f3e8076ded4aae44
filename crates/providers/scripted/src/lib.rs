//! A model without a network: a loopback server that speaks the Anthropic Messages protocol and plays scripts.
//!
//! It exists so that exactly the production client is exercised, offline and without a key: by `otto demo`, by
//! `otto sim`, by tests of agents, and by benchmarks. It checks requests as the vendor does, with the vendor's
//! error texts; it accounts for the prompt cache; it binds thinking to its prefix; it knows what it billed,
//! also for streams that nobody read to the end; and it breaks in any way a script asks for.
//!
//! It keeps no conversations. Which turn answers a request follows from the request alone, so clients may be
//! killed, may retry, and may come by the thousand.
//!
//! What it deliberately does not do: it is not a model. It never reads what it is told except through the
//! expressions of its script, and it listens on the loopback address only.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//! use otto_core::model::PriceTable;
//! use otto_scripted::{Script, ScriptedServer, ServerOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let script = Script::parse("turns: [{ text: 'You asked: {{ task }}' }]", "hello.yml")?;
//! let prices = Arc::new(PriceTable::new("none", []));
//! let server = ScriptedServer::start(script, ServerOptions::new(prices)).await?;
//! assert!(server.base_url().starts_with("http://127.0.0.1:"));
//! server.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod cache;
mod compose;
mod demo;
mod digest;
mod error;
mod expr;
mod history;
mod ids;
mod limits;
mod locate;
mod models;
mod place;
mod prompt;
mod render;
mod request;
mod script;
mod server;
mod signature;
mod tokens;

use std::borrow::Cow;

pub use demo::{DEMO_SCRIPT, demo_script};
pub use script::{Script, ScriptError, ScriptErrors};
pub use server::{
    AcceptedKeys, Billed, BilledEnding, BilledRequest, Clock, RecordedRequest, ScriptedServer,
    ServerOptions, Stats, UnknownModels,
};
pub use tokens::Tokenizer;

/// A tool's name as it travels: the vendor's pattern has no dots, so `fs.read` goes as `fs_read`.
pub(crate) fn wire_name(name: &str) -> Cow<'_, str> {
    if name.contains('.') {
        Cow::Owned(name.replace('.', "_"))
    } else {
        Cow::Borrowed(name)
    }
}
