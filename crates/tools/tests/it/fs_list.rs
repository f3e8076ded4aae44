//! `fs.list`: lines, filters and bounds.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::world::World;

fn project() -> World {
    let world = World::with_files(&[
        (".gitignore", "target/\n*.log\n!keep.log\n"),
        (".git/config", ""),
        ("Cargo.toml", "[package]"),
        ("src/main.rs", "fn main() {}"),
        ("src/a/b/deep.rs", ""),
        ("target/out.bin", "x"),
        ("x.log", ""),
        ("keep.log", ""),
        ("src/.gitignore", "secret*\n"),
        ("src/secret.txt", ""),
    ]);
    symlink("src", world.wd("current")).unwrap();
    world
}

#[test]
fn one_level_is_listed_with_sizes_and_kinds() {
    let world = project();
    assert_eq!(
        world.ok("fs.list", json!({})),
        ".git/\n.gitignore\t24\nCargo.toml\t9\ncurrent@\nkeep.log\t0\nsrc/\n[fs.list: 6 entries]"
    );
    assert_eq!(
        world.ok("fs.list", json!({"path": "src", "hidden": false})),
        "src/a/\nsrc/main.rs\t12\n[fs.list: 2 entries]"
    );
    assert_eq!(
        world.ok("fs.list", json!({"path": "current/a/b"})),
        "current/a/b/deep.rs\t0\n[fs.list: 1 entry]"
    );
}

#[test]
fn depth_globs_and_ignored_files() {
    let world = project();
    let deep = world.ok("fs.list", json!({"depth": 9, "hidden": false}));
    assert!(
        deep.contains("src/a/b/deep.rs\t0\n") && !deep.contains("secret"),
        "{deep}"
    );
    assert_eq!(
        world.ok("fs.list", json!({"glob": "*.rs"})),
        "src/a/b/deep.rs\t0\nsrc/main.rs\t12\n[fs.list: 2 entries]"
    );
    assert_eq!(
        world.ok("fs.list", json!({"glob": ["*.rs", "!**/a/**"]})),
        "src/main.rs\t12\n[fs.list: 1 entry]"
    );
    let all = world.ok("fs.list", json!({"ignored": true, "depth": 2}));
    for name in [
        "target/out.bin\t1\n",
        "x.log\t0\n",
        "src/secret.txt\t0\n",
        ".git/config\t0\n",
    ] {
        assert!(all.contains(name), "{all}");
    }
    assert_eq!(
        world.ok("fs.list", json!({"glob": "*.nothing"})),
        "[fs.list: 0 entries in `.` (what .gitignore excludes is not shown)]"
    );
}

#[test]
fn it_is_bounded_and_says_so() {
    let mut world = World::new();
    for i in 0..50 {
        world.put(&format!("f{i:02}"), "");
    }
    world.set("fs.list", r#"{"max_entries": 10}"#);
    let listed = world.ok("fs.list", json!({}));
    assert_eq!(listed.lines().count(), 11);
    assert!(
        listed.contains("f09\t0\n") && listed.ends_with("or less `depth`]"),
        "{listed}"
    );
    for depth in [0, 33] {
        world.err("fs.list", json!({ "depth": depth }));
    }
    world.err("fs.list", json!({"path": "f01"}));
    world.err("fs.list", json!({"glob": "["}));
    world.err("fs.list", json!({"glob": vec!["a"; 100]}));
    world.err("fs.list", json!({"glob": "a".repeat(10_000)}));
}

#[test]
fn hostile_names_stay_on_their_line() {
    let world = World::new();
    world.put("a\nb", "");
    world.put("esc\u{1b}[2J", "");
    world.put("rtl\u{202e}txt.exe", "");
    let listed = world.ok("fs.list", json!({}));
    assert_eq!(
        listed,
        "a\\nb\t0\nesc\\u{1b}[2J\t0\nrtl\\u{202e}txt.exe\t0\n[fs.list: 3 entries]"
    );
}

#[test]
fn a_tree_deeper_than_the_walk_ends_with_a_note() {
    let world = World::new();
    let mut path = String::from("d");
    for _ in 0..150 {
        path.push_str("/d");
    }
    std::fs::create_dir_all(world.wd(&path)).unwrap();
    let found = world.ok("grep", json!({"pattern": "x"}));
    assert!(
        found.contains("1 file or directory could not be read"),
        "{found}"
    );
}
