//! Permissions: what a tool needs, what an invocation has, and the pure comparison of both.
//!
//! This is the first of two fences. The second is the kernel, in `crates/sandbox`; a decision here that
//! says yes still runs into it.
//!
//! Invariant: a grant is an intersection; nothing an agent file says can widen it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::ToolName;

/// A right a tool needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Read files below the working directory and the roots.
    Read,
    /// Change files below the working directory.
    Write,
    /// Run programs.
    Exec,
    /// Reach hosts on the allowlist.
    Net,
}

impl Permission {
    /// All permissions, in the order they are shown.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Exec, Self::Net];

    /// The word used in files, output and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Exec => "exec",
            Self::Net => "net",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Exec => 4,
            Self::Net => 8,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Permissions(u8);

impl Permissions {
    /// No permission: compute only.
    pub const NONE: Self = Self(0);

    /// The set of these.
    #[must_use]
    pub const fn of(permissions: &[Permission]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < permissions.len() {
            bits |= permissions[i].bit();
            i += 1;
        }
        Self(bits)
    }

    /// Whether `permission` is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions in display order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL
            .into_iter()
            .filter(move |permission| self.contains(*permission))
    }
}

impl fmt::Display for Permissions {
    /// `read+write`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, permission) in self.iter().enumerate() {
            if i > 0 {
                f.write_str("+")?;
            }
            f.write_str(permission.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}

/// Which fence refused a tool call.
///
/// A refusal always says which one it was: a person who reads a transcript must be able to tell what the
/// kernel guarantees from what Otto's own code decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusedBy {
    /// The grant: a permission, a tool or a directory that the agent does not have.
    Policy,
    /// Otto's own rule about paths, before the kernel was asked.
    PathRule,
    /// The process that alone reaches the network: host, port, address or redirect.
    Egress,
    /// The kernel: it was asked and said no.
    Kernel,
}

impl RefusedBy {
    /// The word used in files and output: `policy`, `path_rule`, `egress` or `kernel`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::PathRule => "path_rule",
            Self::Egress => "egress",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for RefusedBy {
    /// As it stands in a sentence: `refused by the kernel`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::PathRule => "the path rule",
            Self::Egress => "the egress process",
            Self::Kernel => "the kernel",
        })
    }
}

/// What an invocation may do with tools: the agent's list, the operator's list, and the rights of both.
#[derive(Debug, Clone, Copy)]
pub struct ToolGrant<'a> {
    /// The tools that the agent lists.
    pub listed: &'a [ToolName],
    /// The tools that the operator allows; `None` for all.
    pub allowed: Option<&'a BTreeSet<ToolName>>,
    /// The rights that were granted.
    pub permissions: Permissions,
}

/// The answer of policy to one tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The call may run, as far as policy goes.
    Allowed,
    /// The call may not run.
    Denied(WouldDeny),
}

/// What policy refuses and the operator's audit mode lets pass, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WouldDeny {
    /// A tool that the agent does not list.
    NotListed,
    /// A tool that is not on the operator's allowlist.
    NotAllowed,
    /// Rights that the agent was not granted; not empty.
    Permissions(Permissions),
    /// A host that is on no allowlist of the agent.
    Host {
        /// Its name: ASCII, lower case.
        host: Arc<str>,
        /// The port that was asked for.
        port: u16,
    },
}

impl fmt::Display for WouldDeny {
    /// `write+exec`, `example.com:443`, or which list the tool is missing on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed => f.write_str("not in the agent's `tools`"),
            Self::NotAllowed => f.write_str("not on the operator's allowlist"),
            Self::Permissions(missing) => missing.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Compares a call of `tool`, which needs `needed`, with what the invocation was granted.
#[must_use]
pub fn decide(tool: &ToolName, needed: Permissions, grant: &ToolGrant<'_>) -> Decision {
    if !grant.listed.contains(tool) {
        return Decision::Denied(WouldDeny::NotListed);
    }
    if grant.allowed.is_some_and(|allowed| !allowed.contains(tool)) {
        return Decision::Denied(WouldDeny::NotAllowed);
    }
    let missing = needed.without(grant.permissions);
    if missing.is_empty() {
        Decision::Allowed
    } else {
        Decision::Denied(WouldDeny::Permissions(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> ToolName {
        ToolName::new(name).unwrap()
    }

    #[test]
    fn a_call_needs_every_permission_it_names() {
        let read = Permissions::of(&[Permission::Read]);
        let both = Permissions::of(&[Permission::Read, Permission::Write]);
        let listed = [tool("a")];
        let decided = |needed, permissions| {
            let grant = ToolGrant {
                listed: &listed,
                allowed: None,
                permissions,
            };
            decide(&listed[0], needed, &grant)
        };
        assert_eq!(decided(read, both), Decision::Allowed);
        assert_eq!(
            decided(Permissions::NONE, Permissions::NONE),
            Decision::Allowed
        );
        let Decision::Denied(what) = decided(both, read) else {
            panic!("write was not granted")
        };
        assert_eq!(what.to_string(), "write");
    }

    #[test]
    fn a_call_needs_both_lists() {
        let (a, b) = (tool("a"), tool("b"));
        let allowed = BTreeSet::from([b.clone()]);
        let grant = ToolGrant {
            listed: std::slice::from_ref(&a),
            allowed: Some(&allowed),
            permissions: Permissions::of(&Permission::ALL),
        };
        let none = Permissions::NONE;
        assert_eq!(
            decide(&a, none, &grant),
            Decision::Denied(WouldDeny::NotAllowed)
        );
        assert_eq!(
            decide(&b, none, &grant),
            Decision::Denied(WouldDeny::NotListed)
        );
        let grant = ToolGrant {
            listed: std::slice::from_ref(&b),
            ..grant
        };
        assert_eq!(decide(&b, none, &grant), Decision::Allowed);
    }
}
