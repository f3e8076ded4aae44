//! For tests of agents: a model that plays a script, without a key and without a network of your own.
//!
//! The script says what the model answers (`docs/scripted-model.md` is its reference); everything else is what
//! runs in production: HTTP over loopback, streaming, retries, budgets, tools, journal.
//!
//! Needs the feature `testing`.
//!
//! Invariant: nothing here reaches beyond the loopback address.

use std::sync::Arc;

use otto_anthropic::{AnthropicClient, AnthropicConfig, ProxySource, price_table};
use otto_core::port::llm_client::LlmClient;
use otto_scripted::{Script, ScriptErrors, ScriptedServer, ServerOptions};

pub use otto_scripted::{Billed, BilledEnding, BilledRequest, RecordedRequest};

/// A model that plays a script, and a client that calls it.
///
/// ```
/// use otto::testing::ScriptedModel;
/// use otto::{AgentBuilder, Otto};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let model = ScriptedModel::start("turns: [{ text: 'Hello, {{ task }}.' }]").await?;
/// let otto = Otto::builder()
///     .enabled(true)
///     .client(model.client())
///     .agent(AgentBuilder::new("greeter", "claude-haiku-4-5").build()?)
///     .open()
///     .await?;
/// let report = otto.agent("greeter")?.invoke("Ada").await?;
/// assert_eq!(report.text(), "Hello, Ada.");
/// assert_eq!(model.requests().len(), 1);
/// // To the picodollar: what was charged is what the model billed.
/// assert_eq!(model.billed().await.cost, report.charged);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ScriptedModel {
    server: ScriptedServer,
    client: Arc<dyn LlmClient>,
}

/// Why a scripted model could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptedModelError {
    /// The script is wrong; every problem with its line.
    #[error("read the script of the model")]
    Script(#[from] ScriptErrors),
    /// The loopback address could not be used.
    #[error("start the scripted model on the loopback address")]
    Start(#[from] std::io::Error),
    /// The client could not be made.
    #[error("make a client for the scripted model")]
    Client(#[from] otto_anthropic::ConfigError),
}

impl ScriptedModel {
    /// Starts a model that plays this script, a text of YAML. Must be called inside a Tokio runtime; it serves
    /// until it is dropped.
    ///
    /// # Errors
    /// When the script is wrong, or nothing can listen on the loopback address.
    pub async fn start(script: &str) -> Result<Self, ScriptedModelError> {
        let script = Script::parse(script, "script")?;
        let options = ServerOptions::new(Arc::new(price_table()));
        let server = ScriptedServer::start(script, options).await?;
        let client = AnthropicClient::new(AnthropicConfig {
            base_url: server
                .base_url()
                .parse()
                .expect("the server's own address is a URL"),
            // What the environment says of proxies is about another network.
            proxy: ProxySource::None,
            ..AnthropicConfig::new("scripted".to_owned().into())
        })?;
        Ok(Self {
            server,
            client: Arc::new(client),
        })
    }

    /// The client that calls it: the production client, for [`Builder::client`](crate::Builder::client).
    #[must_use]
    pub fn client(&self) -> Arc<dyn LlmClient> {
        self.client.clone()
    }

    /// Its address, for clients of your own; any key is accepted.
    #[must_use]
    pub fn base_url(&self) -> String {
        self.server.base_url()
    }

    /// The requests it got, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.requests()
    }

    /// Waits until it has been asked this many times since its start, answered or not: then something can be done in
    /// the middle of a turn.
    pub async fn asked(&self, calls: u64) {
        self.server.asked(calls).await;
    }

    /// What it billed, once it is idle.
    pub async fn billed(&self) -> Billed {
        self.server.idle().await;
        self.server.billed()
    }
}
