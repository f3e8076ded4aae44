//! The client: what all calls to the provider share.
//!
//! Holds the connection pool, the circuit breaker and the encoded tool sets. A call is described in
//! `call.rs`; nothing is sent before its stream is polled.
//!
//! Invariant: the key is in one header value marked as sensitive and in the masker, and nowhere else.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use otto_core::invocation::ToolFacts;
use otto_core::model::PriceTable;
use otto_core::port::llm_client::{LlmClient, ModelCall, ModelStream};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use url::Url;

use crate::breaker::{Admission, CircuitBreaker};
use crate::call::Call;
use crate::codec::{EncodeError, EncodeOptions, WireTools};
use crate::config::{AnthropicConfig, ConfigError};
use crate::http::Http;
use crate::mask::Masker;
use crate::prices::shared_price_table;

/// Version of the API.
///
/// Source: the vendor's versioning page; the newest one, in which sampling fields are gone.
const API_VERSION: &str = "2026-10-21";

/// Encoded tool sets kept.
// BOUND: agents that run at the same time rarely have more different sets; another set is encoded again.
const MAX_TOOL_SETS: usize = 32;

/// A client of the Messages API.
///
/// # Example
/// ```
/// use otto_anthropic::{AnthropicClient, AnthropicConfig};
/// use otto_core::port::llm_client::LlmClient;
///
/// let client = AnthropicClient::new(AnthropicConfig::new("sk-ant-example".into()))?;
/// assert!(client.prices().version.starts_with("anthropic "));
/// # Ok::<(), otto_anthropic::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AnthropicClient {
    shared: Arc<Shared>,
}

impl AnthropicClient {
    /// Makes a client. No connection is opened and no certificate is read yet.
    ///
    /// # Errors
    /// When the configuration cannot work or would send the key unencrypted.
    pub fn new(config: AnthropicConfig) -> Result<Self, ConfigError> {
        config.check_limits()?;
        let prices = config
            .prices
            .clone()
            .unwrap_or_else(|| shared_price_table(config.residency));
        let shared = Shared {
            endpoint: config.endpoint()?,
            headers: headers(config.key_header()?),
            masker: Masker::new(config.key.clone()),
            http: Http::new(&config)?,
            options: EncodeOptions {
                residency: config.residency,
                thinking_display: config.thinking_display,
            },
            idle_timeout: config.idle_timeout,
            thinking_timeout: config.thinking_timeout,
            breaker: Arc::new(SharedBreaker::new(CircuitBreaker::new(config.breaker))),
            prices,
            tools: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl LlmClient for AnthropicClient {
    fn prices(&self) -> Arc<PriceTable> {
        self.shared.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        Box::pin(Call::new(self.shared.clone(), call))
    }
}

/// What all calls share.
pub(crate) struct Shared {
    pub endpoint: Url,
    pub headers: HeaderMap,
    pub masker: Masker,
    pub http: Http,
    pub options: EncodeOptions,
    pub idle_timeout: Duration,
    pub thinking_timeout: Duration,
    pub breaker: Arc<SharedBreaker>,
    prices: Arc<PriceTable>,
    /// The most recently used last.
    tools: Mutex<VecDeque<Arc<WireTools>>>,
}

impl Shared {
    /// The encoding of a set of tools, made once while the set is in use.
    pub(crate) fn wire_tools(&self, facts: &[ToolFacts]) -> Result<Arc<WireTools>, EncodeError> {
        let mut sets = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sets.iter().rposition(|set| set.is_for(facts)) {
            let set = sets[at].clone();
            if at + 1 < sets.len() {
                sets.remove(at);
                sets.push_back(set.clone());
            }
            return Ok(set);
        }
        let set = Arc::new(WireTools::new(facts)?);
        if sets.len() == MAX_TOOL_SETS {
            sets.pop_front();
        }
        sets.push_back(set.clone());
        Ok(set)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("endpoint", &self.endpoint.as_str())
            .finish_non_exhaustive()
    }
}

fn headers(key: HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-api-key"), key);
    headers.insert(
        HeaderName::from_static("anthropic-version"),
        HeaderValue::from_static(API_VERSION),
    );
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("text/event-stream, application/json"),
    );
    // A compressed stream would be a bomb to guard against, and events would wait for each other.
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("otto/", env!("CARGO_PKG_VERSION"))),
    );
    headers
}

/// The circuit breaker with its clock.
#[derive(Debug)]
pub(crate) struct SharedBreaker {
    machine: Mutex<CircuitBreaker>,
    origin: Instant,
}

impl SharedBreaker {
    pub(crate) fn new(machine: CircuitBreaker) -> Self {
        Self {
            machine: Mutex::new(machine),
            origin: Instant::now(),
        }
    }

    /// A ticket for one call or, while the circuit is open, how long to wait and after how many failures.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Ticket, (Duration, u32)> {
        let (admission, failures) =
            self.with(|machine, now| (machine.admit(now), machine.failures()));
        match admission {
            Admission::Refused { retry_after } => Err((retry_after, failures)),
            Admission::Allowed | Admission::Probe(_) => Ok(Ticket {
                breaker: self.clone(),
                admission,
                is_settled: false,
            }),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut CircuitBreaker, Duration) -> T) -> T {
        let now = self.origin.elapsed();
        act(
            &mut self.machine.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        )
    }
}

/// The right to make one call. Tells the breaker how it went; dropped, that nothing is known.
#[derive(Debug)]
pub(crate) struct Ticket {
    breaker: Arc<SharedBreaker>,
    admission: Admission,
    is_settled: bool,
}

impl Ticket {
    /// The provider answered; how the reply goes on is not known yet.
    pub(crate) fn answered(&self) {
        self.breaker
            .with(|machine, _| machine.answered(self.admission));
    }

    /// The reply ended well.
    pub(crate) fn finished(mut self) {
        self.is_settled = true;
        self.breaker
            .with(|machine, _| machine.finished(self.admission));
    }

    /// The provider is down, as far as this call can tell.
    pub(crate) fn failed(mut self) {
        self.is_settled = true;
        self.breaker
            .with(|machine, now| machine.failed(self.admission, now));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            self.breaker
                .with(|machine, now| machine.abandoned(self.admission, now));
        }
    }
}
