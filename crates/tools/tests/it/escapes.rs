//! Every spelling of a way out is refused, for reading, writing, listing and searching.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::world::{SECRET, World};

/// A world with every kind of link that leads out.
fn hostile() -> World {
    let world = World::with_files(&[("sub/inside.txt", "inside")]);
    let links = [
        ("abs", world.outside("secret.txt")),
        ("rel", "../secret.txt".into()),
        ("deep/rel", "../../secret.txt".into()),
        ("absdir", world.outside("wd-evil")),
        ("reldir", "../wd-evil".into()),
        ("one", "two".into()),
        ("two", "three".into()),
        ("three", "../secret.txt".into()),
        ("magic", "/proc/self/root".into()),
        ("magiccwd", "/proc/self/cwd".into()),
        ("loop", "loop".into()),
        ("back", "sub/../../secret.txt".into()),
    ];
    fs::create_dir(world.wd("deep")).unwrap();
    for (name, target) in links {
        symlink(target, world.wd(name)).unwrap();
    }
    world
}

fn spellings(world: &World) -> Vec<String> {
    let base = world.outside("");
    let base = base.to_str().unwrap().trim_end_matches('/');
    let mut all: Vec<String> = [
        "../secret.txt",
        "./../secret.txt",
        "sub/../../secret.txt",
        "sub/../../wd-evil/secret.txt",
        "../wd-evil/secret.txt",
        "nowhere/../../secret.txt",
        "sub//..//..//secret.txt",
        "abs",
        "rel",
        "deep/rel",
        "absdir/secret.txt",
        "reldir/secret.txt",
        "one",
        "back",
        "loop",
        "loop/x",
        "magic/etc/passwd",
        "magiccwd/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "/proc/self/root/etc/passwd",
        "@docs/../secret.txt",
        "@docs/../wd/sub/inside.txt",
        "@docs//../secret.txt",
        "@docs/./../secret.txt",
        "@../secret.txt",
        "@/secret.txt",
        "@nowhere/secret.txt",
        "@docs/..",
        "..",
        "../",
        "../..",
        "a\0b",
        "../secret.txt\0",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    all.push(format!("{base}/secret.txt"));
    all.push(format!("{base}/wd/../secret.txt"));
    all.push(format!("sub/{base}/secret.txt"));
    all.push(format!("{}secret.txt", "../".repeat(50)));
    all.push(format!("sub/{}", "a/".repeat(5_000)));
    all.push("x".repeat(5_000));
    all
}

#[test]
fn no_spelling_reads_lists_or_searches_outside() {
    let world = hostile();
    for path in spellings(&world) {
        let message = world.err("fs.read", json!({ "path": path }));
        assert!(!message.contains(SECRET), "{path}: {message}");
        if path.is_empty() {
            continue;
        }
        for answer in [
            world.call("grep", json!({ "pattern": "secret|root:", "path": path })),
            world.call("fs.list", json!({ "path": path })),
        ] {
            let error = answer.expect_err(&path);
            assert!(!error.message.contains(SECRET), "{path}: {error}");
        }
    }
}

#[test]
fn no_spelling_writes_outside() {
    let world = hostile();
    let before = snapshot(&world);
    for path in spellings(&world) {
        // What is refused only because it does not exist for reading may exist after writing.
        let answer = world.call("fs.write", json!({ "path": path, "content": "written" }));
        if let Ok(content) = answer {
            assert!(
                path.starts_with("nowhere/") || path.starts_with("sub/"),
                "{path}: {content}"
            );
        }
        assert_eq!(snapshot(&world), before, "{path}");
    }
}

/// Everything outside the working directory, and that the links in it are still links.
fn snapshot(world: &World) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for dir in ["", "wd-evil", "docs"] {
        for entry in fs::read_dir(world.outside(dir)).unwrap() {
            let path = entry.unwrap().path();
            let content = fs::read_to_string(&path).unwrap_or_default();
            all.push((path.to_string_lossy().into_owned(), content));
        }
    }
    for link in ["abs", "rel", "one", "absdir", "magic", "loop"] {
        let target =
            fs::read_link(world.wd(link)).map(|target| target.to_string_lossy().into_owned());
        all.push((link.to_owned(), target.unwrap_or_default()));
    }
    all.sort();
    all
}

