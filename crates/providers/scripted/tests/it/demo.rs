//! The script of `otto demo`, against tools that answer as Otto's do, over files in memory.

use otto_scripted::{DEMO_SCRIPT, Script, ScriptedServer, ServerOptions};
use serde_json::{Value as Json, json};

use crate::client::{post, prices, request, with_tools};

type Files<'f> = &'f [(&'f str, &'f str)];

/// What the agent's tools answer: text, and whether it is an error.
fn tool(
    files: Files<'_>,
    name: &str,
    input: &Json,
    written: &mut Vec<(String, String)>,
) -> (String, bool) {
    let text = |field: &str| input[field].as_str().unwrap_or_default();
    match name {
        "grep" => (
            grep(files, text("pattern"), input["output"] == "counts"),
            false,
        ),
        "fs_read" => match files.iter().find(|(path, _)| *path == text("path")) {
            Some((_, content)) => (
                format!(
                    "{content}\n[fs.read: lines 1-{}, end of file]",
                    content.lines().count()
                ),
                false,
            ),
            None => (
                format!(
                    "read `{}`: outside of what this agent was granted",
                    text("path")
                ),
                true,
            ),
        },
        "fs_write" => {
            written.push((text("path").to_owned(), text("content").to_owned()));
            (
                format!(
                    "created {} with {} bytes",
                    text("path"),
                    text("content").len()
                ),
                false,
            )
        }
        other => panic!("the demo calls `{other}`"),
    }
}

fn grep(files: Files<'_>, pattern: &str, counts: bool) -> String {
    let regex = regex::RegexBuilder::new(pattern)
        .multi_line(true)
        .build()
        .unwrap();
    let mut out = String::new();
    let (mut matches, mut matching) = (0, 0);
    for (path, content) in files {
        let lines: Vec<(usize, &str)> = content
            .lines()
            .enumerate()
            .filter(|(_, line)| regex.is_match(line))
            .collect();
        if lines.is_empty() {
            continue;
        }
        matching += 1;
        matches += lines.len();
        if counts {
            out.push_str(&format!("{path}:{}\n", lines.len()));
        } else {
            lines.iter().for_each(|(number, line)| {
                out.push_str(&format!("{path}:{}:{line}\n", number + 1))
            });
        }
    }
    let many = |count: usize, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    format!(
        "{out}[grep: {} in {}]",
        many(matches, "match", "matches"),
        many(matching, "file", "files")
    )
}

/// What a run of the demo comes to.
struct Played {
    turns: usize,
    calls: Vec<(String, Json)>,
    report: String,
    last: String,
}

async fn play(files: Files<'_>) -> Played {
    // Nobody is killed here, so the model does not fall silent.
    let silence = "faults: [{ attempt: 1, stall: { event: 16 } }]";
    assert!(DEMO_SCRIPT.contains(silence));
    let script = Script::parse(&DEMO_SCRIPT.replace(silence, ""), "demo.yml").unwrap();
    let server = ScriptedServer::start(script, ServerOptions::new(prices()))
        .await
        .unwrap();
    let mut body = with_tools(
        request("Write a report on @src"),
        &["fs_read", "grep", "fs_write"],
    );
    body["model"] = json!("claude-sonnet-5-5");
    let mut played = Played {
        turns: 0,
        calls: Vec::new(),
        report: String::new(),
        last: String::new(),
    };
    let mut written = Vec::new();
    loop {
        let answer = post(&server, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let message = answer.message();
        played.turns += 1;
        assert!(played.turns < 20, "the demo ends");
        let mut results = Vec::new();
        for block in message["content"].as_array().unwrap() {
            if block["type"] == "text" {
                played.last = block["text"].as_str().unwrap().to_owned();
            }
            if block["type"] == "tool_use" {
                let name = block["name"].as_str().unwrap();
                played.calls.push((name.to_owned(), block["input"].clone()));
                let (text, is_error) = tool(files, name, &block["input"], &mut written);
                results.push(json!({"type": "tool_result", "tool_use_id": block["id"], "content": text, "is_error": is_error}));
            }
        }
        if message["stop_reason"] == "end_turn" {
            break;
        }
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": message["content"]}));
        messages.push(json!({"role": "user", "content": results}));
    }
    let [(path, report)] = written.as_slice() else {
        panic!("one file is written")
    };
    assert_eq!(path, "report.md");
    played.report = report.clone();
    played
}

#[tokio::test]
async fn what_the_demo_says_comes_from_the_files() {
    let main = "//! Doc\nfn main() {\n    // TODO: more\n    go();\n}\n\npub(crate) struct A;\n";
    let files = [
        ("@src/src/main.rs", main),
        ("@src/lib.py", "def go():\n    pass\n"),
        ("@src/README.md", "# Title\n\nFIXME say more\n"),
    ];
    let played = play(&files).await;
    assert_eq!(played.turns, 5);
    let reads: Vec<&str> = played
        .calls
        .iter()
        .filter(|(name, _)| name == "fs_read")
        .map(|(_, input)| input["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        reads,
        [
            "@src/src/main.rs",
            "@src/lib.py",
            "/etc/passwd",
            "deploy.env"
        ]
    );
    for line in [
        "| text files | 3 |",
        "| lines with something in them | 10 |",
        "| definitions | 3 in 2 files |",
        "| lines marked TODO, FIXME, XXX or HACK | 2 |",
        "Reading `/etc/passwd` was refused, as it should be.",
        "- @src/src/main.rs: 6 lines",
        "- @src/src/main.rs: 2 definitions",
        "- @src/README.md:3:FIXME say more",
        "### @src/lib.py",
        "    def go():",
        "- marks: [grep: 2 matches in 2 files]",
    ] {
        assert!(
            played.report.lines().any(|given| given == line),
            "{line:?} is missing in:\n{}",
            played.report
        );
    }
    assert!(!played.report.contains("[fs.read:"), "{}", played.report);
    assert_eq!(
        played.last,
        "Done. `@src` holds 3 text files with 10 lines and 3 definitions, most of them in @src/src/main.rs; 2 lines are marked as \
         unfinished. Reading `/etc/passwd` was refused, as it should be. The report is in `report.md`."
    );
}

#[tokio::test]
async fn a_folder_without_code_is_read_by_size() {
    let files = [
        ("@src/a.txt", "one\n"),
        ("@src/b.txt", "one\ntwo\n"),
        ("@src/c.txt", "1\n2\n3\n"),
        ("@src/d: e.txt", "1\n2\n3\n4\n"),
    ];
    let played = play(&files).await;
    let reads: Vec<&str> = played
        .calls
        .iter()
        .filter(|(name, _)| name == "fs_read")
        .map(|(_, input)| input["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        reads,
        [
            "@src/d: e.txt",
            "@src/c.txt",
            "@src/b.txt",
            "/etc/passwd",
            "deploy.env"
        ]
    );
    assert!(
        played
            .report
            .contains("No line of these files defines anything"),
        "{}",
        played.report
    );
}

#[tokio::test]
async fn an_empty_folder_gives_a_short_report() {
    let played = play(&[]).await;
    assert_eq!(played.turns, 4, "nothing is read but what is refused");
    assert!(played.last.starts_with("Done. `@src` holds 0 text files with 0 lines and 0 definitions, most of them in no file at all;"), "{}", played.last);
    assert!(
        played.report.contains("There are none.") && played.report.contains("I read none."),
        "{}",
        played.report
    );
}
