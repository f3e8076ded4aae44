//! `fs.read`: contents, ranges, notes and errors.

use std::time::{Duration, Instant};

use otto_sandbox::{Access, Dir, WorkerAnswer, WorkerCtx, WorkerRequest};
use serde_json::json;

use crate::world::World;

#[test]
fn a_whole_file_is_returned_byte_for_byte() {
    let world = World::with_files(&[
        ("a.txt", "one\ntwo\r\nthree"),
        ("ünï/漢字 🦀.txt", "ünïcode\n"),
        ("-rf", "dash"),
    ]);
    assert_eq!(
        world.ok("fs.read", json!({"path": "a.txt"})),
        "one\ntwo\r\nthree"
    );
    assert_eq!(
        world.ok("fs.read", json!({"path": "./a.txt"})),
        "one\ntwo\r\nthree"
    );
    assert_eq!(
        world.ok("fs.read", json!({"path": "ünï/漢字 🦀.txt"})),
        "ünïcode\n"
    );
    assert_eq!(world.ok("fs.read", json!({"path": "-rf"})), "dash");
    assert_eq!(
        world.ok(
            "fs.read",
            json!({"path": "a.txt", "offset": null, "limit": null})
        ),
        "one\ntwo\r\nthree"
    );
}

#[test]
fn ranges_say_where_they_are_and_how_to_go_on() {
    let world = World::with_files(&[("a.txt", "l1\nl2\nl3\nl4\nl5"), ("nl", "l1\nl2\n")]);
    for (input, expected) in [
        (
            json!({"path": "a.txt", "offset": 2, "limit": 2}),
            "l2\nl3\n[fs.read: lines 2-3; continue with offset 4]",
        ),
        (
            json!({"path": "a.txt", "limit": 1}),
            "l1\n[fs.read: lines 1-1; continue with offset 2]",
        ),
        (
            json!({"path": "a.txt", "offset": 4}),
            "l4\nl5\n[fs.read: lines 4-5, end of file]",
        ),
        (
            json!({"path": "a.txt", "offset": 5, "limit": 100}),
            "l5\n[fs.read: lines 5-5, end of file]",
        ),
        (
            json!({"path": "nl", "offset": 2, "limit": 1}),
            "l2\n[fs.read: lines 2-2, end of file]",
        ),
    ] {
        assert_eq!(world.ok("fs.read", input.clone()), expected, "{input}");
    }
    for (path, lines) in [("a.txt", "5 lines"), ("nl", "2 lines")] {
        let message = world.err("fs.read", json!({"path": path, "offset": 9}));
        assert!(message.contains(lines), "{message}");
    }
    world.err("fs.read", json!({"path": "a.txt", "offset": 0}));
    world.err("fs.read", json!({"path": "a.txt", "limit": 0}));
}

