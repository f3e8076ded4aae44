//! Agent files: found, read, checked together, and reported on all at once.
//!
//! Agents stand in `.otto/agents/*.yml` of the project and in `otto/agents/*.yml` of the user's configuration
//! directory; for the same name the project's file is used. The project is the current directory or the one
//! that is named with `--project`, never a parent found by searching upwards: a `.otto` that somebody left in
//! a shared parent directory must not decide what runs.
//!
//! A project's files came with the project and may be hostile. They narrow and never widen: limits are cut to
//! the operator's ceilings, directories must lie inside the project, variables are few, tools and hosts must be
//! on the operator's lists.
//!
//! Invariant: [`load`] returns either agents that are all valid, or every error of every file.

mod agent_file;
pub(crate) mod credentials;
mod dirs;
mod fields;
mod hidden_text;
mod hosts;
pub(crate) mod interpolate;
mod overlap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::agent::AgentConfig;
use otto_core::model::PriceTable;
use otto_core::policy::Permissions;
use otto_core::port::tool::ToolDefinition;
use otto_core::{AgentName, ToolName};

use crate::config::OperatorConfig;
use crate::decode::Decoder;
use crate::diagnostic::{ConfigErrors, Diagnostic, Place, SourceFile};
use crate::env::Environment;
use crate::text::visible;
use crate::yaml::MAX_FILE_BYTES;

pub(crate) use agent_file::read_budgets;
pub(crate) use dirs::normalised;
pub use fields::{AGENT_FIELDS, BUDGET_FIELDS};
pub(crate) use fields::{BUDGETS, COUNT_SCHEMA, DURATION_SCHEMA, MONEY_SCHEMA};
pub(crate) use hosts::{HOST_FORM, parse_host};
pub use interpolate::OPEN_PREFIX;

use dirs::{Author, Surroundings};
use interpolate::Interpolator;

/// BOUND: agent files in one directory.
const MAX_FILES: usize = 1_000;

/// Where agent files stand below a project directory.
pub const PROJECT_AGENTS: &str = ".otto/agents";

/// A tool that agents may list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTool {
    /// Its name.
    pub name: ToolName,
    /// What a call of it needs.
    pub permissions: Permissions,
}

impl KnownTool {
    /// Otto's own tools.
    #[must_use]
    pub fn base_tools() -> Vec<Self> {
        let known = |tool: ToolDefinition| Self {
            name: tool.name,
            permissions: tool.permissions,
        };
        otto_tools::definitions().into_iter().map(known).collect()
    }

    /// What is wrong with settings (JSON text) of this tool. A tool of the application checks its own.
    fn settings_problem(&self, settings: &str) -> Option<String> {
        let checked = otto_tools::check_settings(self.name.as_str(), settings).ok()?;
        checked.err().map(|failure| failure.message)
    }
}

/// What the loader reads, and what it checks against.
#[derive(Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    /// The project directory: absolute and without symbolic links, as [`project_dir`] gives it.
    pub project: &'a Path,
    /// The operator's configuration.
    pub operator: &'a OperatorConfig,
    /// The tools that exist.
    pub tools: &'a [KnownTool],
    /// The models that have a price.
    pub prices: &'a PriceTable,
    /// The environment that variables are inserted from.
    pub environment: &'a Environment,
    /// Paths that the tool host protects from every tool's changes. A working directory may hold these.
    pub protected: &'a [PathBuf],
}

impl LoadRequest<'_> {
    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            project: self.project,
            home: self.operator.home.as_deref(),
            state_dir: &self.operator.state_dir.value,
            user_state_dir: self.operator.user_state_dir.as_deref(),
            config_dir: self.operator.config_dir.as_deref(),
            protected: self.protected,
            allowed: &self.operator.directories.value,
        }
    }
}

/// An agent and where it came from.
#[derive(Debug, Clone)]
pub struct LoadedAgent {
    /// The agent.
    pub config: Arc<AgentConfig>,
    /// Which file of which level it was read from.
    pub level: Level,
    /// Where each key of its file stands, by the key's name.
    pub places: BTreeMap<&'static str, Place>,
    /// The user's file of the same name that this one hides, if any.
    pub hides: Option<PathBuf>,
}

/// Who provides an agent file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// `.otto/agents` of the project.
    Project,
    /// `otto/agents` of the user's configuration directory.
    User,
}

