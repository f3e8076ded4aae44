//! The tools available now, in versioned snapshots.
//!
//! Registering, replacing and removing makes a new snapshot; a call that has begun keeps the one it began
//! with. Permissions are not checked here but at every call, in `effects/run_tool.rs`.
//!
//! Invariant: names are unique in a snapshot, also as a provider writes them (where `.` becomes `_`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use otto_core::ToolName;
use otto_core::port::tool::Tool;

/// The tools available now.
#[derive(Debug, Default)]
pub struct ToolBus {
    current: ArcSwap<ToolSnapshot>,
}

/// The tools of one moment.
#[derive(Default, Clone)]
pub struct ToolSnapshot {
    version: u64,
    tools: BTreeMap<ToolName, Arc<dyn Tool>>,
    allowed: Option<Arc<BTreeSet<ToolName>>>,
}

impl std::fmt::Debug for ToolSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolSnapshot")
            .field("version", &self.version)
            .field("tools", &self.tools.keys())
            .field("allowed", &self.allowed)
            .finish()
    }
}

/// Why a tool was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ToolBusError {
    /// The name is taken.
    #[error(
        "register tool `{name}`: a tool `{taken}` is there already; use `replace` to exchange it"
    )]
    NameTaken {
        /// The new name.
        name: ToolName,
        /// The name it clashes with.
        taken: ToolName,
    },
    /// There is no such tool.
    #[error("tool `{name}` is not registered")]
    Unknown {
        /// The name.
        name: ToolName,
    },
}

impl ToolBus {
    /// A bus with these tools.
    ///
    /// # Errors
    /// When two names clash.
    pub fn new(tools: impl IntoIterator<Item = Arc<dyn Tool>>) -> Result<Self, ToolBusError> {
        let bus = Self::default();
        for tool in tools {
            bus.register(tool)?;
        }
        Ok(bus)
    }

    /// Adds a tool for all calls from now on.
    ///
    /// # Errors
    /// When the name clashes with one that is there.
    pub fn register(&self, tool: Arc<dyn Tool>) -> Result<(), ToolBusError> {
        self.change(|next| {
            let tools = &mut next.tools;
            let name = &tool.definition().name;
            free(tools, name)?;
            tools.insert(name.clone(), tool.clone());
            Ok(())
        })
    }

    /// Exchanges the tool of the same name for all calls from now on; calls in flight finish on the old one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn replace(&self, tool: Arc<dyn Tool>) -> Result<(), ToolBusError> {
        self.change(|next| {
            let name = tool.definition().name.clone();
            match next.tools.get_mut(&name) {
                Some(known) => {
                    *known = tool.clone();
                    Ok(())
                }
                None => Err(ToolBusError::Unknown { name }),
            }
        })
    }

    /// Takes a tool away for all calls from now on; calls in flight finish.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove(&self, name: &ToolName) -> Result<(), ToolBusError> {
        self.change(|next| match next.tools.remove(name) {
            Some(_) => Ok(()),
            None => Err(ToolBusError::Unknown { name: name.clone() }),
        })
    }

    /// Puts a new configuration in force for all calls from now on, in one step: `tools` take the place of those
    /// named in `instead_of` and of their own namesakes, and `allowed` is the operator's allowlist (`None` for
    /// all tools). Calls in flight finish on the tools they began with.
    ///
    /// # Errors
    /// When a new tool clashes with one that stays; nothing is changed then.
    pub fn exchange(
        &self,
        instead_of: &[ToolName],
        tools: &[Arc<dyn Tool>],
        allowed: Option<BTreeSet<ToolName>>,
    ) -> Result<(), ToolBusError> {
        let allowed = allowed.map(Arc::new);
        self.change(|next| {
            next.tools.retain(|name, _| !instead_of.contains(name));
            for tool in tools {
                let name = &tool.definition().name;
                next.tools.remove(name);
                free(&next.tools, name)?;
                next.tools.insert(name.clone(), tool.clone());
            }
            next.allowed.clone_from(&allowed);
            Ok(())
        })
    }

    /// The tools of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ToolSnapshot> {
        self.current.load_full()
    }

    fn change(
        &self,
        change: impl Fn(&mut ToolSnapshot) -> Result<(), ToolBusError>,
    ) -> Result<(), ToolBusError> {
        let mut result = Ok(());
        self.current.rcu(|current| {
            let mut next = ToolSnapshot::clone(current);
            result = change(&mut next);
            if result.is_err() {
                return Arc::clone(current);
            }
            next.version += 1;
            Arc::new(next)
        });
        result
    }
}

impl ToolSnapshot {
    /// The tool of that name.
    #[must_use]
    pub fn find(&self, name: &ToolName) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name)
    }

    /// The tools that the operator allows; `None` for all.
    #[must_use]
    pub fn allowed(&self) -> Option<&BTreeSet<ToolName>> {
        self.allowed.as_deref()
    }

    /// Whether the operator allows a tool of that name.
    #[must_use]
    pub fn allows(&self, name: &ToolName) -> bool {
        self.allowed().is_none_or(|allowed| allowed.contains(name))
    }

    /// All tools by name.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.tools.values()
    }

    /// Counts the changes of the bus.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }
}

/// Fails when the name clashes with one that is there.
fn free(tools: &BTreeMap<ToolName, Arc<dyn Tool>>, name: &ToolName) -> Result<(), ToolBusError> {
    match tools
        .keys()
        .find(|known| wire_name(known) == wire_name(name))
    {
        Some(taken) => Err(ToolBusError::NameTaken {
            name: name.clone(),
            taken: taken.clone(),
        }),
        None => Ok(()),
    }
}

fn wire_name(name: &ToolName) -> String {
    name.as_str().replace('.', "_")
}
