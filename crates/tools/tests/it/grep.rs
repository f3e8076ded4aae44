//! `grep`: matches, filters, bounds and hostile patterns.

use std::time::Duration;

use serde_json::json;

use crate::world::World;

fn project() -> World {
    World::with_files(&[
        (".gitignore", "target\n"),
        (".hidden/a.rs", "needle hidden\n"),
        (
            "a.rs",
            "first\nneedle one\nthird\nfourth\nNeedle two\nsixth\n",
        ),
        ("b.py", "needle = 1\n"),
        ("sub/c.rs", "no\nneedle three"),
        ("sub/crlf.txt", "a\r\nneedle crlf\r\n"),
        ("target/d.rs", "needle ignored\n"),
        ("bin.dat", "needle\0binary"),
    ])
}

#[test]
fn matches_are_lines_with_path_and_number() {
    let world = project();
    assert_eq!(
        world.ok("grep", json!({"pattern": "needle"})),
        "a.rs:2:needle one\nb.py:1:needle = 1\nsub/c.rs:2:needle three\nsub/crlf.txt:2:needle crlf\n\
         [grep: 4 matches in 4 files; 1 binary file not searched to the end]"
    );
}

#[test]
fn filters() {
    let world = project();
    for (input, lines) in [
        (
            json!({"glob": "*.rs"}),
            "a.rs:2:needle one\nsub/c.rs:2:needle three\n[grep: 2 matches in 2 files]",
        ),
        (
            json!({"type": "py"}),
            "b.py:1:needle = 1\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"type": ["py", "rust"], "glob": "!sub/**"}),
            "a.rs:2:needle one\nb.py:1:needle = 1\n[grep: 2 matches in 2 files]",
        ),
        (
            json!({"path": "sub", "glob": "c.*"}),
            "sub/c.rs:2:needle three\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"path": "sub/c.rs"}),
            "sub/c.rs:2:needle three\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"path": "./sub/"  , "glob": "sub/c.rs"}),
            "[grep: 0 matches in 0 files; 0 files searched (hidden files and what .gitignore excludes are skipped unless asked for)]",
        ),
        (
            json!({"path": "target", "ignored": true}),
            "target/d.rs:1:needle ignored\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"path": ".hidden"}),
            ".hidden/a.rs:1:needle hidden\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"case": "insensitive", "path": "a.rs"}),
            "a.rs:2:needle one\na.rs:5:Needle two\n[grep: 2 matches in 1 file]",
        ),
        (
            json!({"case": "smart", "path": "a.rs"}),
            "a.rs:2:needle one\na.rs:5:Needle two\n[grep: 2 matches in 1 file]",
        ),
        (
            json!({"path": "a.rs", "context": 1}),
            "a.rs-1-first\na.rs:2:needle one\na.rs-3-third\n[grep: 1 match in 1 file]",
        ),
        (
            json!({"output": "files", "glob": "*.rs"}),
            "a.rs\nsub/c.rs\n[grep: 2 matches in 2 files]",
        ),
        (
            json!({"output": "counts", "path": "a.rs", "case": "insensitive"}),
            "a.rs:2\n[grep: 2 matches in 1 file]",
        ),
    ] {
        let mut call = input.clone();
        call["pattern"] = json!("needle");
        assert_eq!(world.ok("grep", call), lines, "{input}");
    }
    let all = world.ok(
        "grep",
        json!({"pattern": "needle", "hidden": true, "ignored": true}),
    );
    assert!(
        all.contains(".hidden/a.rs:1:") && all.contains("target/d.rs:1:"),
        "{all}"
    );
}

#[test]
fn groups_of_context_are_separated() {
    let world = project();
    assert_eq!(
        world.ok(
            "grep",
            json!({"pattern": "first|sixth", "path": "a.rs", "context": 1})
        ),
        "a.rs:1:first\na.rs-2-needle one\n--\na.rs-5-Needle two\na.rs:6:sixth\n[grep: 2 matches in 1 file]"
    );
    // The context of a match that is not shown is not shown either.
    assert_eq!(
        world.ok(
            "grep",
            json!({"pattern": "first|sixth", "path": "a.rs", "context": 1, "max_results": 1})
        ),
        "a.rs:1:first\na.rs-2-needle one\n[grep: 1 match in 1 file, stopped there: there are more; narrow the \
         pattern, `path` or `glob`, or raise `max_results`]"
    );
}

#[test]
fn plain_text_and_words() {
    let world = World::with_files(&[("a", "f(x)\nfx\nfoo.bar\nfooxbar\ncat\nconcat\n")]);
    assert!(
        world
            .ok("grep", json!({"pattern": "f(x)", "fixed": true}))
            .starts_with("a:1:f(x)\n[")
    );
    assert!(
        world
            .ok("grep", json!({"pattern": "foo.bar", "fixed": true}))
            .contains("1 match")
    );
    assert!(
        world
            .ok("grep", json!({"pattern": "cat", "word": true}))
            .starts_with("a:5:cat\n[")
    );
    assert!(
        world
            .ok("grep", json!({"pattern": "^f.*\\)$"}))
            .starts_with("a:1:f(x)\n[")
    );
}

#[test]
fn results_lines_and_answers_are_bounded() {
    let world = World::new();
    world.put("many", "needle\n".repeat(10_000));
    world.put(
        "minified",
        format!("{}needle{}\n", "ü".repeat(500_000), "y".repeat(500_000)),
    );
    let found = world.ok("grep", json!({"pattern": "needle", "path": "many"}));
    assert_eq!(found.lines().count(), 201);
    assert!(
        found.contains("200 matches in 1 file, stopped there"),
        "{}",
        &found[found.len() - 200..]
    );
    let found = world.ok("grep", json!({"pattern": "needle", "path": "minified"}));
    assert!(
        found.len() < 1_000 && found.contains("1 long line cut to 500 bytes"),
        "{found}"
    );
    let exactly = world.ok(
        "grep",
        json!({"pattern": "needle", "path": "many", "output": "counts"}),
    );
    assert_eq!(exactly, "many:10000\n[grep: 10000 matches in 1 file]");
    for i in 0..5 {
        world.put(&format!("f{i}"), "one\n");
    }
    let found = world.ok(
        "grep",
        json!({"pattern": "one", "output": "files", "max_results": 5}),
    );
    assert!(found.ends_with("[grep: 5 matches in 5 files]"), "{found}");
    let found = world.ok(
        "grep",
        json!({"pattern": "one", "output": "files", "max_results": 4}),
    );
    assert!(
        found.contains("4 matches in 4 files, stopped there"),
        "{found}"
    );
    world.put("wide", format!("{}\n", "needle ".repeat(60)).repeat(5_000));
    let found = world.ok(
        "grep",
        json!({"pattern": "needle", "path": "wide", "max_results": 5000}),
    );
    assert!(found.len() < 192 * 1024 && found.contains("stopped there"));
}

#[test]
fn patterns_that_look_like_arguments_are_patterns() {
    let world = World::with_files(&[("a", "--pre=touch marker\n-e x\n--help\n")]);
    for pattern in [
        "--pre=touch marker",
        "--pre",
        "-e",
        "--help",
        "-f/etc/passwd",
        "--",
        "--hostname-bin=touch",
    ] {
        let found = world.ok(
            "grep",
            json!({"pattern": pattern, "glob": "!--pre=touch", "path": "./a"}),
        );
        assert!(found.contains("[grep: "), "{found}");
    }
    world.err(
        "grep",
        json!({"pattern": "x", "path": "--pre=touch marker"}),
    );
    world.ok(
        "grep",
        json!({"pattern": "x", "glob": "--pre=touch marker"}),
    );
    assert_eq!(world.names(""), ["a"]);
}

#[test]
fn huge_patterns_are_refused_or_compiled_within_bounds() {
    let world = World::with_files(&[("a", "aaaa\n")]);
    for pattern in [
        "a".repeat(4 * 1024 * 1024),
        "(".repeat(4_000) + &")".repeat(4_000),
        "(a{1000}){1000}".to_owned(),
        "((a{100}){100}){100}".to_owned(),
        "[".to_owned(),
        "(?=a)".to_owned(),
        "(a)\\1".to_owned(),
        "a\\nb".to_owned(),
        String::new(),
    ] {
        let message = world.err("grep", json!({ "pattern": pattern }));
        assert!(
            message.len() < 4_000 && message.contains("pattern"),
            "{message}"
        );
    }
    // Patterns that make backtracking engines run for ever are fine here.
    let found = world.ok("grep", json!({"pattern": "(a|a)*b|(a+)+$"}));
    assert!(found.contains("1 match"), "{found}");
}

#[test]
fn types_and_globs_that_do_not_exist_are_explained() {
    let world = World::with_files(&[("a", "")]);
    assert!(
        world
            .err("grep", json!({"pattern": "x", "type": "rustlang"}))
            .contains("such as `rust`")
    );
    assert!(
        world
            .err("grep", json!({"pattern": "x", "glob": "{a"}))
            .contains("glob")
    );
}

#[test]
fn unusual_files_are_searched() {
    let world = World::new();
    world.put("bom", b"\xef\xbb\xbfneedle\n");
    world.put("latin", b"caf\xe9 needle\n");
    world.put("utf16", b"\xff\xfen\0e\0e\0d\0l\0e\0\n\0");
    world.put("esc", "\u{1b}[2Jneedle\u{202e}\n");
    world.put("empty", "");
    world.put("odd\nname", "needle\n");
    let found = world.ok("grep", json!({"pattern": "needle"}));
    assert_eq!(
        found,
        "bom:1:needle\nesc:1:\\u{1b}[2Jneedle\\u{202e}\nlatin:1:caf\u{fffd} needle\nodd\\nname:1:needle\nutf16:1:needle\n\
         [grep: 5 matches in 5 files]"
    );
}

#[test]
fn a_search_without_end_ends_at_its_deadline() {
    let mut world = World::new();
    world.time = Duration::from_millis(200);
    // 256 GiB of holes with text at the start, so that it is not taken for binary: no match, much to read.
    world.put("huge", "x".repeat(200_000) + "\n");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(world.wd("huge"))
        .unwrap();
    file.set_len(1 << 38).unwrap();
    let error = world.call("grep", json!({"pattern": "needle"}));
    // Holes are NUL bytes: the search may also stop there. Either way it ends, and says why.
    match error {
        Ok(found) => assert!(found.contains("binary file"), "{found}"),
        Err(error) => assert_eq!(error.kind, otto_core::port::tool::ToolErrorKind::TimedOut),
    }
}

#[test]
fn ignore_files_follow_the_rules_of_git() {
    let world = World::with_files(&[
        (".git/info/exclude", "excluded\n"),
        (".gitignore", "*.log\n/top\nbuild/\n"),
        (".ignore", "!wanted.log\n"),
        ("wanted.log", "needle"),
        ("other.log", "needle"),
        ("top", "needle"),
        ("sub/top", "needle"),
        ("sub/.gitignore", "!x.log\nlocal\n"),
        ("sub/x.log", "needle"),
        ("sub/local", "needle"),
        ("build/a", "needle"),
        ("excluded", "needle"),
        ("vendor/.git/HEAD", ""),
        ("vendor/inner.log", "needle"),
    ]);
    assert_eq!(
        world.ok("grep", json!({"pattern": "needle", "output": "files"})),
        "sub/top\nsub/x.log\nvendor/inner.log\nwanted.log\n[grep: 4 matches in 4 files]"
    );
    // The rules above the start of a search hold as well.
    assert_eq!(
        world.ok(
            "grep",
            json!({"pattern": "needle", "output": "files", "path": "sub"})
        ),
        "sub/top\nsub/x.log\n[grep: 2 matches in 2 files]"
    );
}
