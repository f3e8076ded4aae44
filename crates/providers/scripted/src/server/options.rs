//! What can be chosen about a server.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otto_core::Timestamp;
use otto_core::model::{ModelSpec, PriceTable};

use crate::tokens::Tokenizer;

/// Options of a [`ScriptedServer`](crate::ScriptedServer).
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen: a loopback address. Port 0 takes a free one.
    pub address: SocketAddr,
    /// The models it knows and what they cost.
    pub prices: Arc<PriceTable>,
    /// What to do with a model that is not among them.
    pub unknown_models: UnknownModels,
    /// How tokens are counted.
    pub tokenizer: Tokenizer,
    /// Decides ids and the faults that have a chance. Equal seeds and equal requests give equal answers.
    pub seed: u64,
    /// Wait before each answer, besides what the script asks for.
    pub latency: Duration,
    /// What the prompt cache's lifetimes are measured by.
    pub clock: Clock,
    /// Which keys are accepted.
    pub keys: AcceptedKeys,
    /// How many requests are kept for inspection, at most 64 MiB of bodies in all.
    pub recorded_requests: usize,
}

impl ServerOptions {
    /// The usual options: any free port of 127.0.0.1, any key, no latency, the last 256 requests kept.
    #[must_use]
    pub fn new(prices: Arc<PriceTable>) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            prices,
            unknown_models: UnknownModels::Refuse,
            tokenizer: Tokenizer::default(),
            seed: 0,
            latency: Duration::ZERO,
            clock: Clock::system(),
            keys: AcceptedKeys::Any,
            recorded_requests: 256,
        }
    }
}

/// What happens to a request for a model that is not in the price table.
#[derive(Debug, Clone)]
pub enum UnknownModels {
    /// 404, as the vendor does.
    Refuse,
    /// It is treated and priced as this one.
    As(Arc<ModelSpec>),
}

/// Which keys are accepted.
#[derive(Clone)]
pub enum AcceptedKeys {
    /// Any that is not empty.
    Any,
    /// This one; others get a 401.
    Only(String),
}

impl fmt::Debug for AcceptedKeys {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "Any",
            Self::Only(_) => "Only(..)",
        })
    }
}

/// A clock: the machine's, or one that a test moves.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it. Clones move together.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.micros()))))
    }

    /// Moves a manual clock forward; does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(micros) = &self.0 {
            micros.fetch_add(
                u64::try_from(by.as_micros()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::Relaxed)),
            Source::System => {
                let since = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Timestamp::EPOCH.after(since)
            }
        }
    }
}
