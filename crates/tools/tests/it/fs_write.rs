//! `fs.write`: atomic, with backup, and nothing lost when it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use crate::world::World;

#[test]
fn it_creates_replaces_and_leaves_alone() {
    let world = World::new();
    let answer = world.ok("fs.write", json!({"path": "a/b/c.txt", "content": "one"}));
    assert_eq!(
        answer,
        "created `a/b/c.txt` with 3 bytes, and 2 directories"
    );
    assert_eq!(world.get("a/b/c.txt"), "one");
    let answer = world.ok("fs.write", json!({"path": "a/b/c.txt", "content": "two"}));
    assert_eq!(
        answer,
        "replaced `a/b/c.txt` with 3 bytes; the old content is in `c.txt.bak` beside it"
    );
    let answer = world.ok("fs.write", json!({"path": "a/b/c.txt", "content": "two"}));
    assert_eq!(
        answer,
        "`a/b/c.txt` already has exactly this content (3 bytes); nothing was changed"
    );
    assert_eq!(
        (world.get("a/b/c.txt"), world.get("a/b/c.txt.bak")),
        ("two".to_owned(), "one".to_owned())
    );
    assert_eq!(
        world.ok("fs.write", json!({"path": "empty", "content": ""})),
        "created `empty` with 0 bytes"
    );
    world.ok(
        "fs.write",
        json!({"path": "./x//../ünï 🦀", "content": "ok"}),
    );
    assert_eq!(world.get("ünï 🦀"), "ok");
    assert_eq!(world.names(""), ["a", "empty", "ünï 🦀"]);
    assert_eq!(world.names("a/b"), ["c.txt", "c.txt.bak"]);
}

#[test]
fn backups_are_kept_as_the_settings_say() {
    let mut world = World::with_files(&[("f", "0")]);
    let write = |world: &World, n: usize| {
        world.ok("fs.write", json!({"path": "f", "content": n.to_string()}))
    };
    world.set("fs.write", r#"{"backup": "off"}"#);
    assert_eq!(
        write(&world, 1),
        "replaced `f` with 1 byte; no backup was kept"
    );
    assert_eq!(world.names(""), ["f"]);
    world.set("fs.write", r#"{"backup": "numbered"}"#);
    for n in 2..=12 {
        write(&world, n);
    }
    let mut expected: Vec<String> = (2..=9).map(|n| format!("f.bak.{n}")).collect();
    expected.splice(0..0, ["f".to_owned(), "f.bak".to_owned()]);
    assert_eq!(world.names(""), expected);
    // The first is never replaced, the last holds the newest.
    assert_eq!(
        (
            world.get("f.bak"),
            world.get("f.bak.8"),
            world.get("f.bak.9")
        ),
        ("1".into(), "8".into(), "11".into())
    );
    world.set("fs.write", r#"{"backup": "sometimes"}"#);
    let error = world
        .call("fs.write", json!({"path": "f", "content": "x"}))
        .unwrap_err();
    assert_eq!(
        error.kind,
        otto_core::port::tool::ToolErrorKind::ForOperator
    );
}

#[test]
fn a_backup_that_cannot_be_made_stops_the_write() {
    let world = World::with_files(&[("f", "old"), ("f.bak/x", "")]);
    let message = world.err("fs.write", json!({"path": "f", "content": "new"}));
    assert!(message.contains("backup"), "{message}");
    assert_eq!(world.get("f"), "old");
    assert_eq!(world.names(""), ["f", "f.bak"]);
}

#[test]
fn modes_are_kept_and_never_widened() {
    let world = World::with_files(&[("run.sh", "#!"), ("key", "k"), ("open", "o")]);
    for (name, mode) in [("run.sh", 0o755), ("key", 0o600), ("open", 0o666)] {
        fs::set_permissions(world.wd(name), fs::Permissions::from_mode(mode)).unwrap();
        world.ok("fs.write", json!({"path": name, "content": "new"}));
        let now = fs::metadata(world.wd(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(now, mode, "{name}");
    }
    fs::set_permissions(world.wd("run.sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    world.ok("fs.write", json!({"path": "run.sh", "content": "newer"}));
    assert_eq!(
        fs::metadata(world.wd("run.sh"))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o755,
        "no set-uid bit"
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let mut world = World::with_files(&[("dir/a", ""), ("file", "")]);
    for (path, part) in [
        ("dir", "it is a directory"),
        (".", "it is a directory"),
        ("new/", "it is a directory"),
        ("file/x", "not a directory"),
        ("a\nb", "control character"),
        ("../x", "outside the directory"),
        ("/x", "absolute"),
        ("", "empty"),
    ] {
        let message = world.err("fs.write", json!({ "path": path, "content": "x" }));
        assert!(message.contains(part), "{path}: {message}");
    }
    let message = world.err("fs.write", json!({"path": "n".repeat(254), "content": "x"}));
    assert!(message.contains("too long"), "{message}");
    let deep = "d/".repeat(70) + "f";
    assert!(
        world
            .err("fs.write", json!({"path": deep, "content": "x"}))
            .contains("too long")
    );
    world.set("fs.write", r#"{"max_bytes": 4}"#);
    world.ok("fs.write", json!({"path": "four", "content": "1234"}));
    assert!(
        world
            .err("fs.write", json!({"path": "five", "content": "12345"}))
            .contains("limit of 4 bytes")
    );
    assert_eq!(world.names(""), ["dir", "file", "four"]);
}

#[test]
fn writers_at_the_same_time_never_mix() {
    let world = World::with_files(&[("f", "start")]);
    let dir = otto_sandbox::Dir::open(
        &fs::canonicalize(world.wd("")).unwrap(),
        otto_sandbox::Access::ReadWrite,
    )
    .unwrap();
    let options = otto_sandbox::dir::WriteOptions {
        backup: otto_sandbox::dir::Backup::Last,
        expected: None,
    };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                for round in 0..100 {
                    let content = format!("{writer}-{round};").repeat(500);
                    dir.write_atomic("f", content.as_bytes(), options).unwrap();
                }
            });
        }
        for _ in 0..2_000 {
            let seen = world.get("f");
            let first = seen.split(';').next().unwrap();
            assert!(
                seen == "start" || seen == format!("{first};").repeat(500),
                "a torn file: {seen:.40}"
            );
        }
    });
    assert_eq!(world.names(""), ["f", "f.bak"]);
}

/// Set in the child of the next test.
const CHILD: &str = "OTTO_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_the_old_file() {
    if std::env::var_os(CHILD).is_some() {
        // Files of this process may have 8 KiB and the signal for that is ignored: write gives EFBIG, as
        // it gives ENOSPC on a full disk.
        let world = World::with_files(&[("f", "old")]);
        let message = world.err(
            "fs.write",
            json!({"path": "f", "content": "x".repeat(1_000_000)}),
        );
        assert!(message.contains("nothing was changed"), "{message}");
        assert_eq!(world.get("f"), "old");
        world.err(
            "fs.write",
            json!({"path": "new/g", "content": "x".repeat(1_000_000)}),
        );
        world.ok("fs.write", json!({"path": "f", "content": "small"}));
        assert_eq!(world.names(""), ["f", "f.bak", "new"]);
        assert!(world.names("new").is_empty());
        println!("the child has run");
        return;
    }
    let child = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact fs_write::a_full_disk_leaves_the_old_file --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned()
        + &String::from_utf8_lossy(&child.stderr);
    assert!(
        child.status.success() && output.contains("the child has run"),
        "{output}"
    );
}
