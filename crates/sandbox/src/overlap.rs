//! Which working directories agents may have, as a function of paths alone.
//!
//! Two agents in one directory can read and change each other's files, so that is only for agents that both
//! say so. A directory that holds a person's home or Otto's own state would put both in reach.
//!
//! It compares paths by their components and opens nothing; links are refused when a directory is opened.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use otto_core::AgentName;

/// The working directory that an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirClaim {
    /// The agent.
    pub agent: AgentName,
    /// Its working directory.
    pub path: PathBuf,
    /// Whether it may share the directory with agents that say the same.
    pub shared: bool,
}

/// Directories that no agent may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The home directory of the user, if there is one.
    pub home: Option<PathBuf>,
    /// Where Otto keeps its own state.
    pub state_dir: PathBuf,
}

/// Why a working directory is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirProblem {
    /// The agent that asks for it.
    pub agent: AgentName,
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: DirProblemKind,
}

/// What is wrong with a working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirProblemKind {
    /// It is not absolute, or has `..` in it.
    NotPlain,
    /// It is `/`.
    Root,
    /// It is the home directory or holds it.
    Home,
    /// It holds Otto's state, or lies inside it.
    State,
    /// It is the directory of another agent, or holds it, or lies inside it.
    Overlap {
        /// The other agent.
        with: AgentName,
        /// Its directory.
        other: PathBuf,
    },
}

/// Checks all working directories and reports every problem, in the order of `claims`. An overlap is reported
/// once, for the later of the two.
#[must_use]
pub fn check_working_dirs(claims: &[DirClaim], reserved: &Reserved) -> Vec<DirProblem> {
    let mut problems = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let mut report = |kind| {
            problems.push(DirProblem {
                agent: claim.agent.clone(),
                path: claim.path.clone(),
                kind,
            })
        };
        if !is_plain(&claim.path) {
            report(DirProblemKind::NotPlain);
            continue;
        }
        if claim.path.parent().is_none() {
            report(DirProblemKind::Root);
            continue;
        }
        if reserved
            .home
            .as_ref()
            .is_some_and(|home| home.starts_with(&claim.path))
        {
            report(DirProblemKind::Home);
        }
        if overlap(&claim.path, &reserved.state_dir) {
            report(DirProblemKind::State);
        }
        for earlier in &claims[..index] {
            let may_share = claim.shared && earlier.shared;
            if !may_share && overlap(&claim.path, &earlier.path) {
                report(DirProblemKind::Overlap {
                    with: earlier.agent.clone(),
                    other: earlier.path.clone(),
                });
            }
        }
    }
    problems
}

fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// Whether one is the other or lies inside it.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

impl fmt::Display for DirProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "agent `{}` cannot have {} as its working directory: ",
            self.agent,
            self.path.display()
        )?;
        match &self.kind {
            DirProblemKind::NotPlain => f.write_str("an absolute path without `..` is needed"),
            DirProblemKind::Root => f.write_str("it is the root of the file system"),
            DirProblemKind::Home => f.write_str("it is or holds the home directory; use a directory inside it"),
            DirProblemKind::State => {
                f.write_str("it holds Otto's own state or lies inside it; use another directory, or move the state")
            }
            DirProblemKind::Overlap { with, other } => write!(
                f,
                "it overlaps with {} of agent `{with}`; use separate directories, or set `shared: true` for both",
                other.display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(agent: &str, path: &str, shared: bool) -> DirClaim {
        DirClaim {
            agent: AgentName::new(agent).unwrap(),
            path: PathBuf::from(path),
            shared,
        }
    }

    #[track_caller]
    fn check(claims: &[DirClaim], expected: &[(&str, &str)]) {
        let reserved = Reserved {
            home: Some(PathBuf::from("/home/ada")),
            state_dir: PathBuf::from("/home/ada/.local/state/otto"),
        };
        let problems = check_working_dirs(claims, &reserved);
        let found: Vec<(&str, &str)> = problems
            .iter()
            .map(|problem| {
                let kind = match problem.kind {
                    DirProblemKind::NotPlain => "not plain",
                    DirProblemKind::Root => "root",
                    DirProblemKind::Home => "home",
                    DirProblemKind::State => "state",
                    DirProblemKind::Overlap { .. } => "overlap",
                };
                (problem.agent.as_str(), kind)
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn separate_directories_are_fine_even_with_names_that_extend_each_other() {
        check(
            &[
                claim("a", "/home/ada/work", false),
                claim("b", "/home/ada/work-2", false),
            ],
            &[],
        );
    }

    #[test]
    fn one_directory_inside_another_is_an_overlap_both_ways() {
        check(
            &[claim("a", "/srv/a", false), claim("b", "/srv/a/b", false)],
            &[("b", "overlap")],
        );
        check(
            &[claim("b", "/srv/a/b", false), claim("a", "/srv/a", false)],
            &[("a", "overlap")],
        );
        check(
            &[claim("a", "/srv/a", false), claim("b", "/srv/a", false)],
            &[("b", "overlap")],
        );
    }

    #[test]
    fn sharing_takes_both() {
        check(
            &[claim("a", "/srv/a", true), claim("b", "/srv/a", true)],
            &[],
        );
        check(
            &[claim("a", "/srv/a", true), claim("b", "/srv/a", false)],
            &[("b", "overlap")],
        );
        check(
            &[claim("a", "/srv/a", false), claim("b", "/srv/a", true)],
            &[("b", "overlap")],
        );
    }

    #[test]
    fn reserved_directories_are_refused() {
        check(&[claim("a", "/", false)], &[("a", "root")]);
        check(
            &[claim("a", "/home/ada", false)],
            &[("a", "home"), ("a", "state")],
        );
        check(
            &[claim("a", "/home", false)],
            &[("a", "home"), ("a", "state")],
        );
        check(&[claim("a", "/home/ada/.local", false)], &[("a", "state")]);
        check(
            &[claim("a", "/home/ada/.local/state/otto/sessions", true)],
            &[("a", "state")],
        );
        check(&[claim("a", "/home/ada/project", false)], &[]);
        check(
            &[claim("a", "work", false), claim("b", "/srv/../etc", false)],
            &[("a", "not plain"), ("b", "not plain")],
        );
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let claims = [claim("a", "/srv/a", false), claim("b", "/srv/a", false)];
        let reserved = Reserved {
            home: None,
            state_dir: PathBuf::from("/var/lib/otto"),
        };
        let problems = check_working_dirs(&claims, &reserved);
        assert_eq!(
            problems[0].to_string(),
            "agent `b` cannot have /srv/a as its working directory: it overlaps with /srv/a of agent `a`; use separate \
             directories, or set `shared: true` for both"
        );
    }
}
