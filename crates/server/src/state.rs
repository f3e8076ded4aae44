//! What every route gets.

use std::path::PathBuf;
use std::sync::Arc;

use otto::env::Environment;
use otto::{Otto, WorkerHost};
use tokio::sync::{Mutex, watch};

use crate::config::ServerConfig;
use crate::metrics::Metrics;

/// What is served beside an Otto, for the routes that tell about its surroundings. An application that embeds
/// the server may leave out what it does not have; those routes then answer that it is not there.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The host of the base tools, for the state of the sandbox.
    pub sandbox: Option<WorkerHost>,
    /// The project and the environment, for the check and the explanation of the configuration.
    pub project: Option<Project>,
}

/// Where the configuration is read from.
#[derive(Clone)]
pub struct Project {
    /// The project directory; absolute.
    pub path: PathBuf,
    /// The environment.
    pub environment: Environment,
}

#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) otto: Otto,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) surroundings: Surroundings,
    /// Held by whoever reads everything that is stored: one at a time.
    pub(crate) upkeep: Arc<Mutex<()>>,
    /// Holds `true` once no further event is to be waited for.
    pub(crate) stop: watch::Receiver<bool>,
}
