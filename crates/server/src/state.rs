//! What every route gets.

use std::sync::Arc;

use otto::Otto;

use crate::config::ServerConfig;
use crate::metrics::Metrics;

#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) otto: Otto,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) metrics: Arc<Metrics>,
}