impl Level {
    /// `project` or `user`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::User => "user",
        }
    }
}

/// All agents, valid.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    agents: BTreeMap<AgentName, LoadedAgent>,
    warnings: Vec<Diagnostic>,
    directories: Vec<PathBuf>,
}

impl Agents {
    /// The agents by name.
    pub fn iter(&self) -> impl Iterator<Item = &LoadedAgent> {
        self.agents.values()
    }

    /// The agent of that name.
    #[must_use]
    pub fn find(&self, name: &AgentName) -> Option<&LoadedAgent> {
        self.agents.get(name)
    }

    /// What somebody should look at.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The directories that were searched, whether they exist or not.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The known name closest to a mistyped one.
    #[must_use]
    pub fn closest(&self, name: &str) -> Option<&str> {
        crate::suggest::closest(name, self.agents.keys().map(AgentName::as_str))
    }
}

/// Reads every agent file of the project and of the user.
///
/// # Errors
/// Every problem of every file, if one of them is an error. A file with errors is never replaced silently by
/// another of the same name, so nothing is returned in part.
pub fn load(request: &LoadRequest<'_>) -> Result<Agents, ConfigErrors> {
    let mut loader = Loader {
        request,
        interpolator: Interpolator::new(
            request.environment,
            request.operator.variables.value.iter().map(String::as_str),
        ),
        problems: ConfigErrors::default(),
        agents: BTreeMap::new(),
        broken: Vec::new(),
    };
    let project_agents = request.project.join(PROJECT_AGENTS);
    let user_agents = request
        .operator
        .config_dir
        .as_deref()
        .map(|dir| dir.join("agents"));
    loader.directory(&project_agents, Level::Project);
    if let Some(dir) = &user_agents {
        loader.directory(dir, Level::User);
    }
    loader.problems.extend(overlap::check(&loader.agents));
    if loader.problems.has_errors() {
        return Err(loader.problems);
    }
    Ok(Agents {
        agents: loader.agents,
        warnings: loader.problems.into_diagnostics(),
        directories: std::iter::once(project_agents).chain(user_agents).collect(),
    })
}

/// Makes a project directory absolute and free of symbolic links.
///
/// # Errors
/// When it does not exist, is not a directory or cannot be opened.
pub fn project_dir(given: &Path) -> Result<PathBuf, ConfigErrors> {
    let shown = given.to_string_lossy();
    let refuse = |message: String| {
        let mut errors = ConfigErrors::default();
        errors.push(
            Diagnostic::error(Place::whole(&shown), message)
                .expected("the project directory, which holds `.otto/`")
                .help("name it with `--project DIR`, or go there"),
        );
        errors
    };
    let real = std::fs::canonicalize(given).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("the project directory does not exist".to_owned()),
        _ => refuse(format!("the project directory cannot be opened: {error}")),
    })?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(refuse("the project is not a directory".to_owned()))
    }
}

struct Loader<'a> {
    request: &'a LoadRequest<'a>,
    interpolator: Interpolator<'a>,
    problems: ConfigErrors,
    agents: BTreeMap<AgentName, LoadedAgent>,
    /// Names that were read from project files with errors: the user's agent of that name is not used.
    broken: Vec<AgentName>,
}

