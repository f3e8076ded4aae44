//! Traces and metrics to an OpenTelemetry receiver: OTLP over HTTP in its JSON encoding.
//!
//! An exporter of our own, because the protocol is small and documented, and the client is the one the provider
//! uses anyway: the OpenTelemetry crates would add some forty crates and a thread that exports in its own way.
//! Source: OTLP specification 1.9, `opentelemetry/proto` JSON mapping (ids in hexadecimal, 64-bit numbers as
//! texts).
//!
//! Invariant: it never holds an invocation up and never grows: spans that cannot be sent are dropped at
//! `MAX_WAITING`, and the component `telemetry_exporter` says so.

mod config;
mod encode;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otto_engine::spans::{FinishedSpan, SpanSink};
use otto_engine::{Child, Condition, RestartRule, WeakEngine};
use reqwest::{Client, StatusCode, redirect};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::{InvalidOtlp, OtlpConfig};

/// The component's name.
const NAME: &str = "telemetry_exporter";
/// BOUND: spans that wait to be sent.
const MAX_WAITING: usize = 8_192;
/// BOUND: spans of one request.
const BATCH: usize = 512;
/// How often spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last requests may take when Otto ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Spans that wait, shared by the invocations and the exporter.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    spans: Mutex<VecDeque<FinishedSpan>>,
}

impl SpanSink for Waiting {
    fn take(&self, span: FinishedSpan) {
        let mut spans = self.lock();
        // The newest goes: what is older may be the parent of what was sent.
        if spans.len() < MAX_WAITING {
            spans.push_back(span);
        }
    }
}

impl Waiting {
    fn batch(&self) -> Vec<FinishedSpan> {
        let mut spans = self.lock();
        let count = spans.len().min(BATCH);
        spans.drain(..count).collect()
    }

    fn give_back(&self, batch: Vec<FinishedSpan>) {
        let mut spans = self.lock();
        for span in batch.into_iter().rev() {
            if spans.len() < MAX_WAITING {
                spans.push_front(span);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.lock().len() >= MAX_WAITING
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<FinishedSpan>> {
        // Spans go in and out whole, so a poisoned queue is still a correct queue.
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The supervised task that sends.
pub(crate) fn child(
    config: Arc<OtlpConfig>,
    provider: Arc<str>,
    waiting: Arc<Waiting>,
    engine: WeakEngine,
) -> Child {
    Child::new(NAME, RestartRule::INFRASTRUCTURE, move |stop| {
        let exporter = Exporter {
            config: config.clone(),
            provider: provider.clone(),
            waiting: waiting.clone(),
            engine: engine.clone(),
            started: SystemTime::now(),
            client: OnceCell::new(),
        };
        Box::pin(exporter.run(stop))
    })
}

struct Exporter {
    config: Arc<OtlpConfig>,
    provider: Arc<str>,
    waiting: Arc<Waiting>,
    engine: WeakEngine,
    started: SystemTime,
    client: OnceCell<Client>,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("set up the client")]
    Client(#[source] reqwest::Error),
    #[error("reach the receiver")]
    Unreachable(#[source] reqwest::Error),
    #[error("the receiver answered {0}")]
    Refused(StatusCode),
}

impl SendError {
    /// Whether the same request may be taken later (OTLP specification, "Retryable response codes").
    fn is_transient(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Unreachable(_) => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

impl Exporter {
    async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SPANS_EVERY.min(self.config.metrics_every));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut metrics_due = Instant::now() + self.config.metrics_every;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let mut sent = self.send_spans().await;
            if Instant::now() >= metrics_due {
                metrics_due = Instant::now() + self.config.metrics_every;
                sent = sent.and(self.send_metrics().await);
            }
            if !self.report(sent) {
                return;
            }
        }
        let last = async {
            // What is not sent now is lost with the process, as the log still has it.
            let _ = self.send_spans().await;
            let _ = self.send_metrics().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }

    /// Tells how it went; says whether Otto is still there.
    fn report(&self, sent: Result<(), SendError>) -> bool {
        let Some(engine) = self.engine.upgrade() else {
            return false;
        };
        let condition = match sent {
            Ok(()) => Condition::Ready,
            Err(error) => {
                let dropping = if self.waiting.is_full() {
                    "; spans are dropped"
                } else {
                    ""
                };
                Condition::degraded(&format!(
                    "send telemetry to {}: {error}{dropping}",
                    self.config.shown()
                ))
            }
        };
        engine.component_health().report(NAME, condition);
        true
    }

    async fn send_spans(&self) -> Result<(), SendError> {
        loop {
            let batch = self.waiting.batch();
            if batch.is_empty() {
                return Ok(());
            }
            let is_last = batch.len() < BATCH;
            let body = encode::traces(&self.config.service, &batch);
            if let Err(error) = self.post("v1/traces", body.to_string()).await {
                if error.is_transient() {
                    self.waiting.give_back(batch);
                }
                return Err(error);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send_metrics(&self) -> Result<(), SendError> {
        let Some(engine) = self.engine.upgrade() else {
            return Ok(());
        };
        // A store that cannot be read is told of by its own component.
        let Ok(families) = engine.metrics().await else {
            return Ok(());
        };
        let window = (nanos(self.started), nanos(SystemTime::now()));
        let body = encode::metrics(&self.config.service, &self.provider, &families, window);
        self.post("v1/metrics", body.to_string()).await
    }

    async fn post(&self, path: &str, body: String) -> Result<(), SendError> {
        let client = self.client.get_or_try_init(|| async {
            Client::builder()
                .redirect(redirect::Policy::none())
                .timeout(TIMEOUT)
                .build()
                .map_err(SendError::Client)
        });
        let mut request = client
            .await?
            .post(self.config.url(path))
            .header("content-type", "application/json")
            .body(body);
        for (name, value) in &self.config.headers {
            request = request.header(name, value.expose_secret());
        }
        // The address may hold what a log should not.
        let response = request
            .send()
            .await
            .map_err(|error| SendError::Unreachable(error.without_url()))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(SendError::Refused(response.status()))
        }
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
