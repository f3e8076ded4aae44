//! `fs.edit`: one exact place, or a good reason why not.

use serde_json::json;

use crate::world::World;

const FILE: &str = "fn a() {\n\tone();\n}\n\nfn b() {\n    two();\n    three();\n}\n";

#[test]
fn one_place_is_replaced_and_shown() {
    let world = World::with_files(&[("x.rs", FILE)]);
    let answer = world.ok(
        "fs.edit",
        json!({"path": "x.rs", "old": "two();", "new": "2();\n    2.5();"}),
    );
    assert_eq!(
        answer,
        "edited `x.rs`: 1 replacement at line 6; the old content is in `x.rs.bak` beside it\n\
         5: fn b() {\n6:     2();\n7:     2.5();\n8:     three();\n"
    );
    assert_eq!(
        world.get("x.rs"),
        FILE.replace("two();", "2();\n    2.5();")
    );
    assert_eq!(world.get("x.rs.bak"), FILE);
}

#[test]
fn all_places_are_replaced_only_when_asked() {
    let world = World::with_files(&[("a", "x x\nx\ny\n")]);
    let message = world.err("fs.edit", json!({"path": "a", "old": "x", "new": "z"}));
    assert!(
        message.contains("3 times, at lines 1, 1 and 2"),
        "{message}"
    );
    assert_eq!(world.get("a"), "x x\nx\ny\n");
    let answer = world.ok(
        "fs.edit",
        json!({"path": "a", "old": "x", "new": "zz", "all": true}),
    );
    assert!(
        answer.starts_with("edited `a`: 3 replacements at lines 1, 1 and 2;"),
        "{answer}"
    );
    assert_eq!(world.get("a"), "zz zz\nzz\ny\n");
    world.put("many", "x\n".repeat(100));
    let message = world.err("fs.edit", json!({"path": "many", "old": "x", "new": "z"}));
    assert!(
        message.contains("lines 1, 2, 3, 4, 5, 6, 7, 8 and 92 more"),
        "{message}"
    );
    // Occurrences do not overlap.
    world.put("aaa", "aaaa");
    world.ok(
        "fs.edit",
        json!({"path": "aaa", "old": "aa", "new": "b", "all": true}),
    );
    assert_eq!(world.get("aaa"), "bb");
}

#[test]
fn a_miss_is_explained() {
    let world = World::with_files(&[("x.rs", FILE)]);
    for (old, parts) in [
        (
            "    one();",
            vec![
                "line 2 differs only in white space",
                "file: `\\tone();`",
                "old:  `    one();`",
            ],
        ),
        (
            "fn b() {\n  two();\n  three();\n}",
            vec!["lines 5-8 differs only", "line 6", "old:  `  two();`"],
        ),
        (
            "fn b() {\n    two();\n    four();\n}",
            vec!["lines 5-8 comes nearest", "line 7", "file: `    three();`"],
        ),
        ("Fn A() {", vec!["line 1", "white space or case"]),
        ("nothing like it", vec!["nothing in it comes near"]),
    ] {
        let message = world.err("fs.edit", json!({"path": "x.rs", "old": old, "new": "q"}));
        for part in parts {
            assert!(message.contains(part), "{old:?}: {message}");
        }
    }
    assert_eq!(world.get("x.rs"), FILE);
    assert_eq!(world.names(""), ["x.rs"]);
}

#[test]
fn line_ends_of_the_file_are_kept() {
    let world = World::with_files(&[("dos", "a\r\nb\r\nc\r\n")]);
    let answer = world.ok(
        "fs.edit",
        json!({"path": "dos", "old": "a\nb\n", "new": "A\nB\nB2\n"}),
    );
    assert!(answer.contains("CRLF"), "{answer}");
    assert_eq!(world.get("dos"), "A\r\nB\r\nB2\r\nc\r\n");
    world.ok("fs.edit", json!({"path": "dos", "old": "c", "new": "C"}));
    assert_eq!(world.get("dos"), "A\r\nB\r\nB2\r\nC\r\n");
}

#[test]
fn what_cannot_be_edited_is_refused() {
    let mut world = World::with_files(&[("a", "text"), ("dir/x", "")]);
    world.put("latin", b"caf\xe9");
    world.put("bin", b"a\0b");
    for (input, part) in [
        (
            json!({"path": "a", "old": "", "new": "x"}),
            "`old` is empty",
        ),
        (json!({"path": "a", "old": "x", "new": "x"}), "the same"),
        (
            json!({"path": "latin", "old": "caf", "new": "x"}),
            "not UTF-8",
        ),
        (json!({"path": "bin", "old": "a", "new": "x"}), "not text"),
        (
            json!({"path": "b", "old": "a", "new": "x"}),
            "did you mean `a`",
        ),
        (json!({"path": "dir", "old": "a", "new": "x"}), "directory"),
        (
            json!({"path": "@docs/a", "old": "a", "new": "x"}),
            "no such file",
        ),
        (
            json!({"path": ".git/config", "old": "a", "new": "x"}),
            "no such file",
        ),
    ] {
        let message = world.err("fs.edit", input);
        assert!(message.contains(part), "{message}");
    }
    std::fs::write(world.outside("docs/a"), "a").unwrap();
    assert!(
        world
            .err(
                "fs.edit",
                json!({"path": "@docs/a", "old": "a", "new": "x"})
            )
            .contains("reading only")
    );
    world.put(".otto/a.yml", "name: a");
    assert!(
        world
            .err(
                "fs.edit",
                json!({"path": ".otto/a.yml", "old": "a", "new": "x", "all": true})
            )
            .contains("protected")
    );
    world.set("fs.edit", r#"{"max_bytes": 5}"#);
    world.ok(
        "fs.edit",
        json!({"path": "a", "old": "ext", "new": "extt", "all": false}),
    );
    assert!(
        world
            .err("fs.edit", json!({"path": "a", "old": "ex", "new": "exex"}))
            .contains("would have 7 bytes")
    );
}
