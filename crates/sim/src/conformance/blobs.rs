//! What artifact storage means: the cases that every implementation of [`Blobs`] passes.
//!
//! Invariants: a reference gives the bytes it was made for, or an error; a name is never overwritten; no
//! name and no reference reaches anything but artifacts.

use std::sync::Arc;

use otto_core::port::store::{ArtifactDraft, ArtifactKind, ArtifactRef, Blobs, StoreError};
use otto_core::{InvocationId, SessionId, Timestamp};

use crate::conformance::{Case, block_on, run_all};

/// Where the cases of artifact storage happen.
pub trait World {
    /// Opens the storage of this world: the same artifacts each time, none at first. May be opened more
    /// than once at a time.
    fn open(&self) -> Arc<dyn Blobs>;
}

/// Runs the suite: `make` brings a new world per case.
///
/// # Panics
/// If the storage does otherwise; the message names the cases.
pub fn run(make: impl FnMut() -> Box<dyn World>) {
    let cases = CASES
        .iter()
        .map(|(name, test)| Case { name, test: *test })
        .collect::<Vec<Case<dyn World>>>();
    run_all(&cases, make);
}

/// A case: what it shows, and its test.
type Entry = (&'static str, fn(&dyn World));

const CASES: &[Entry] = &[
    (
        "what was stored is read, listed, and there after a restart",
        stored,
    ),
    ("storing the same again is one artifact", repeated),
    (
        "another content under the same name is another version",
        versions,
    ),
    ("sessions, invocations and kinds do not mix", apart),
    (
        "names that are not plain file names are refused",
        hostile_names,
    ),
    ("a reference that does not fit is refused", wrong_references),
    (
        "contents of every size come back with the right checksum",
        sizes,
    ),
    ("many callers store at once", at_once),
];

const NOW: Timestamp = Timestamp::from_millis(1_795_435_200_000);

fn session(n: u8) -> SessionId {
    SessionId::from_parts(NOW, [n; 10])
}

fn draft(name: &str, content: &[u8]) -> ArtifactDraft {
    ArtifactDraft {
        session: session(1),
        invocation: InvocationId::from_parts(NOW, [1; 10]),
        kind: ArtifactKind::Result,
        name: Arc::from(name),
        content: Arc::from(content),
    }
}

fn put(blobs: &dyn Blobs, draft: ArtifactDraft) -> ArtifactRef {
    block_on(blobs.put(draft)).expect("put")
}

fn get(blobs: &dyn Blobs, artifact: &ArtifactRef) -> Result<Vec<u8>, StoreError> {
    block_on(blobs.get(artifact.clone()))
}

fn list(blobs: &dyn Blobs, n: u8) -> Vec<ArtifactRef> {
    block_on(blobs.list(session(n))).expect("list")
}

/// SHA-256 of `abc`. Source: FIPS 180-2, appendix B.1.
pub(super) const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn stored(world: &dyn World) {
    let blobs = world.open();
    let artifact = put(&*blobs, draft("report.md", b"abc"));
    assert_eq!(
        (artifact.session, artifact.kind, artifact.size_bytes),
        (session(1), ArtifactKind::Result, 3)
    );
    assert_eq!(&*artifact.sha256, ABC);
    assert!(artifact.path.contains("report.md"), "{}", artifact.path);
    assert_eq!(get(&*blobs, &artifact).expect("get"), b"abc");
    assert_eq!(list(&*blobs, 1), std::slice::from_ref(&artifact));
    drop(blobs);
    let blobs = world.open();
    assert_eq!(get(&*blobs, &artifact).expect("get"), b"abc");
    assert_eq!(list(&*blobs, 1), [artifact]);
    assert_eq!(list(&*blobs, 9), []);
}

fn repeated(world: &dyn World) {
    let (blobs, other) = (world.open(), world.open());
    let artifact = put(&*blobs, draft("r", b"abc"));
    assert_eq!(put(&*blobs, draft("r", b"abc")), artifact);
    assert_eq!(put(&*other, draft("r", b"abc")), artifact);
    assert_eq!(list(&*blobs, 1), [artifact]);
}

fn versions(world: &dyn World) {
    let blobs = world.open();
    let first = put(&*blobs, draft("r", b"one"));
    let second = put(&*blobs, draft("r", b"two"));
    let third = put(&*blobs, draft("r", b"three"));
    assert_eq!(put(&*blobs, draft("r", b"two")), second);
    assert_eq!(get(&*blobs, &first).expect("get"), b"one");
    assert_eq!(get(&*blobs, &second).expect("get"), b"two");
    assert_eq!(get(&*blobs, &third).expect("get"), b"three");
    assert_eq!(list(&*blobs, 1).len(), 3);
}

fn apart(world: &dyn World) {
    let blobs = world.open();
    let mut all = Vec::new();
    for (number, kind) in [
        ArtifactKind::Transcript,
        ArtifactKind::Result,
        ArtifactKind::Intermediate,
    ]
    .into_iter()
    .enumerate()
    {
        let n = u8::try_from(number).expect("few kinds");
        for owner in [1, 2] {
            let mut draft = draft("same", &[n, owner]);
            (draft.kind, draft.session) = (kind, session(owner));
            all.push((put(&*blobs, draft.clone()), draft.content.to_vec()));
            draft.invocation = InvocationId::from_parts(NOW, [9; 10]);
            draft.content = Arc::from(&[n, owner, 9][..]);
            all.push((put(&*blobs, draft.clone()), draft.content.to_vec()));
        }
    }
    for (artifact, content) in &all {
        assert_eq!(get(&*blobs, artifact).expect("get"), *content);
    }
    let listed = list(&*blobs, 1);
    assert_eq!((listed.len(), list(&*blobs, 2).len()), (6, 6));
    assert!(listed.is_sorted_by(|a, b| a.path < b.path), "by name");
}

fn hostile_names(world: &dyn World) {
    let blobs = world.open();
    let long = "n".repeat(101);
    for name in [
        "",
        ".",
        "..",
        "../up",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "nul\0",
        ".hidden",
        "sp ace",
        "ü",
        "a\nb",
        &long,
    ] {
        let answer = block_on(blobs.put(draft(name, b"x")));
        assert!(
            matches!(answer, Err(StoreError::Invalid { .. })),
            "{name:?}: {answer:?}"
        );
    }
    assert_eq!(list(&*blobs, 1), []);
    put(&*blobs, draft(&"n".repeat(100), b"x"));
}

fn wrong_references(world: &dyn World) {
    let blobs = world.open();
    let artifact = put(&*blobs, draft("r", b"abc"));
    for path in [
        "",
        "..",
        "../../otto.db",
        "/etc/passwd",
        "otto.db",
        ".tmp-1",
        "r",
        "a\0b",
    ] {
        let wrong = ArtifactRef {
            path: Arc::from(path),
            ..artifact.clone()
        };
        assert!(
            matches!(get(&*blobs, &wrong), Err(StoreError::NotFound { .. })),
            "{path:?}"
        );
    }
    let wrong = ArtifactRef {
        session: session(2),
        ..artifact.clone()
    };
    assert!(matches!(
        get(&*blobs, &wrong),
        Err(StoreError::NotFound { .. })
    ));
    let wrong = ArtifactRef {
        size_bytes: 4,
        ..artifact.clone()
    };
    assert!(matches!(
        get(&*blobs, &wrong),
        Err(StoreError::Damaged { .. })
    ));
    let wrong = ArtifactRef {
        size_bytes: u64::MAX,
        ..artifact.clone()
    };
    assert!(matches!(
        get(&*blobs, &wrong),
        Err(StoreError::Damaged { .. })
    ));
    let wrong = ArtifactRef {
        sha256: Arc::from("0".repeat(64)),
        ..artifact
    };
    assert!(matches!(
        get(&*blobs, &wrong),
        Err(StoreError::Damaged { .. })
    ));
}

fn sizes(world: &dyn World) {
    // SHA-256 of a million letters `a`. Source: FIPS 180-2, appendix B.3.
    const MILLION: &str = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let blobs = world.open();
    let artifact = put(&*blobs, draft("million", &vec![b'a'; 1_000_000]));
    assert_eq!(&*artifact.sha256, MILLION);
    for size in [
        0_usize, 1, 4_095, 4_096, 65_537, 262_143, 262_144, 3_000_001,
    ] {
        let content: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at % 251).expect("below 256"))
            .collect();
        let artifact = put(&*blobs, draft(&format!("size-{size}"), &content));
        assert_eq!(artifact.size_bytes, size as u64);
        assert!(
            get(&*blobs, &artifact).expect("get") == content,
            "{size} bytes come back"
        );
    }
}

fn at_once(world: &dyn World) {
    let (blobs, other) = (world.open(), world.open());
    let stored: Vec<ArtifactRef> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16_u8)
            .map(|number| {
                let blobs = if number % 2 == 0 {
                    blobs.clone()
                } else {
                    other.clone()
                };
                // Four contents under one name, four times each.
                scope.spawn(move || put(&*blobs, draft("contended", &[number % 4; 1_000])))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a caller"))
            .collect()
    });
    for (number, artifact) in stored.iter().enumerate() {
        assert_eq!(get(&*blobs, artifact).expect("get")[0] as usize, number % 4);
    }
    assert_eq!(list(&*blobs, 1).len(), 4);
}
