//! Where the self-test takes place: a small directory tree of Otto's own, removed afterwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The tree. Removed when dropped.
#[derive(Debug)]
pub(super) struct Scene {
    root: PathBuf,
}

/// A file in the working directory.
pub(super) const READABLE: &str = "readable";
/// A file that a worker which may write creates.
pub(super) const WRITTEN: &str = "written";

impl Scene {
    /// Makes the tree below `scratch`.
    pub(super) fn new(scratch: &Path) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let scratch = scratch.canonicalize()?;
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sandbox-self-test-{}-{number}", std::process::id());
        let scene = Self {
            root: scratch.join(name),
        };
        // What is left of a process that had the same number and was killed.
        let _ = fs::remove_dir_all(&scene.root);
        fs::create_dir(&scene.root)?;
        fs::create_dir(scene.working_dir())?;
        fs::create_dir(scene.outside())?;
        fs::write(scene.working_dir().join(READABLE), "inside")?;
        fs::write(scene.canary(), "outside")?;
        Ok(scene)
    }

    /// What the workers are granted.
    pub(super) fn working_dir(&self) -> PathBuf {
        self.root.join("work")
    }

    /// What they are not.
    pub(super) fn outside(&self) -> PathBuf {
        self.root.join("outside")
    }

    /// A file that a process of the exec sandbox holds a lock on while it lives.
    pub(super) fn lock(&self) -> PathBuf {
        self.working_dir().join("lock")
    }

    /// A file that this process can read and no worker may.
    pub(super) fn canary(&self) -> PathBuf {
        self.outside().join("canary")
    }

    /// A file that no worker may create.
    pub(super) fn planted(&self) -> PathBuf {
        self.outside().join("planted")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Left-overs are harmless and are removed by the next process with this number.
        let _ = fs::remove_dir_all(&self.root);
    }
}
