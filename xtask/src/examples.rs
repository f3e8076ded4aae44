//! `cargo xtask examples`: every example is run, and prints what it is said to print.
//!
//! An example is a folder below `examples/` with `output.txt`, in which `...` stands for any text within a line.
//! One with `request.txt` is a server: it prints an address in its first line, and what is compared is its answer
//! to a GET of that path. Examples need no key and no network, so none is given to them.
//!
//! Invariant: a server that was started here is ended here, whatever its answer was.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// BOUND: an example that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines that an example may have at most, its comments included: what the README promises of them.
const MOST_LINES: &[(&str, usize)] = &[("minimal", 30), ("axum-sse", 60)];
/// Lines that the tool of the example with a tool may have.
const MOST_TOOL_LINES: usize = 15;

pub(crate) fn run() -> Result<()> {
    shell::build()?;
    let names = names()?;
    for name in &names {
        let folder = shell::root().join("examples").join(name);
        let output = match fs::read_to_string(folder.join("request.txt")) {
            Ok(path) => asked(name, path.trim()),
            Err(_) => ran(name),
        };
        let output = output.with_context(|| format!("run example `{name}`"))?;
        let expected = read(&folder.join("output.txt"))?;
        ensure!(
            is_like(&output, &expected),
            "example `{name}` printed\n{output}\ninstead of\n{expected}"
        );
        println!("example {name}: as expected");
    }
    Ok(())
}

/// What is wrong with the examples as texts: lengths, and what each has to have.
pub(crate) fn check(problems: &mut Vec<String>) -> Result<()> {
    for name in names()? {
        let folder = shell::root().join("examples").join(&name);
        let source = read(&folder.join("src/main.rs"))?;
        let lines = source.lines().count();
        if let Some((_, most)) = MOST_LINES.iter().find(|(known, _)| *known == name)
            && lines > *most
        {
            problems.push(format!(
                "examples/{name}: {lines} lines, at most {most} are promised"
            ));
        }
        if name == "custom-tool" {
            let tool = source
                .lines()
                .skip_while(|line| !line.starts_with("// The tool begins here."))
                .take_while(|line| !line.starts_with("// The tool ends here."))
                .filter(|line| !line.trim_start().starts_with("//") && !line.trim().is_empty())
                .count();
            if tool == 0 || tool > MOST_TOOL_LINES {
                problems.push(format!(
                    "examples/{name}: the tool has {tool} lines, at most {MOST_TOOL_LINES} are promised"
                ));
            }
        }
        for file in ["output.txt", "Cargo.toml"] {
            if !folder.join(file).is_file() {
                problems.push(format!("examples/{name}: there is no {file}"));
            }
        }
        if !source.contains("AnthropicConfig::new") && !source.contains("AnthropicClient") {
            problems.push(format!(
                "examples/{name}: does not say how to call a real model"
            ));
        }
    }
    Ok(())
}

fn names() -> Result<Vec<String>> {
    let folder = shell::root().join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Whether a text is like another in which `...` stands for anything within a line.
fn is_like(text: &str, pattern: &str) -> bool {
    let line_is_like = |line: &str, pattern: &str| match pattern.split_once("...") {
        None => line == pattern,
        Some((begins, ends)) => {
            line.len() >= begins.len() + ends.len()
                && line.starts_with(begins)
                && line.ends_with(ends)
        }
    };
    let (lines, patterns): (Vec<&str>, Vec<&str>) = (
        text.trim_end().lines().collect(),
        pattern.trim_end().lines().collect(),
    );
    lines.len() == patterns.len()
        && lines
            .iter()
            .zip(patterns)
            .all(|(line, pattern)| line_is_like(line, pattern))
}

fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(shell::built(&format!("example-{name}"))?);
    command
        .current_dir(shell::root())
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("ANTHROPIC_BASE_URL")
        .stdin(Stdio::null());
    Ok(command)
}

fn ran(name: &str) -> Result<String> {
    let output = command(name)?.output().context("start it")?;
    if !output.status.success() {
        bail!(
            "it ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Ends the server when it goes out of scope.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn asked(name: &str, path: &str) -> Result<String> {
    let child = command(name)?
        .stdout(Stdio::piped())
        .spawn()
        .context("start it")?;
    let mut server = Server(child);
    let out = server.0.stdout.take().context("its output is piped")?;
    let mut line = String::new();
    BufReader::new(out)
        .read_line(&mut line)
        .context("read its address")?;
    let address = line
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .with_context(|| format!("there is no address in `{}`", line.trim()))?;
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("read its answer")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("it answers with HTTP")?;
    ensure!(head.contains(" 200 "), "it answered {head}");
    Ok(body.to_owned())
}
