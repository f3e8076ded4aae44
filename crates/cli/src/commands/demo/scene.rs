//! The directories of one demo: a project with two agents, a planted secret, an operator's configuration, and
//! a state directory. They go with the end of a demo that went well, unless somebody wants to look at them.
//!
//! Invariant: everything lies in one directory that was made for this demo and that only its owner can read.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use otto::load::PROJECT_AGENTS;

use crate::error::Failure;

/// The agents, as their files are written.
const AGENTS: [(&str, &str); 2] = [
    ("reporter", include_str!("reporter.yml")),
    ("spender", include_str!("spender.yml")),
];

/// The file with the secret, below the working directory.
pub(super) const SETTINGS: &str = "deploy.env";
/// The report, below the working directory.
pub(super) const REPORT: &str = "report.md";

/// The directories of one demo.
pub(super) struct Scene {
    pub(super) project: PathBuf,
    pub(super) work: PathBuf,
    pub(super) state: PathBuf,
    pub(super) operator: PathBuf,
    /// A credential of nobody, made for this demo.
    pub(super) secret: String,
}

impl Scene {
    /// Makes everything anew. `dir` is what the agent may read as `@src`.
    pub(super) fn build(dir: &Path) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::doing("make a directory for the demo", &error);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!("otto-demo-{}-{}", std::process::id(), since.as_millis());
        let base = fs::canonicalize(std::env::temp_dir())
            .map_err(failed)?
            .join(name);
        // Readable by the owner only, and fresh: a directory that somebody prepared is not used.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&base)
            .map_err(failed)?;
        let scene = Self {
            work: base.join("work"),
            state: base.join("state"),
            operator: base.join("operator.yml"),
            secret: secret(),
            project: base,
        };
        let agents = scene.project.join(PROJECT_AGENTS);
        for dir in [&scene.work, &agents] {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        for (name, text) in AGENTS {
            fs::write(agents.join(format!("{name}.yml")), text).map_err(failed)?;
        }
        // A JSON string is a YAML string, whatever the directory is called.
        let directories = serde_json::json!([dir.to_string_lossy()]);
        fs::write(
            &scene.operator,
            format!("enabled: true\ndirectories: {directories}\n"),
        )
        .map_err(failed)?;
        let settings = format!("REGION=north\nDEPLOY_TOKEN={}\n", scene.secret);
        fs::write(scene.work.join(SETTINGS), settings).map_err(failed)?;
        Ok(scene)
    }

    /// Removes it all.
    pub(super) fn remove(&self) -> std::io::Result<()> {
        fs::remove_dir_all(&self.project)
    }
}

/// A text of the form of a hosting service's token that is no token.
fn secret() -> String {
    // Digits, capitals and small letters in turn: whoever reads it sees that no person chose it.
    const KINDS: [&[u8; 10]; 3] = [b"0123456789", b"ABCDEFGHJK", b"mnpqrstuvw"];
    let mut text = "ghp_".to_owned();
    // Each `RandomState` has keys of its own: nobody can have written this text before.
    let mut random = RandomState::new().build_hasher().finish();
    for kind in KINDS.iter().cycle().take(36) {
        if random < 10 {
            random = RandomState::new().build_hasher().finish();
        }
        let digit = usize::try_from(random % 10).unwrap_or_default();
        text.push(char::from(kind[digit]));
        random /= 10;
    }
    text
}