impl Loader<'_> {
    fn directory(&mut self, dir: &Path, level: Level) {
        let files = match list(dir) {
            Ok(files) => files,
            Err(diagnostic) => return self.problems.push(*diagnostic),
        };
        for ignored in &files.ignored {
            self.problems.push(
                Diagnostic::warning(Place::whole(&self.shown(ignored)), "this file is not read")
                    .expected("agent files that end in `.yml`"),
            );
        }
        for path in files.agents {
            self.file(&path, level);
        }
    }

    fn file(&mut self, path: &Path, level: Level) {
        let shown = self.shown(path);
        if level == Level::Project && self.leads_out(path) {
            return self.problems.push(
                Diagnostic::error(
                    Place::whole(&shown),
                    "the agent file is a link that leads out of the project",
                )
                .expected(
                    "a file of the project: what its messages quote was in the project before",
                )
                .help("copy the file, or link it in the user's directory of agent files"),
            );
        }
        let text = match read_text(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) => {
                return self.problems.push(Diagnostic::error(
                    Place::whole(&shown),
                    format!("the agent file {error}"),
                ));
            }
        };
        let source = SourceFile::new(&shown, text);
        let mut decoder = Decoder::new(&source, Some(&self.interpolator));
        let author = match level {
            Level::Project => Author::Project,
            Level::User => Author::User,
        };
        let (name, file) = agent_file::decode(&mut decoder, author, self.request);
        self.problems.extend(decoder.into_problems());
        let Some(name) = name else { return };
        match file {
            Some(file) => self.add(
                path,
                level,
                LoadedAgent {
                    config: Arc::new(file.config),
                    level,
                    places: file.places,
                    hides: None,
                },
            ),
            None => self.broken.push(name),
        }
    }

    fn add(&mut self, path: &Path, level: Level, agent: LoadedAgent) {
        let name = agent.config.name.clone();
        let place = || {
            agent
                .places
                .get("name")
                .cloned()
                .unwrap_or_else(|| Place::whole(&agent.config.origin.0))
        };
        match self.agents.get_mut(&name) {
            Some(known) if known.level == level => {
                let first = known
                    .places
                    .get("name")
                    .cloned()
                    .unwrap_or_else(|| Place::whole(&known.config.origin.0));
                self.problems.push(
                    Diagnostic::error(place(), format!("the agent `{name}` is defined twice"))
                        .related(first, "first")
                        .help("give one of them another name, or delete it"),
                );
            }
            Some(known) => known.hides = Some(path.to_owned()),
            None if self.broken.contains(&name) => {}
            None => {
                self.agents.insert(name, agent);
            }
        }
    }

    /// Whether a file of the project is really another one elsewhere. Somebody else may have put the link there.
    fn leads_out(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(path);
        let project = std::fs::canonicalize(self.request.project);
        real.is_ok_and(|real| project.is_ok_and(|project| !real.starts_with(project)))
    }

    /// A path as people know it: relative to the project where it is inside.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.request.project)
            .unwrap_or(path)
            .to_string_lossy()
            .into_owned()
    }
}

struct Listing {
    agents: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
}

/// The agent files of a directory, by name. A directory that does not exist has none.
fn list(dir: &Path) -> Result<Listing, Box<Diagnostic>> {
    let mut listing = Listing {
        agents: Vec::new(),
        ignored: Vec::new(),
    };
    let failed = |error: std::io::Error| {
        Box::new(
            Diagnostic::error(
                Place::whole(&dir.to_string_lossy()),
                format!("the directory of agent files cannot be read: {error}"),
            )
            .help("give yourself read and search permission for it"),
        )
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // Editors leave hidden files and backups beside the real ones.
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yml") => listing.agents.push(path),
            Some("yaml" | "YML" | "YAML") => listing.ignored.push(path),
            _ => {}
        }
        if listing.agents.len() > MAX_FILES {
            return Err(Box::new(Diagnostic::error(
                Place::whole(&dir.to_string_lossy()),
                format!("more than {MAX_FILES} agent files"),
            )));
        }
    }
    listing.agents.sort();
    listing.ignored.sort();
    Ok(listing)
}

/// Why a text file could not be read. The text continues a sentence that names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not there.
    #[error("does not exist")]
    Missing,
    /// It may not be opened.
    #[error("cannot be read: permission denied")]
    Forbidden,
    /// It is a directory, a pipe or a device.
    #[error("is not a regular file")]
    NotRegular,
    /// It is longer than this many bytes.
    #[error("is larger than {0} bytes")]
    TooLarge(u64),
    /// From this byte on it is not UTF-8.
    #[error("is not UTF-8 text (at byte {0})")]
    NotText(usize),
    /// The system refused for another reason.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
}

/// Reads a text file of at most `max` bytes. What is not a regular file is not opened: a pipe would wait for
/// ever.
///
/// # Errors
/// When it is missing, not a regular file, too large or not UTF-8.
pub fn read_text(path: &Path, max: u64) -> Result<String, ReadError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ReadError::Missing,
        std::io::ErrorKind::PermissionDenied => ReadError::Forbidden,
        _ => ReadError::Io(error),
    };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(ReadError::TooLarge(max));
    }
    String::from_utf8(bytes).map_err(|error| ReadError::NotText(error.utf8_error().valid_up_to()))
}

/// A path for a message.
pub(crate) fn shown_path(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}
