//! Directories that an agent file names: the working directory and the read-only roots.
//!
//! The checks here give a person an answer at load time. They are not the fence: the sandbox opens the
//! directory later and holds it by its handle, whatever has become of the path.
//!
//! Invariant: a path accepted here is absolute, existed, was a directory reached through no symbolic link,
//! and does not hold Otto's own files unless every tool is kept away from them.

use std::path::{Component, Path, PathBuf};

use crate::diagnostic::quoted;
use crate::text::visible;

/// What the checks compare with.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings<'a> {
    /// The project directory, without symbolic links.
    pub(crate) project: &'a Path,
    /// The user's home directory, if known.
    pub(crate) home: Option<&'a Path>,
    /// Where journal, ledger and artifacts are kept.
    pub(crate) state_dir: &'a Path,
    /// Where the user's day and the marks of their state directories are kept, if known.
    pub(crate) user_state_dir: Option<&'a Path>,
    /// The directory of the operator's configuration, if known.
    pub(crate) config_dir: Option<&'a Path>,
    /// Paths that no tool can change, also where a directory holds them.
    pub(crate) protected: &'a [PathBuf],
    /// Directories outside of the project that project files may name.
    pub(crate) allowed: &'a [PathBuf],
}

/// Who wrote the file that names the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    /// Whoever wrote the project: may name what is inside it.
    Project,
    /// The user: may name any place.
    User,
}

/// What the directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The agent may change what is in it.
    WorkingDir,
    /// The agent may read what is in it.
    Root,
}

/// A directory that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) expected: &'static str,
    pub(crate) help: Option<String>,
}

impl Refusal {
    fn new(message: impl Into<String>, expected: &'static str) -> Self {
        Self {
            message: message.into(),
            expected,
            help: None,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// The directory that `text` names, seen from the project directory.
pub(crate) fn check(
    text: &str,
    purpose: Purpose,
    author: Author,
    around: &Surroundings<'_>,
) -> Result<PathBuf, Refusal> {
    let shown = quoted(text);
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new(
            format!("{shown} is not a path"),
            "a path, relative to the project directory or absolute",
        ));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Refusal::new(
            format!("{shown}: `~` is not expanded"),
            "a path, relative to the project directory or absolute",
        ));
    }
    let path = normalised(&around.project.join(text));
    let on_disk = visible(&path.to_string_lossy()).into_owned();
    if path.parent().is_none() {
        return Err(Refusal::new(
            format!("{shown} is the whole file system"),
            "a directory of its own",
        ));
    }
    if around.home.is_some_and(|home| home.starts_with(&path)) {
        return Err(Refusal::new(
            format!("{shown} is or holds the home directory"),
            "a directory below it",
        ));
    }
    let meta = std::fs::metadata(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::new(
            format!("the directory {shown} does not exist"),
            "an existing directory",
        )
        .help(format!("create it: mkdir -p {}", shell_word(&on_disk))),
        _ => Refusal::new(
            format!("the directory {shown} cannot be opened: {error}"),
            "a directory that Otto may open",
        ),
    })?;
    if !meta.is_dir() {
        return Err(Refusal::new(
            format!("{shown} is not a directory"),
            "an existing directory",
        ));
    }
    let real = std::fs::canonicalize(&path).map_err(|error| {
        Refusal::new(
            format!("the directory {shown} cannot be resolved: {error}"),
            "a directory that Otto may open",
        )
    })?;
    if real != path {
        return Err(Refusal::new(
            format!("{shown} is reached through a symbolic link"),
            "the directory itself",
        )
        .help(format!(
            "name it directly: {}",
            visible(&real.to_string_lossy())
        )));
    }
    check_otto_files(&shown, &path, purpose, around)?;
    if author == Author::Project
        && !path.starts_with(around.project)
        && !around.allowed.iter().any(|dir| path.starts_with(dir))
    {
        return Err(Refusal::new(
            format!("{shown} is outside of the project"),
            "a directory inside the project: a project file may not open others",
        )
        .help(format!(
            "if that is wanted, the operator adds it to config.yml: directories: [{on_disk}]"
        )));
    }
    Ok(path)
}

fn check_otto_files(
    shown: &str,
    path: &Path,
    purpose: Purpose,
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    let own = [
        (Some(around.state_dir), "the state directory"),
        (around.user_state_dir, "the user's state"),
        (around.config_dir, "the operator's configuration"),
    ];
    for (dir, what) in own {
        let Some(dir) = dir else { continue };
        let protected = around
            .protected
            .iter()
            .any(|fenced| dir.starts_with(fenced));
        if dir.starts_with(path) && !protected {
            let place = visible(&dir.to_string_lossy()).into_owned();
            return Err(Refusal::new(format!("{shown} holds {what} ({place})"), "a directory without Otto's own files").help(
                "choose a directory below or beside it, or move the state directory with OTTO_STATE_DIR",
            ));
        }
        if path.starts_with(dir) {
            return Err(Refusal::new(
                format!("{shown} is inside {what}"),
                "a directory without Otto's own files",
            ));
        }
    }
    if purpose == Purpose::WorkingDir && path.components().any(|part| part.as_os_str() == ".otto") {
        return Err(Refusal::new(
            format!("{shown} is inside `.otto`"),
            "a directory outside of `.otto`, which is read-only to every agent",
        ));
    }
    Ok(())
}

/// The path without `.` and `..`, by its letters alone; that it holds no link is checked afterwards.
pub(crate) fn normalised(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// A path as a shell takes it.
fn shell_word(path: &str) -> String {
    let is_plain = path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    if is_plain {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}
