//! Names swapped while they are resolved.
//!
//! A second thread exchanges a directory with a link to another one outside, as fast as it can, while the
//! tools' own way of opening and a naive one run side by side. The number of tries is fixed, so the test is
//! bounded; the naive control must escape at least once, or the race was none.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use otto_sandbox::dir::{Backup, WriteOptions};
use otto_sandbox::{Access, Dir};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::world::{SECRET, World};

const READS: usize = 400_000;
const WRITES: usize = 2_000;

/// `wd/sub` is a directory with `secret.txt` = "inside"; `wd/link` leads to `wd-evil` with the secret.
fn racing() -> World {
    let world = World::with_files(&[("sub/secret.txt", "inside")]);
    symlink(world.outside("wd-evil"), world.wd("link")).unwrap();
    world
}

/// Runs `body` while the two names are exchanged.
fn while_swapping(world: &World, body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(
                    CWD,
                    world.wd("sub"),
                    CWD,
                    world.wd("link"),
                    RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        // Also when an assertion fails: the scope waits for the other thread.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        body();
    });
}

fn read(dir: &Dir, path: &str) -> Option<String> {
    let open = dir.open_file(path).ok()?;
    std::io::read_to_string(open.file).ok()
}

#[test]
fn reads_never_escape_while_the_naive_way_does() {
    let world = racing();
    let dir = Dir::open(&fs::canonicalize(world.wd("")).unwrap(), Access::ReadOnly).unwrap();
    let (mut inside, mut naive_escapes) = (0, 0);
    while_swapping(&world, || {
        for i in 0..READS {
            // Both spellings of the same file; the second makes the kernel walk up, which it must recheck.
            let path = if i % 2 == 0 {
                "sub/secret.txt"
            } else {
                "sub/../sub/secret.txt"
            };
            match read(&dir, path).as_deref() {
                Some("inside") => inside += 1,
                Some(other) => panic!("try {i} read {other:?}"),
                None => {}
            }
            // Check, then use: what a check of the resolved path comes to.
            let naive = world.wd("sub/secret.txt");
            if i % 8 == 0
                && fs::canonicalize(&naive)
                    .is_ok_and(|real| real.starts_with(fs::canonicalize(world.wd("")).unwrap()))
                && fs::read_to_string(&naive).is_ok_and(|content| content == SECRET)
            {
                naive_escapes += 1;
            }
        }
    });
    assert!(inside > 0, "the file was never there");
    assert!(naive_escapes > 0, "the race was none");
}

#[test]
fn writes_never_escape() {
    let world = racing();
    let dir = Dir::open(&fs::canonicalize(world.wd("")).unwrap(), Access::ReadWrite).unwrap();
    let options = WriteOptions {
        backup: Backup::Off,
        expected: None,
    };
    // The control: while nothing is swapped, the same write works. How many succeed in the race is up to the
    // scheduler.
    dir.write_atomic("sub/secret.txt", b"before the race", options)
        .unwrap();
    while_swapping(&world, || {
        for i in 0..WRITES {
            let content = format!("written {i}");
            // Refused or done, but never outside: that is looked at below.
            let _ = dir.write_atomic("sub/secret.txt", content.as_bytes(), options);
        }
    });
    let outside: Vec<_> = fs::read_dir(world.outside("wd-evil")).unwrap().collect();
    assert_eq!(outside.len(), 1, "something was created outside");
    assert_eq!(
        fs::read_to_string(world.outside("wd-evil/secret.txt")).unwrap(),
        SECRET
    );
    // Nothing temporary is left on either side.
    let inside = if world.wd("sub").is_symlink() {
        "link"
    } else {
        "sub"
    };
    assert_eq!(world.names(inside), ["secret.txt"]);
}

#[test]
fn a_target_that_changes_its_kind_is_never_followed() {
    let world = World::with_files(&[("file", "old")]);
    symlink(world.outside("secret.txt"), world.wd("link")).unwrap();
    let dir = Dir::open(&fs::canonicalize(world.wd("")).unwrap(), Access::ReadWrite).unwrap();
    let options = WriteOptions {
        backup: Backup::Last,
        expected: None,
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Either name may be missing for a moment while a write swaps it.
                let _ = renameat_with(
                    CWD,
                    world.wd("file"),
                    CWD,
                    world.wd("link"),
                    RenameFlags::EXCHANGE,
                );
            }
        });
        for i in 0..WRITES {
            let _ = dir.write_atomic("file", format!("new {i}").as_bytes(), options);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        fs::read_to_string(world.outside("secret.txt")).unwrap(),
        SECRET
    );
}

#[test]
fn an_edit_of_a_version_that_is_gone_is_refused() {
    let world = World::with_files(&[("counter", "0")]);
    let dir = Dir::open(&fs::canonicalize(world.wd("")).unwrap(), Access::ReadWrite).unwrap();
    // Four writers that add one to a number, each from what it has read: none is lost.
    const EACH: usize = 50;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    // Bounded: each try fails only because another one won.
                    for _ in 0..10_000 {
                        let Ok(open) = dir.open_file("counter") else {
                            continue;
                        };
                        let now: usize = std::io::read_to_string(&open.file)
                            .unwrap()
                            .parse()
                            .unwrap();
                        let options = WriteOptions {
                            backup: Backup::Off,
                            expected: Some(&open),
                        };
                        if dir
                            .write_atomic("counter", (now + 1).to_string().as_bytes(), options)
                            .is_ok()
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(world.get("counter"), (4 * EACH).to_string());
    assert_eq!(world.names(""), ["counter"]);
}
