//! A process of the soak: this binary with other arguments, its lines, its end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions};
use serde_json::Value;

/// A running process, which prints one JSON object on a line.
pub(crate) struct Process {
    child: Mutex<Child>,
    pid: Pid,
    name: String,
    said: Receiver<Value>,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

/// What a process said, and how it ended.
pub(crate) struct Life {
    pub(crate) lines: Vec<Value>,
    pub(crate) succeeded: bool,
}

impl Process {
    pub(crate) fn start(args: &[&str], temp: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("find this binary")?;
        let mut child = Command::new(program)
            .args(args)
            .env("TMPDIR", temp)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start the {}", args[0]))?;
        let stdout = child.stdout.take().context("read its output")?;
        let pid = Pid::from_child(&child);
        let (sender, said) = channel();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(value.clone());
                // Nobody waits for most of them.
                let _ = sender.send(value);
            }
        });
        Ok(Self {
            child: Mutex::new(child),
            pid,
            name: args[0].to_owned(),
            said,
            lines,
            reader: Some(reader),
        })
    }

    /// Waits for the line with this key, and gives its value.
    pub(crate) fn wait_for(&self, key: &str, patience: Duration) -> Result<Value> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self
                .said
                .recv_timeout(left)
                .with_context(|| format!("the {} does not say `{key}`", self.name))?;
            if let Some(value) = line.get(key) {
                return Ok(value.clone());
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.pid, signal)
            .with_context(|| format!("signal the {}", self.name))
    }

    /// Waits for its end and its last line.
    pub(crate) fn end(mut self, patience: Duration) -> Result<Life> {
        let until = Instant::now() + patience;
        let status = loop {
            let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= until {
                bail!("the {} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Some(reader) = self.reader.take() {
            // The pipe may be held open by an orphan; what was said is kept in any case.
            while !reader.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Life {
            lines: lines.clone(),
            succeeded: status.success(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It has ended, or the soak failed and takes it along.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Children of this process that have not ended after a while: orphans of those it started.
pub(crate) fn children_left(patience: Duration) -> Result<Vec<String>> {
    // The launcher of this process's own sandbox, which it never uses, is no leftover.
    let own = own_launcher();
    let until = Instant::now() + patience;
    loop {
        // Reap what has ended, one after the other.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        let left: Vec<String> = children()?
            .into_iter()
            .filter(|pid| Some(pid) != own.as_ref())
            .collect();
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The oldest child: it was started at the first line of `main`.
fn own_launcher() -> Option<String> {
    let mut pids: Vec<u32> = children()
        .ok()?
        .iter()
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.first().map(u32::to_string)
}

fn children() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").context("list the threads")? {
        let path = task?.path().join("children");
        // A thread may have ended in between.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        all.extend(text.split_whitespace().map(str::to_owned));
    }
    Ok(all)
}