#[test]
fn walking_through_a_file_by_ranges_gives_all_of_it() {
    let mut world = World::new();
    world.set("fs.read", r#"{"max_bytes": 1000}"#);
    let text: String = (0..500)
        .map(|i| format!("line {i} {}\n", "x".repeat(i % 90)))
        .collect();
    world.put("a", &text);
    let message = world.err("fs.read", json!({"path": "a"}));
    assert!(message.contains("more than the 1000 bytes"), "{message}");
    let mut all = String::new();
    let mut offset = 1;
    for _ in 0..500 {
        let part = world.ok("fs.read", json!({"path": "a", "offset": offset}));
        let (content, note) = part.rsplit_once("[fs.read: ").unwrap();
        assert!(content.len() <= 1000);
        all.push_str(content);
        match note.split_once("continue with offset ") {
            Some((_, next)) => offset = next.trim_end_matches(']').parse().unwrap(),
            None => break,
        }
    }
    assert_eq!(all, text);
}

#[test]
fn limits_are_exact() {
    let mut world = World::with_files(&[
        ("ten", "0123456789"),
        ("eleven", "0123456789a"),
        ("long", &"x".repeat(100)),
    ]);
    world.set("fs.read", r#"{"max_bytes": 10}"#);
    assert_eq!(world.ok("fs.read", json!({"path": "ten"})), "0123456789");
    assert!(
        world
            .err("fs.read", json!({"path": "eleven"}))
            .contains("11 bytes")
    );
    let part = world.ok("fs.read", json!({"path": "long", "offset": 1}));
    assert_eq!(
        part,
        "xxxxxxxxxx\n[fs.read: lines 1-1, cut at 10 bytes; continue with offset 2]"
    );
}

#[test]
fn two_mebibytes_are_read_by_default_and_one_byte_more_is_not() {
    let world = World::new();
    world.put("fits", "x".repeat(2 * 1024 * 1024));
    world.put("not", "x".repeat(2 * 1024 * 1024 + 1));
    assert_eq!(
        world.ok("fs.read", json!({"path": "fits"})).len(),
        2 * 1024 * 1024
    );
    let message = world.err("fs.read", json!({"path": "not"}));
    assert!(
        message.contains("2.1 MiB") && message.contains("2.0 MiB"),
        "{message}"
    );
}

#[test]
fn what_is_not_text_is_named_and_what_is_almost_text_is_shown() {
    let world = World::new();
    world.put("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    world.put("utf16", b"\xff\xfea\0b\0");
    world.put("latin", b"caf\xe9 na\xefve\n");
    world.put("empty", b"");
    world.put("ansi", b"\x1b[31mred\x1b[0m\n");
    world.put("tags", "hi\u{e0041}\u{e0042}\u{202e}");
    assert!(
        world
            .err("fs.read", json!({"path": "a.png"}))
            .contains("PNG")
    );
    assert!(
        world
            .err("fs.read", json!({"path": "utf16"}))
            .contains("UTF-16")
    );
    assert_eq!(
        world.ok("fs.read", json!({"path": "latin"})),
        "caf\u{fffd} na\u{fffd}ve\n[fs.read: 2 places are not UTF-8, shown as U+FFFD]"
    );
    assert_eq!(
        world.ok("fs.read", json!({"path": "empty"})),
        "[fs.read: the file is empty]"
    );
    assert_eq!(
        world.ok("fs.read", json!({"path": "ansi"})),
        "\\u{1b}[31mred\\u{1b}[0m\n[fs.read: 2 hidden characters written out as \\u{...}]"
    );
    assert!(
        world
            .ok("fs.read", json!({"path": "tags"}))
            .starts_with("hi\\u{e0041}\\u{e0042}\\u{202e}\n[")
    );
}

#[test]
fn hidden_characters_cannot_blow_an_answer_up() {
    let world = World::new();
    world.put("esc", "\u{1b}".repeat(2 * 1024 * 1024));
    let answer = world.ok("fs.read", json!({"path": "esc"}));
    assert!(
        answer.ends_with("the rest is cut; ask for fewer lines]"),
        "{}",
        &answer[answer.len() - 200..]
    );
}

#[test]
fn errors_help() {
    let world = World::with_files(&[
        ("src/main.rs", ""),
        ("src/lib.rs", ""),
        ("README.md", ""),
        ("dir/a", ""),
    ]);
    for (path, part) in [
        ("src/mian.rs", "did you mean `src/main.rs`?"),
        ("scr/main.rs", "did you mean `src`?"),
        ("readme.md", "did you mean `README.md`?"),
        ("src/Lib.rs", "did you mean `src/lib.rs`?"),
        ("src/quite_different.py", "`src` has nothing of that name"),
        ("README.md/x", "`README.md` is a file"),
        ("src", "it is a directory"),
        (".", "it is a directory"),
        ("/etc/passwd", "absolute paths lead outside"),
        ("../x", "outside the directory"),
        ("", "the path is empty"),
    ] {
        let message = world.err("fs.read", json!({ "path": path }));
        assert!(message.contains(part), "{path}: {message}");
    }
    let message = world.err("fs.read", json!({"path": "a\u{1b}[31m\n\u{e0041}"}));
    assert!(
        !message.contains('\u{1b}') && !message.contains('\n') && !message.contains('\u{e0041}'),
        "{message}"
    );
}

#[test]
fn a_large_file_is_handed_over_whole_and_only_to_a_host_that_takes_it() {
    let large = "line\n".repeat(40_000);
    let too_large = "x".repeat(300_000);
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("large", large.as_str()),
        ("small", "line\n"),
        ("too-large", &too_large),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let path = dir.path().canonicalize().unwrap();
    let ask = |input: serde_json::Value, takes_files| {
        let ctx = WorkerCtx {
            working_dir: Some(Dir::open(&path, Access::ReadOnly).unwrap()),
            takes_files,
            ..WorkerCtx::compute(Instant::now() + Duration::from_secs(20))
        };
        let request = WorkerRequest {
            tool: "fs.read".to_owned(),
            input: input.to_string(),
            settings: Some(json!({"max_bytes": 250_000}).to_string()),
            max_output_bytes: 8 * 1024 * 1024,
            time_left: Duration::from_secs(20),
            exec: None,
            takes_files,
        };
        otto_tools::dispatch(&ctx, &request)
    };
    let WorkerAnswer::HandedOver { file, most_bytes } = ask(json!({"path": "large"}), true) else {
        panic!("a large file is handed over");
    };
    assert_eq!(std::io::read_to_string(file).unwrap(), large);
    assert_eq!(most_bytes, 250_000);
    for (input, takes_files, expected) in [
        (json!({"path": "large"}), false, large.as_str()),
        (json!({"path": "small"}), true, "line\n"),
        (
            json!({"path": "large", "limit": 1}),
            true,
            "line\n[fs.read: lines 1-1; continue with offset 2]",
        ),
    ] {
        let WorkerAnswer::Done { content } = ask(input.clone(), takes_files) else {
            panic!("{input} is answered with text");
        };
        assert_eq!(content, expected, "{input}");
    }
    assert!(matches!(
        ask(json!({"path": "too-large"}), true),
        WorkerAnswer::Failed(_)
    ));
}
