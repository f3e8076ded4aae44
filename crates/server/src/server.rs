//! The server itself: listens, serves, ends gracefully.
//!
//! Invariant: a shutdown ends within twice its grace, whatever clients and invocations do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use otto::{LeftForResume, Otto};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::{ConfigProblem, ServerConfig};
use crate::connection;
use crate::descriptors;
use crate::metrics::Metrics;
use crate::routes;
use crate::state::{AppState, Surroundings};

/// Why the server could not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigProblem),
    /// The address could not be bound.
    #[error("listen on {bind}")]
    Bind {
        /// The address.
        bind: SocketAddr,
        /// Why; "address in use" means that another process listens there.
        source: io::Error,
    },
    /// The system does not tell where it listens.
    #[error("ask for the address that is listened on")]
    Address(#[source] io::Error),
    /// The runtime could not take the listener.
    #[error("hand the listener to the runtime")]
    Listen(#[source] io::Error),
}

/// A server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    config: ServerConfig,
}

/// What a shutdown left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leftovers {
    /// Invocations that were interrupted; they go on with the next Otto on the same state.
    pub invocations: Vec<LeftForResume>,
    /// Connections that were cut because their responses did not end in time.
    pub connections: usize,
}

/// BOUND: after a failed accept (out of descriptors) the next attempt waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// BOUND: clients that are told "busy" at a time; the next one is closed without a word.
const FAREWELLS: usize = 256;

impl Server {
    /// Checks the configuration and binds the address. Needs no runtime, so that a process can bind before it
    /// locks itself.
    ///
    /// # Errors
    /// When the configuration is refused or the address cannot be bound.
    pub fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        config.check()?;
        let bind = config.bind;
        let listener = std::net::TcpListener::bind(bind)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| ServeError::Bind { bind, source })?;
        Ok(Self { listener, config })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, ServeError> {
        self.listener.local_addr().map_err(ServeError::Address)
    }

    /// Serves until `stop` holds `true`. Then no connection and no invocation is taken any more, running
    /// invocations are brought to their next durable point, open responses are finished, each within the grace.
    ///
    /// # Errors
    /// When the system does not tell the address or the runtime cannot take the listener; nothing was served
    /// then.
    pub async fn serve(
        mut self,
        otto: Otto,
        surroundings: Surroundings,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Leftovers, ServeError> {
        self.config.bind = self.local_addr()?;
        let listener = TcpListener::from_std(self.listener).map_err(ServeError::Listen)?;
        let bounds = self.config.bounds;
        let room = descriptors::room_for_connections(bounds.connections);
        let (drained, draining) = watch::channel(false);
        let router = routes::router(AppState {
            otto: otto.clone(),
            config: Arc::new(self.config),
            metrics: Arc::new(Metrics::default()),
            surroundings,
            upkeep: Arc::default(),
            stop: draining.clone(),
        });
        let mut connections = JoinSet::new();
        let mut farewells = JoinSet::new();
        loop {
            tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = connections.join_next() => {}
                Some(_) = farewells.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < room => {
                        connections.spawn(connection::serve(stream, router.clone(), bounds, draining.clone()));
                    }
                    Ok((stream, _)) => turn_away(&mut farewells, stream),
                    // Out of descriptors, or a client that left before it was accepted.
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
            }
        }
        drop(listener);
        let report = otto.hand_over(bounds.grace).await;
        // Only now: whoever follows an invocation has been told of its last durable event.
        drained.send_replace(true);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        // What has not ended by then is cut below.
        let _ = timeout(bounds.grace, all_ended).await;
        let leftovers = Leftovers {
            invocations: report.left,
            connections: connections.len(),
        };
        connections.shutdown().await;
        farewells.shutdown().await;
        Ok(leftovers)
    }
}

/// Waits until `stop` holds `true`. Cancel safe.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to say stop: then it is time to stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn turn_away(farewells: &mut JoinSet<()>, stream: TcpStream) {
    if farewells.len() < FAREWELLS {
        farewells.spawn(connection::turn_away(stream));
    }
}
