//! Files of contexts: what is read is what was written or an error, and nothing is left of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use otto_core::port::contexts::{ContextEntries, ContextFile};
use otto_core::port::store::StoreError;

use crate::fixture::open;

fn entries(fill: u8) -> ContextEntries {
    ContextEntries::from([
        (Arc::from(""), Arc::from([])),
        (Arc::from("k\u{e9}y"), Arc::from([fill; 100_000])),
        (Arc::from("other"), Arc::from([0, 255, fill])),
    ])
}

/// Everything below `contexts/`, directories first.
fn below_contexts(state: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![state.join("contexts")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn path_of(state: &Path, ContextFile(number): ContextFile) -> PathBuf {
    let found = below_contexts(state).into_iter();
    let mut found = found.filter(|path| path.file_name().unwrap() == number.to_string().as_str());
    found.next().unwrap()
}

#[test]
fn what_was_written_is_read_by_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let files = store.context_files();
    assert!(below_contexts(dir.path()).is_empty(), "made when needed");
    let (first, second) = (
        files.write(&entries(1)).unwrap(),
        files.write(&entries(2)).unwrap(),
    );
    assert_eq!(files.read(first).unwrap(), entries(1));
    assert_eq!(files.read(second).unwrap(), entries(2));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir.path().join("contexts")), 0o700);
    for path in below_contexts(dir.path()) {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
    files.remove(first);
    assert!(matches!(files.read(first), Err(StoreError::Damaged { .. })));
    drop(files);
    assert!(
        below_contexts(dir.path()).is_empty(),
        "they go with the store"
    );
}

#[test]
fn a_file_that_is_damaged_missing_or_another_is_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let files = store.context_files();
    let (one, two) = (
        files.write(&entries(1)).unwrap(),
        files.write(&entries(2)).unwrap(),
    );
    let path = path_of(dir.path(), one);
    let whole = fs::read(&path).unwrap();
    let refused = |content: &[u8], what: &str| {
        fs::write(&path, content).unwrap();
        let error = files.read(one).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("contexts/"), "{what}: {error}");
    };
    for at in [0, 8, 16, 24, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        refused(&flipped, &format!("byte {at}"));
    }
    for length in [0, 7, 31, 32, 47, whole.len() - 1] {
        refused(&whole[..length], &format!("the first {length} bytes"));
    }
    refused(&[&*whole, b"x"].concat(), "a byte more");
    refused(
        &fs::read(path_of(dir.path(), two)).unwrap(),
        "the file of another context",
    );
    fs::remove_file(&path).unwrap();
    let error = files.read(one).unwrap_err();
    assert!(error.to_string().contains("the file is missing"), "{error}");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(files.read(one), Err(StoreError::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(files.read(one).is_err());
    assert_eq!(files.read(two).unwrap(), entries(2));
}

#[test]
fn what_a_dead_process_left_goes_and_what_a_living_one_has_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dead = open(dir.path(), "dead");
    let left = dead.context_files();
    left.write(&entries(1)).unwrap();
    // As a crash leaves it: nobody removes the files.
    std::mem::forget(left);
    drop(dead);
    let alive = open(dir.path(), "alive");
    assert!(below_contexts(dir.path()).is_empty(), "removed at start");
    let files = alive.context_files();
    let kept = files.write(&entries(2)).unwrap();
    let next = open(dir.path(), "next");
    assert_eq!(files.read(kept).unwrap(), entries(2));
    drop(next);
    assert_eq!(files.read(kept).unwrap(), entries(2));
}

#[test]
fn a_place_that_is_no_directory_is_refused_and_not_followed() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path(), "a");
    std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("contexts")).unwrap();
    let error = store.context_files().write(&entries(1)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}
