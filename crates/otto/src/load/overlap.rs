//! Working directories of different agents: apart, unless both say that they share.
//!
//! The rule is the sandbox's; this module tells it with the places of both files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use otto_core::AgentName;
use otto_sandbox::{DirClaim, DirProblem, DirProblemKind, Reserved, check_working_dirs};

use super::LoadedAgent;
use crate::diagnostic::{Diagnostic, Place};

/// An error for each pair of agents whose working directories overlap without leave.
pub(crate) fn check(agents: &BTreeMap<AgentName, LoadedAgent>) -> Vec<Diagnostic> {
    let claims: Vec<DirClaim> = agents
        .values()
        .filter_map(|agent| {
            let path = agent.config.working_dir.clone()?;
            Some(DirClaim {
                agent: agent.config.name.clone(),
                path,
                shared: agent.config.shared,
            })
        })
        .collect();
    // What concerns one directory alone was told when its file was read; only pairs are of interest here.
    let nothing_reserved = Reserved {
        home: None,
        state_dir: PathBuf::from("/"),
    };
    check_working_dirs(&claims, &nothing_reserved)
        .iter()
        .filter_map(|problem| overlap(agents, problem))
        .collect()
}

fn overlap(agents: &BTreeMap<AgentName, LoadedAgent>, problem: &DirProblem) -> Option<Diagnostic> {
    let DirProblemKind::Overlap { with, other } = &problem.kind else {
        return None;
    };
    let how = match (problem.path == *other, problem.path.starts_with(other)) {
        (true, _) => "is also the one of",
        (false, true) => "is inside the one of",
        (false, false) => "holds the one of",
    };
    let place = |name: &AgentName| {
        let agent = agents.get(name)?;
        let file = || Place::whole(&agent.config.origin.0);
        Some(
            agent
                .places
                .get("working_dir")
                .cloned()
                .unwrap_or_else(file),
        )
    };
    let message = format!(
        "the working directory of `{}` {how} `{with}`",
        problem.agent
    );
    Some(
        Diagnostic::error(place(&problem.agent)?, message)
            .related(place(with)?, "the other")
            .expected(
                "a working directory of its own for each agent, or `shared: true` in both files",
            ),
    )
}