#[test]
fn the_naive_way_would_escape() {
    // The control for the tests above: a check of the text alone opens these.
    let world = hostile();
    for path in ["abs", "rel", "absdir/secret.txt", "one", "back"] {
        let naive = world.wd(path);
        assert!(naive.starts_with(world.wd("")));
        assert_eq!(fs::read_to_string(naive).unwrap(), SECRET, "{path}");
    }
}

#[test]
fn links_that_stay_inside_can_be_read_but_not_written_through() {
    let world = World::with_files(&[("real/a.txt", "content")]);
    symlink("real", world.wd("dir")).unwrap();
    symlink("real/a.txt", world.wd("file")).unwrap();
    symlink("../file", world.wd("real/up")).unwrap();
    for path in ["dir/a.txt", "file", "real/up", "dir/up", "real/../file"] {
        assert_eq!(
            world.ok("fs.read", json!({ "path": path })),
            "content",
            "{path}"
        );
    }
    for path in ["dir/a.txt", "file", "real/up", "dir/new.txt"] {
        let message = world.err("fs.write", json!({ "path": path, "content": "x" }));
        assert!(message.contains("link"), "{path}: {message}");
    }
    assert_eq!(world.get("real/a.txt"), "content");
    assert_eq!(world.names("real"), ["a.txt", "up"]);
}

#[test]
fn settings_of_otto_and_git_cannot_be_created_or_changed() {
    let world = World::with_files(&[
        (".git/config", "[core]"),
        (".otto/agents/a.yml", "name: a"),
        ("sub/a", ""),
    ]);
    for path in [
        ".otto/agents/a.yml",
        ".otto/agents/new.yml",
        "./.otto//agents/new.yml",
        "sub/../.otto/config.yml",
        ".git/config",
        ".git/hooks/pre-commit",
        "sub/.git/hooks/pre-commit",
        ".GIT/config",
        ".oTTo/x",
        ".git",
        ".otto",
        "sub/.git",
        ".gi\u{200d}t/config",
        "x/../.git/config",
    ] {
        let message = world.err("fs.write", json!({ "path": path, "content": "x" }));
        assert!(message.contains("protected"), "{path}: {message}");
    }
    assert_eq!(world.get(".git/config"), "[core]");
    assert_eq!(world.names(".git"), ["config"]);
    assert_eq!(world.names(".otto/agents"), ["a.yml"]);
    assert_eq!(world.names(""), [".git", ".otto", "sub"]);
    // Reading them is allowed.
    assert_eq!(
        world.ok("fs.read", json!({"path": ".otto/agents/a.yml"})),
        "name: a"
    );
    // A link to them is not a second name.
    symlink(".otto", world.wd("settings")).unwrap();
    world.err(
        "fs.write",
        json!({"path": "settings/agents/a.yml", "content": "x"}),
    );
    assert_eq!(world.get(".otto/agents/a.yml"), "name: a");
}

#[test]
fn roots_are_read_only_and_addressed_by_name() {
    let world = World::with_files(&[("@odd", "a name with an at sign")]);
    fs::write(world.outside("docs/intro.md"), "hello").unwrap();
    assert_eq!(
        world.ok("fs.read", json!({"path": "@docs/intro.md"})),
        "hello"
    );
    assert!(
        world
            .ok("fs.list", json!({"path": "@docs"}))
            .starts_with("@docs/intro.md\t5\n")
    );
    assert!(
        world
            .ok("grep", json!({"pattern": "hell", "path": "@docs"}))
            .starts_with("@docs/intro.md:1:hello\n")
    );
    for path in ["@docs/intro.md", "@docs/new.md"] {
        let message = world.err("fs.write", json!({"path": path, "content": "x"}));
        // A call that may only write is not even told of the roots.
        assert!(
            message.contains("no read-only root") || message.contains("read-only"),
            "{message}"
        );
    }
    assert_eq!(
        fs::read_to_string(world.outside("docs/intro.md")).unwrap(),
        "hello"
    );
    let message = world.err("fs.read", json!({"path": "@doc/intro.md"}));
    assert!(message.contains("`@docs`"), "{message}");
    assert_eq!(
        world.ok("fs.read", json!({"path": "./@odd"})),
        "a name with an at sign"
    );
    assert!(world.ok("fs.list", json!({})).contains("./@odd\t"));
}
