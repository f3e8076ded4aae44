//! The loopback server: listening, connections, shutdown.
//!
//! One Tokio task accepts and owns the tasks of all connections; dropping the server or shutting it down ends
//! them. Everything that is decided about a request is decided in `plan`, without awaiting.
//!
//! Invariant: nothing listens on an address other than loopback.

mod accept;
mod attempts;
mod bill;
mod body;
mod caller;
mod connection;
mod model_list;
mod options;
mod plan;
mod requests;
mod route;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

pub use bill::{Billed, BilledEnding, BilledRequest};
pub use options::{AcceptedKeys, Clock, ServerOptions, UnknownModels};
pub use requests::RecordedRequest;

use attempts::Attempts;
use bill::BillBook;
use requests::RequestLog;

use crate::cache::PromptCache;
use crate::ids::IdMaker;
use crate::limits;
use crate::script::Script;

/// A running server. Ends when it is dropped or shut down.
#[derive(Debug)]
pub struct ScriptedServer {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    accepting: JoinHandle<()>,
}

/// What all connections share.
struct State {
    script: Script,
    options: ServerOptions,
    ids: IdMaker,
    cache: PromptCache,
    attempts: Attempts,
    bills: BillBook,
    requests: RequestLog,
    counts: Counts,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("script", &self.script.name())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counts {
    connections: std::sync::atomic::AtomicU64,
    requests: std::sync::atomic::AtomicU64,
    refused: std::sync::atomic::AtomicU64,
    faults: std::sync::atomic::AtomicU64,
}

/// What a server has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests received, of any kind.
    pub requests: u64,
    /// Requests answered with an error that no script asked for.
    pub refused: u64,
    /// Faults a script asked for.
    pub faults: u64,
    /// Model calls whose answer is still being made or sent.
    pub open: u64,
}

impl ScriptedServer {
    /// Starts a server on the current Tokio runtime.
    ///
    /// # Errors
    /// When `options.address` is not a loopback address, or cannot be bound.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn start(script: Script, options: ServerOptions) -> io::Result<Self> {
        if !options.address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "start a scripted model on {}: expected a loopback address such as 127.0.0.1, because it accepts any key",
                    options.address
                ),
            ));
        }
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            ids: IdMaker::new(options.seed),
            cache: PromptCache::new(),
            attempts: Attempts::new(),
            bills: BillBook::new(),
            requests: RequestLog::new(options.recorded_requests),
            counts: Counts::default(),
            script,
            options,
        });
        let (stop, stopped) = oneshot::channel();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state), stopped));
        Ok(Self {
            address,
            state,
            stop: Some(stop),
            accepting,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.state.counts;
        Stats {
            connections: counts.connections.load(Ordering::Relaxed),
            requests: counts.requests.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            faults: counts.faults.load(Ordering::Relaxed),
            open: self.state.bills.open(),
        }
    }

    /// What it has billed so far, also for streams that were given up.
    #[must_use]
    pub fn billed(&self) -> Billed {
        self.state.bills.billed()
    }

    /// The latest requests, oldest first, without keys. How many are kept is
    /// [`ServerOptions::recorded_requests`].
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.requests.all()
    }

    /// Waits until it has accepted this many model calls since its start, whether they are answered or not. A call
    /// that it refuses does not count.
    pub async fn asked(&self, calls: u64) {
        self.state.bills.accepted(calls).await;
    }

    /// Waits until every model call it has accepted is billed. A stalled stream is open until its client leaves.
    pub async fn idle(&self) {
        self.state.bills.idle().await;
    }

    /// Closes the listener and all connections, and waits until both are gone.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // The accepting task may have ended by itself only if the listener broke.
            let _ = stop.send(());
        }
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        // BOUND: further clients wait in the listener's queue.
        let full = connections.len() >= limits::CONNECTIONS;
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, _)) => {
                    state.counts.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection::serve(stream, Arc::clone(&state)));
                }
                // Out of descriptors, or a client that left before it was accepted: the next one may do better.
                Err(_) => tokio::task::yield_now().await,
            },
        }
    }
    connections.shutdown().await;
}
