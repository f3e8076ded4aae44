//! The machine.

use std::sync::Arc;

use crate::Timestamp;
use crate::invocation::{Effect, Event, InvocationSpec};

/// One invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    spec: Arc<InvocationSpec>,
}

impl Invocation {
    /// Takes one event and returns the effects it causes.
    pub fn step(&mut self, _now: Timestamp, _event: Event) -> Vec<Effect> {
        let _ = &self.spec;
        Vec::new()
    }
}
