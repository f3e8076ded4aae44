//! Whose state directory it is.
//!
//! At its default place the state directory lies inside the project, and a project may come from anybody. A
//! database that came with it would speak of invocations that never were, and Otto would go on with them. So
//! Otto marks each state directory it makes, and remembers the mark in the user's state directory, which no
//! project can write. A directory with state and without a known mark is refused.
//!
//! A directory that the operator named needs no mark: naming it is the word that counts.
//!
//! Invariant: nothing below a directory that is refused was opened or changed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::port::store::StoreError;

/// The mark below the state directory.
const MARK: &str = "owner";

/// What only a used state directory holds.
const SIGNS_OF_USE: [&str; 4] = ["otto.db", "otto.db-wal", "sessions", "nodes"];

/// BOUND: a mark is a UUID.
const MARK_BYTES: usize = 36;

/// Makes sure that a state directory at its default place is this user's; makes and marks it if it is new.
/// `mark` is the mark of a new one.
///
/// # Errors
/// When it holds state that Otto did not make for this user, is reached through a link, belongs to somebody
/// else, or cannot be written.
pub(crate) fn claim(
    state_dir: &Path,
    user_state_dir: Option<&Path>,
    mark: &str,
) -> Result<(), StoreError> {
    let shown = state_dir.display();
    let Some(user_state_dir) = user_state_dir else {
        return Err(StoreError::Invalid {
            detail: Arc::from(format!(
                "use the state directory `{shown}` of the project: neither HOME nor XDG_STATE_HOME is set, so nobody can tell whose it is; set one of them, or name a state directory with OTTO_STATE_DIR"
            )),
        });
    };
    let owned = user_state_dir.join("owned");
    make_dir(&owned)?;
    let own_uid = metadata(&owned)?.uid();
    // `var` and `var/otto`: both may have come with the project.
    for dir in [state_dir.parent(), Some(state_dir)].into_iter().flatten() {
        match fs::symlink_metadata(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error, "look at", dir)),
            Ok(meta) if !meta.is_dir() => {
                return Err(foreign(dir, "is a link or a file and no directory"));
            }
            Ok(meta) if dir == state_dir && meta.uid() != own_uid => {
                return Err(foreign(dir, "belongs to another user"));
            }
            Ok(_) => {}
        }
    }
    if read_mark(state_dir).is_some_and(|mark| owned.join(mark).is_file()) {
        return Ok(());
    }
    if let Some(sign) = SIGNS_OF_USE
        .iter()
        .find(|name| fs::symlink_metadata(state_dir.join(name)).is_ok())
    {
        return Err(foreign(
            state_dir,
            &format!("holds `{sign}`, which Otto did not make here for this user"),
        ));
    }
    make_dir(state_dir)?;
    // What is kept here is of this user alone: it never goes into the project's repository.
    write_new(&state_dir.join(".gitignore"), b"*\n")?;
    // First the user's side: a mark that nobody remembers would lock the directory.
    write_new(&owned.join(mark), state_dir.as_os_str().as_encoded_bytes())?;
    let _ = fs::remove_file(state_dir.join(MARK));
    write_new(&state_dir.join(MARK), mark.as_bytes())
}

/// The mark of a directory, if it has one that could be Otto's.
fn read_mark(state_dir: &Path) -> Option<String> {
    let path = state_dir.join(MARK);
    if !fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let mut mark = String::new();
    let file = OpenOptions::new().read(true).open(path).ok()?;
    file.take(MARK_BYTES as u64 + 1)
        .read_to_string(&mut mark)
        .ok()?;
    let is_mark =
        mark.len() == MARK_BYTES && mark.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_mark.then_some(mark)
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| failed(&error, "make the directory", path))
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(failed(&error, "write", path))
        }
        _ => Ok(()),
    }
}

fn metadata(path: &Path) -> Result<fs::Metadata, StoreError> {
    fs::metadata(path).map_err(|error| failed(&error, "look at", path))
}

