//! Whether each component can do its work, and if not, why.
//!
//! A component reports itself; what has to be asked (store, kill switch, admission) is asked when somebody
//! looks. Liveness is no matter of this module: a process that answers is alive.
//!
//! Invariant: a component that is not ready has a reason a person can act on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether a component can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It can.
    Ready,
    /// It can, and somebody should look at it.
    Degraded {
        /// What is wrong, in a line.
        reason: Arc<str>,
    },
    /// It cannot.
    NotReady {
        /// Why, in a line.
        reason: Arc<str>,
    },
}

/// A component and its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name: `store`, `kill_switch`, `configuration`.
    pub name: Arc<str>,
    /// Whether it can do its work.
    pub condition: Condition,
}

/// The condition of all components at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Every component, those that are asked first, then the others by name.
    pub components: Vec<Component>,
}

impl Condition {
    /// A condition of something that works but deserves a look.
    #[must_use]
    pub fn degraded(reason: &str) -> Self {
        Self::Degraded {
            reason: Arc::from(reason),
        }
    }

    /// A condition of something that does not work.
    #[must_use]
    pub fn not_ready(reason: &str) -> Self {
        Self::NotReady {
            reason: Arc::from(reason),
        }
    }

    /// Whether the component can do its work.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready | Self::Degraded { .. })
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub const fn reason(&self) -> Option<&Arc<str>> {
        match self {
            Self::Ready => None,
            Self::Degraded { reason } | Self::NotReady { reason } => Some(reason),
        }
    }
}

impl HealthReport {
    /// Whether every component can do its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.components
            .iter()
            .all(|component| component.condition.is_ready())
    }
}

/// What components have reported of themselves. Cheap to clone; all clones are the same list.
#[derive(Debug, Clone, Default)]
pub struct Health {
    reported: Arc<Mutex<BTreeMap<Arc<str>, Condition>>>,
}

impl Health {
    /// Reports the condition of a component, in place of what it reported before.
    pub fn report(&self, name: &str, condition: Condition) {
        let mut reported = self.lock();
        match reported.get_mut(name) {
            Some(known) => *known = condition,
            None => {
                reported.insert(Arc::from(name), condition);
            }
        }
    }

    /// What was reported, by name.
    #[must_use]
    pub fn reported(&self) -> Vec<Component> {
        self.lock()
            .iter()
            .map(|(name, condition)| Component {
                name: name.clone(),
                condition: condition.clone(),
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, Condition>> {
        // Conditions are replaced whole, so a poisoned map is still a correct map.
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
