//! `otto serve` as a process: what it says, what it refuses, how it ends and how it comes back.

mod crash;
mod follow;
mod kill;
mod start;
mod stop;
mod stored;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::world::{PATIENCE, Ran, World};

/// A running `otto serve`. Killed when it is dropped.
pub(super) struct Served {
    child: Child,
    pub(super) url: String,
    /// What it says, line by line.
    lines: mpsc::Receiver<Value>,
    pub(super) listening: Value,
}

impl Served {
    /// Starts it on a free port and waits until it listens.
    pub(super) fn start(world: &World) -> Self {
        Self::start_at(world, "127.0.0.1:0")
    }

    pub(super) fn start_at(world: &World, bind: &str) -> Self {
        let mut child = world
            .command(["serve", "--json", "--bind", bind])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut served = Self {
            child,
            url: String::new(),
            lines,
            listening: Value::Null,
        };
        served.listening = served.line("listening");
        served.url = served.listening["base_url"].as_str().unwrap().to_owned();
        served
    }

    /// The next line of this type.
    #[track_caller]
    pub(super) fn line(&self, kind: &str) -> Value {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line["type"] == kind => return line,
                Ok(line) if line["type"] == "error" => panic!("it failed: {line}"),
                Ok(_) => {}
                Err(error) => panic!("it never said `{kind}`: {error}"),
            }
        }
    }

    pub(super) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end and gives its code; `None` when a signal ended it.
    pub(super) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Ends it as a power cut would end the process.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it where it cannot start, and gives what it said.
    pub(super) fn fails(world: &World, args: &[&str]) -> Ran {
        let all: Vec<&str> = ["serve"].iter().chain(args).copied().collect();
        world.otto(all)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already in most cases.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test's asynchronous part.
pub(super) fn in_async<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

/// A client without connections of its own: each request is a new one.
pub(super) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .no_proxy()
        .build()
        .unwrap()
}

/// Asks and reads JSON.
pub(super) async fn json(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.timeout(PATIENCE).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, value)
}
