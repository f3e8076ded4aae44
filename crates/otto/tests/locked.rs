//! An application that locks itself: what a tool with a bug can do in its process, and that others go on.
//!
//! It has a `main` of its own, because the launcher and the lock come before any thread. The test starts
//! itself twice as the application, once with the lock and once without, where the same attempts have to
//! succeed, or the refusals would prove nothing.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an application of its own, in a test"
)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use otto::config::OperatorConfig;
use otto::env::Environment;
use otto::{AgentBuilder, AnthropicClient, AnthropicConfig, Otto, TypedTool, worker_host};
use otto_scripted::{Script, ScriptedServer, ServerOptions};

const SCRIPT: &str = r#"
conversations:
  - when: 'task | has "attack"'
    turns:
      - tool: { name: buggy, input: {} }
      - text: "{{ result.buggy }}"
  - when: 'task | has "panic"'
    turns:
      - tool: { name: panics, input: {} }
      - text: "{{ result.panics }}"
  - turns:
      - tool: { name: fs.read, as: file, input: { path: note.txt } }
      - text: "{{ result.file }}"
"#;

/// Marks every process that the test starts; they start at most the model.
const CHILD: &str = "OTTO_TEST_CHILD";
// BOUND: an application takes seconds; on a machine where it takes longer the test has failed.
const LONGEST: Duration = Duration::from_secs(120);

/// What the tool with a bug attempts.
const ATTEMPTS: [&str; 7] = [
    "passwd",
    "own directory",
    "other agent",
    "list",
    "write",
    "run",
    "connect",
];
/// What the kernel says to each in a locked process.
const EACCES: i32 = 13;
/// Agents that run beside the one with the bug.
const OTHERS: usize = 20;

fn main() {
    // First, in every role: this very program is also started as its own launcher.
    let booted = otto::boot();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_child = std::env::var_os(CHILD).is_some();
    match args.first().map(String::as_str) {
        Some("--model") if is_child => model(),
        Some("--application") if is_child => {
            application(&booted, args[1] == "locked", Path::new(&args[2]))
        }
        // Nothing that this test starts may start the test again.
        _ if is_child => panic!("a child of the test was given no role: {args:?}"),
        Some("--list") => println!("a_locked_application_holds_its_own_tools: test"),
        _ => test(),
    }
}

fn test() {
    for (state, expected) in [("locked", EACCES), ("unlocked", 0)] {
        let temp = tempfile::tempdir().unwrap();
        let place = temp.path().canonicalize().unwrap();
        let text = run_application(state, &place);
        for thread in ["task", "blocking", "thread"] {
            for attempt in ATTEMPTS {
                let line = format!("{thread} {attempt}: {expected}");
                assert!(text.lines().any(|found| found == line), "{line}\n{text}");
            }
        }
        let others = text.lines().filter(|line| *line == "other: note").count();
        assert_eq!(others, OTHERS, "{state}: the other agents go on\n{text}");
        assert!(text.contains("internal error"), "the panic is told\n{text}");
        println!("test a_locked_application_holds_its_own_tools ({state}) ... ok");
    }
}

/// What the application prints; it is killed when it does not end.
fn run_application(state: &str, place: &Path) -> String {
    let mut process = Command::new("/proc/self/exe")
        .args(["--application", state])
        .arg(place)
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let (send, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = send.send(read.map(|_| text));
    });
    let printed = printed.recv_timeout(LONGEST);
    if printed.is_err() {
        let _ = process.kill();
    }
    let status = process.wait().unwrap();
    let text = printed.expect("the application ends").unwrap();
    assert!(status.success(), "{state}: {text}");
    text
}

/// The scripted model as a process of its own: its port has to be known before the lock. It ends with its
/// input.
fn model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let script = Script::parse(SCRIPT, "locked.yml").unwrap();
        let prices = otto::prices(&OperatorConfig::defaults(Path::new("/")));
        let server = ScriptedServer::start(script, ServerOptions::new(Arc::new(prices)))
            .await
            .unwrap();
        println!("{}", server.base_url());
        let mut end = String::new();
        tokio::task::spawn_blocking(move || io::stdin().read_line(&mut end))
            .await
            .unwrap()
            .unwrap();
    });
}

struct Model {
    process: Child,
    url: String,
}

