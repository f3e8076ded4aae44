//! The Landlock domain of a process: every right that the running kernel knows is taken, and what is
//! granted is given back for single directories.
//!
//! Only hard requirements are used. The best-effort mode of the library returns success on a kernel that
//! enforces nothing; here, anything but full enforcement is an error.

use std::os::fd::BorrowedFd;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use crate::spec::{SetupFailure, Stage, WorkerKind};

/// Rights below one directory, or on one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant(BitFlags<AccessFs>);

impl Grant {
    /// Read and list.
    pub(crate) const READ: Self = Self(READ);
    /// Read one file.
    pub(crate) const READ_FILE: Self = Self(READ_FILE);
    /// Read and write one file or device.
    pub(crate) const USE_FILE: Self = Self(USE_FILE);
    /// Read, list and run.
    pub(crate) const RUN: Self = Self(RUN);
    /// All a program needs to build and test: everything but device nodes.
    pub(crate) const BUILD: Self = Self(BUILD);
    /// Read, create, change and remove files and directories.
    pub(crate) const KEEP: Self = Self(KEEP);

    /// What a worker of this kind may do in its working directory.
    pub(crate) const fn worker(kind: WorkerKind) -> Self {
        match kind {
            WorkerKind::Compute | WorkerKind::Http => Self(NOTHING),
            WorkerKind::Read => Self(READ),
            // A directory must be opened to be flushed, so the right to list is granted here and the call that
            // lists is refused by the seccomp filter of this kind.
            WorkerKind::Write => Self(WRITE),
            WorkerKind::ReadWrite => Self(KEEP),
        }
    }
}

/// A domain that is being built.
#[derive(Debug)]
pub(crate) struct Domain {
    abi: i32,
    known: BitFlags<AccessFs>,
    /// Whether TCP connections are taken.
    connections: bool,
    rules: RulesetCreated,
}

/// What a domain says about the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    /// No TCP connection and no TCP server, as far as the kernel's version of Landlock knows them.
    Handled,
    /// No TCP connection; servers are not this domain's business.
    ConnectionsHandled,
    /// Not this domain's business.
    Free,
}

impl Domain {
    /// A domain without any right: files, network and scopes.
    pub(crate) fn new(abi: i32) -> Result<Self, SetupFailure> {
        Self::with_net(abi, Net::Handled)
    }

    /// A domain without any right to files and, if asked for, to the network.
    pub(crate) fn with_net(abi: i32, net: Net) -> Result<Self, SetupFailure> {
        let version = ABI::from(abi);
        if version == ABI::Unsupported {
            return Err(SetupFailure::refused(
                Stage::Landlock,
                "this kernel does not offer Landlock",
            ));
        }
        let known = AccessFs::from_all(version);
        let handled = AccessNet::from_all(version)
            & match net {
                Net::Handled => BitFlags::ALL,
                Net::ConnectionsHandled => AccessNet::ConnectTcp.into(),
                Net::Free => BitFlags::EMPTY,
            };
        let rules = || {
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(known)?;
            if !handled.is_empty() {
                rules = rules.handle_access(handled)?;
            }
            let scopes = Scope::from_all(version);
            if !scopes.is_empty() {
                rules = rules.scope(scopes)?;
            }
            rules.create()
        };
        Ok(Self {
            abi,
            known,
            connections: handled.contains(AccessNet::ConnectTcp),
            rules: rules().map_err(failed)?,
        })
    }

    /// Gives rights back below a directory, or on a file.
    pub(crate) fn grant(
        &mut self,
        beneath: BorrowedFd<'_>,
        grant: Grant,
    ) -> Result<(), SetupFailure> {
        // A right that this kernel does not know is not taken either, so it need not be given back.
        let rights = grant.0 & self.known;
        if rights.is_empty() {
            return Ok(());
        }
        (&mut self.rules)
            .add_rule(PathBeneath::new(beneath, rights))
            .map(drop)
            .map_err(failed)
    }

    /// Gives the right to connect to a TCP port back.
    pub(crate) fn grant_port(&mut self, port: u16) -> Result<(), SetupFailure> {
        if !self.connections {
            return Ok(());
        }
        (&mut self.rules)
            .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
            .map(drop)
            .map_err(failed)
    }

    /// Whether a connection needs a port that was given back.
    pub(crate) const fn confines_connections(&self) -> bool {
        self.connections
    }

    /// Enters the domain; there is no way out. Returns the version that is enforced in full.
    pub(crate) fn enter(self) -> Result<i32, SetupFailure> {
        let status = self.rules.restrict_self().map_err(failed)?;
        if status.ruleset == RulesetStatus::FullyEnforced && status.no_new_privs {
            Ok(self.abi)
        } else {
            Err(SetupFailure::refused(
                Stage::Landlock,
                format!(
                    "the kernel enforces the domain only in part ({:?})",
                    status.ruleset
                ),
            ))
        }
    }
}

fn failed(error: RulesetError) -> SetupFailure {
    // The library's errors hold the error of the system somewhere below.
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut errno = 0;
    while let Some(inner) = source {
        if let Some(code) = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            errno = code;
        }
        source = inner.source();
    }
    SetupFailure {
        stage: Stage::Landlock,
        errno,
        detail: error.to_string(),
    }
}

macro_rules! rights {
    ($($right:ident)|+) => { ::landlock::make_bitflags!(AccessFs::{$($right)|+}) };
}

const NOTHING: BitFlags<AccessFs> = BitFlags::EMPTY;
const READ: BitFlags<AccessFs> = rights!(ReadFile | ReadDir);
const READ_FILE: BitFlags<AccessFs> = rights!(ReadFile);
const USE_FILE: BitFlags<AccessFs> = rights!(ReadFile | WriteFile);
const RUN: BitFlags<AccessFs> = rights!(ReadFile | ReadDir | Execute);
// Never links, FIFOs, sockets or device nodes: a tool has no use for them, and the next reader has trouble.
const WRITE: BitFlags<AccessFs> =
    rights!(ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer);
const KEEP: BitFlags<AccessFs> = rights!(
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
);
const BUILD: BitFlags<AccessFs> = rights!(
    ReadFile
        | ReadDir
        | WriteFile
        | Truncate
        | MakeReg
        | MakeDir
        | RemoveFile
        | RemoveDir
        | Refer
        | MakeSym
        | MakeSock
        | MakeFifo
        | Execute
        | ResolveUnix
);