fn foreign(dir: &Path, why: &str) -> StoreError {
    let shown: PathBuf = dir.to_owned();
    refused(format!(
        "use the state directory of the project: `{}` {why}; it was not touched. If it came with the project, move it away; if it is yours, name it: OTTO_STATE_DIR={}",
        shown.display(),
        shown.display()
    ))
}

fn refused(detail: String) -> StoreError {
    StoreError::Damaged {
        detail: Arc::from(detail),
    }
}

fn failed(error: &std::io::Error, attempted: &str, path: &Path) -> StoreError {
    let detail = Arc::from(format!("{attempted} `{}`: {error}", path.display()));
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { detail },
        _ => StoreError::ReadOnly { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ONE: &str = "0190b3c2-7d4e-7abc-8def-0123456789ab";
    const TWO: &str = "0190b3c2-7d4e-7abc-8def-ba9876543210";

    struct World {
        base: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            Self {
                base: tempfile::tempdir().unwrap(),
            }
        }

        fn state(&self) -> PathBuf {
            self.base.path().join("project/var/otto")
        }

        fn claim(&self, mark: &str) -> Result<(), StoreError> {
            claim(&self.state(), Some(&self.base.path().join("user")), mark)
        }
    }

    #[test]
    fn a_new_directory_is_marked_and_known_from_then_on() {
        let world = World::new();
        world.claim(ONE).unwrap();
        fs::write(world.state().join("otto.db"), "x").unwrap();
        world.claim(TWO).unwrap();
        assert_eq!(fs::read_to_string(world.state().join(MARK)).unwrap(), ONE);
        assert_eq!(
            fs::read_to_string(world.state().join(".gitignore")).unwrap(),
            "*\n"
        );
        // A project that was moved is still this user's.
        let (from, to) = (
            world.base.path().join("project"),
            world.base.path().join("moved"),
        );
        fs::rename(from, &to).unwrap();
        claim(
            &to.join("var/otto"),
            Some(&world.base.path().join("user")),
            TWO,
        )
        .unwrap();
    }

    #[test]
    fn what_came_with_the_project_is_refused_and_not_touched() {
        for sign in SIGNS_OF_USE {
            let world = World::new();
            fs::create_dir_all(world.state()).unwrap();
            fs::write(world.state().join(sign), "planted").unwrap();
            fs::write(world.state().join(MARK), ONE).unwrap();
            let error = world.claim(TWO).unwrap_err().to_string();
            assert!(
                error.contains(sign) && error.contains("OTTO_STATE_DIR="),
                "{error}"
            );
            assert_eq!(
                fs::read_to_string(world.state().join(sign)).unwrap(),
                "planted"
            );
            assert_eq!(fs::read_to_string(world.state().join(MARK)).unwrap(), ONE);
        }
    }

    #[test]
    fn a_mark_that_is_a_path_or_another_users_proves_nothing() {
        for mark in ["../../../../etc/passwd", "", ONE] {
            let world = World::new();
            fs::create_dir_all(world.state()).unwrap();
            fs::write(world.state().join("otto.db"), "planted").unwrap();
            fs::write(world.state().join(MARK), mark).unwrap();
            world.claim(TWO).unwrap_err();
        }
    }

    #[test]
    fn links_are_refused() {
        for linked in ["project/var", "project/var/otto"] {
            let world = World::new();
            let target = world.base.path().join("elsewhere");
            fs::create_dir_all(&target).unwrap();
            let link = world.base.path().join(linked);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(&target, &link).unwrap();
            let error = world.claim(ONE).unwrap_err().to_string();
            assert!(error.contains("is a link"), "{error}");
            assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_kill_file_alone_is_no_state() {
        let world = World::new();
        fs::create_dir_all(world.state()).unwrap();
        fs::write(world.state().join("KILL"), "stop").unwrap();
        world.claim(ONE).unwrap();
    }

    #[test]
    fn without_a_user_nobody_can_tell() {
        let world = World::new();
        let error = claim(&world.state(), None, ONE).unwrap_err().to_string();
        assert!(error.contains("XDG_STATE_HOME"), "{error}");
        assert!(!world.state().exists());
    }
}