impl Model {
    fn start() -> Self {
        let mut process = Command::new("/proc/self/exe")
            .arg("--model")
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        Self {
            process,
            url: url.trim().to_owned(),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The application: launcher, lock, runtime, in this order.
fn application(booted: &otto::Booted, is_locked: bool, place: &Path) {
    for number in 0..OTHERS {
        fs::create_dir_all(place.join(format!("agent-{number}"))).unwrap();
        fs::write(place.join(format!("agent-{number}/note.txt")), "note").unwrap();
    }
    fs::create_dir(place.join("attacker")).unwrap();
    fs::write(place.join("attacker/note.txt"), "note").unwrap();
    let model = Model::start();
    let victim = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = victim.local_addr().unwrap().port();
    let environment = Environment::from_pairs([
        ("OTTO_STATE_DIR", place.join("state").to_str().unwrap()),
        ("ANTHROPIC_BASE_URL", &model.url),
    ]);
    let operator = otto::config::load_operator(&otto::config::Sources {
        environment: &environment,
        project: place,
        system: None,
    })
    .unwrap();
    let lock = otto::lock_config(&operator, place, &environment).unwrap();
    if is_locked {
        otto::lock_main(&lock).unwrap();
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let host = worker_host(booted, &operator, &operator.state_dir.value);
        let mut config = AnthropicConfig::new("key-of-nobody".to_owned().into());
        config.base_url = model.url.parse().unwrap();
        let mut builder = Otto::builder()
            .enabled(true)
            .state_dir(&operator.state_dir.value)
            .client(Arc::new(AnthropicClient::new(config).unwrap()))
            .base_tools(Arc::new(host))
            .tool(buggy(place.to_owned(), port))
            .tool(panics())
            .agent(agent("attacker", "buggy", &place.join("attacker")))
            .agent(agent("panicker", "panics", &place.join("attacker")));
        for number in 0..OTHERS {
            let name = format!("agent-{number}");
            builder = builder.agent(agent(&name, "fs.read", &place.join(&name)));
        }
        let otto = builder.open().await.unwrap();
        let invoke = |name: String, task: &'static str| {
            let otto = &otto;
            async move { otto.agent(&name).unwrap().invoke(task).await.unwrap() }
        };
        let others = join_all((0..OTHERS).map(|number| invoke(format!("agent-{number}"), "read")));
        let attacker = invoke("attacker".to_owned(), "attack");
        let panicker = invoke("panicker".to_owned(), "panic");
        let (others, attacker, panicker) = tokio::join!(others, attacker, panicker);
        for report in others {
            println!("other: {}", report.text());
        }
        println!("{}\n{}", attacker.text(), panicker.text());
        otto.shutdown(Duration::from_secs(5)).await;
    });
    io::stdout().flush().unwrap();
}

fn agent(name: &str, tool: &str, dir: &Path) -> otto::AgentConfig {
    AgentBuilder::new(name, "claude-haiku-4-5")
        .tools([tool])
        .working_dir(dir)
        .build()
        .unwrap()
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

/// A tool that forgot its worker: it opens paths, runs a program and connects, from every kind of thread.
fn buggy(place: PathBuf, port: u16) -> TypedTool {
    TypedTool::looking("buggy", "Does what it should not.", move |_: Nothing| {
        let place = place.clone();
        async move {
            let mut said = attempts("task", &place, port);
            let there = place.clone();
            let blocking = tokio::task::spawn_blocking(move || attempts("blocking", &there, port));
            said += &blocking.await.unwrap();
            let thread = std::thread::spawn(move || attempts("thread", &place, port));
            said += &thread.join().unwrap();
            Ok(said)
        }
    })
    .unwrap()
}

fn panics() -> TypedTool {
    TypedTool::looking("panics", "Panics.", |_: Nothing| async {
        assert!(std::hint::black_box(false), "a tool with a bug");
        Ok(String::new())
    })
    .unwrap()
}

fn attempts(thread: &str, place: &Path, port: u16) -> String {
    let results = [
        fs::read("/etc/passwd").map(drop),
        fs::read(place.join("attacker/note.txt")).map(drop),
        fs::read(place.join("agent-0/note.txt")).map(drop),
        fs::read_dir(place.join("agent-0")).map(drop),
        fs::write(place.join(format!("agent-0/by-{thread}")), "x"),
        Command::new("/bin/true").status().map(drop),
        TcpStream::connect(("127.0.0.1", port)).map(drop),
    ];
    ATTEMPTS
        .iter()
        .zip(results)
        .map(|(attempt, result)| {
            let errno = result
                .err()
                .map_or(0, |error| error.raw_os_error().unwrap_or(-1));
            format!("{thread} {attempt}: {errno}\n")
        })
        .collect()
}
