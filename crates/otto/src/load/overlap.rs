//! Working directories of different agents: apart, unless both say that they share.
//!
//! Invariant: two agents that may change the same file have both said `shared: true`.

use std::path::Path;

use super::LoadedAgent;
use crate::diagnostic::{Diagnostic, Place};

/// An error for each pair of agents whose working directories overlap without leave.
pub(crate) fn check<'a>(agents: impl Iterator<Item = &'a LoadedAgent>) -> Vec<Diagnostic> {
    let mut placed: Vec<(&Path, &LoadedAgent)> = agents
        .filter_map(|agent| agent.config.working_dir.as_deref().map(|dir| (dir, agent)))
        .collect();
    // Sorted by path components, a directory stands directly before everything below it, so each agent needs
    // comparing only with the directories that are still open above it.
    placed.sort_by(|(a, one), (b, other)| {
        a.cmp(b)
            .then_with(|| one.config.name.cmp(&other.config.name))
    });
    let mut open: Vec<(&Path, &LoadedAgent)> = Vec::new();
    let mut problems = Vec::new();
    for (dir, agent) in placed {
        open.retain(|(above, _)| dir.starts_with(above));
        if let Some((above, other)) = open
            .iter()
            .find(|(_, other)| !(agent.config.shared && other.config.shared))
        {
            problems.push(overlap(agent, dir, other, above));
        }
        open.push((dir, agent));
    }
    problems
}

fn overlap(agent: &LoadedAgent, dir: &Path, other: &LoadedAgent, above: &Path) -> Diagnostic {
    let how = if dir == above {
        "is also the one of"
    } else {
        "is inside the one of"
    };
    Diagnostic::error(
        place(agent),
        format!(
            "the working directory of `{}` {how} `{}`",
            agent.config.name, other.config.name
        ),
    )
    .related(place(other), "the other")
    .expected("a working directory of its own for each agent, or `shared: true` in both files")
}

fn place(agent: &LoadedAgent) -> Place {
    agent
        .places
        .get("working_dir")
        .cloned()
        .unwrap_or_else(|| Place::whole(&agent.config.origin.0))
}
