//! The server itself: listens, serves, ends gracefully.

use std::net::SocketAddr;
use std::sync::Arc;

use otto::Otto;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{ConfigProblem, ServerConfig};
use crate::metrics::Metrics;
use crate::routes;
use crate::state::AppState;

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
        source: std::io::Error,
    },
    /// Serving failed.
    #[error("serve")]
    Serve(#[source] std::io::Error),
}

/// A server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    config: ServerConfig,
}

impl Server {
    /// Checks the configuration and binds the address.
    ///
    /// # Errors
    /// When the configuration is refused or the address cannot be bound.
    pub async fn bind(config: ServerConfig) -> Result<Self, ServeError> {
        config.check()?;
        let bind = config.bind;
        let listener = TcpListener::bind(bind)
            .await
            .map_err(|source| ServeError::Bind { bind, source })?;
        Ok(Self { listener, config })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, ServeError> {
        self.listener.local_addr().map_err(ServeError::Serve)
    }

    /// Serves until `stop` holds `true`; then no new connection is taken and open ones are finished.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        mut self,
        otto: Otto,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        self.config.bind = self.local_addr()?;
        let metrics = Arc::new(Metrics::new());
        let state = AppState {
            otto,
            config: Arc::new(self.config),
            metrics,
        };
        let stopped = async move {
            // An error means that nobody is left to say stop: then it is time to stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        axum::serve(self.listener, routes::router(state))
            .with_graceful_shutdown(stopped)
            .await
            .map_err(ServeError::Serve)
    }
}
