//! The log: what the engine tells, as lines on standard error or in a file.
//!
//! `OTTO_LOG` says what, `OTTO_LOG_FORMAT` how, `OTTO_LOG_FILE` where. Commands that talk to a person log
//! nothing unless asked; a server logs what it does.
//!
//! Invariant: one event is one line, whatever is in it: control characters, line ends and characters that
//! change how a terminal shows text are escaped.

mod queue;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use otto::env::{self, Environment};
use otto::text::visible;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::error::Failure;
use crate::log::queue::Queue;

/// How long the end of a command waits for the last lines to be written.
const DRAIN: Duration = Duration::from_secs(1);

/// The log of this process.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Option<Lines>,
}

impl Log {
    /// Lines are written by a thread of their own from now on, so that a slow reader holds nobody up. To be
    /// called when the process may have threads.
    pub(crate) fn go_on_in_background(&self) {
        let Some(lines) = self.lines.clone() else {
            return;
        };
        if !lines.queue.begin() {
            return;
        }
        let queue = lines.queue.clone();
        let serve = move || {
            let shared = lines.queue.clone();
            shared.serve(|line| lines.put(line));
        };
        let thread = thread::Builder::new().name("otto-log".to_owned());
        if thread.spawn(serve).is_err() {
            queue.cannot_begin();
        }
    }

    /// Waits a moment for the last lines.
    pub(crate) fn finish(&self) {
        if let Some(lines) = &self.lines {
            lines.queue.drain(DRAIN);
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Pretty,
}

/// Starts the log. `default` is the filter where `OTTO_LOG` is not set.
pub(crate) fn start(environment: &Environment, default: &str) -> Result<Log, Failure> {
    let filter = environment.variable(env::OTTO_LOG).unwrap_or(default);
    if filter == "off" {
        return Ok(Log::default());
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("OTTO_LOG is `{}`: {error}", visible(filter)))
            .hint("expected a filter such as `info` or `otto=debug,warn`")
    })?;
    let format = match environment.variable(env::OTTO_LOG_FORMAT) {
        None | Some("pretty") => Format::Pretty,
        Some("json") => Format::Json,
        Some(other) => {
            let text = format!("OTTO_LOG_FORMAT is `{}`", visible(other));
            return Err(Failure::usage(text).hint("expected `json` or `pretty`"));
        }
    };
    let target = match environment.variable(env::OTTO_LOG_FILE) {
        None => Target::Stderr,
        Some(path) => Target::File(open(Path::new(path))?),
    };
    let lines = Lines {
        format,
        target,
        queue: Arc::default(),
    };
    let log = Log {
        lines: Some(lines.clone()),
    };
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        Format::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(true)
                    .with_writer(lines),
            )
            .init(),
        Format::Pretty => registry
            .with(fmt::layer().with_ansi(false).with_writer(lines))
            .init(),
    }
    Ok(log)
}

fn open(path: &Path) -> Result<Arc<File>, Failure> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        // The log names agents, sessions and money.
        .mode(0o600)
        .open(path);
    file.map(Arc::new).map_err(|error| {
        let shown = visible(&path.to_string_lossy()).into_owned();
        Failure::usage(format!("open the log `{shown}`: {error}"))
            .hint("OTTO_LOG_FILE names a file in a directory that exists and can be written")
    })
}

/// Where lines go.
#[derive(Debug, Clone)]
enum Target {
    Stderr,
    File(Arc<File>),
}

/// Takes one event at a time and writes it as one line.
#[derive(Debug, Clone)]
struct Lines {
    format: Format,
    target: Target,
    queue: Arc<Queue>,
}

impl Lines {
    /// Writes a line, or that lines are missing.
    fn put(&self, line: Result<&str, u64>) {
        let missing;
        let line = match line {
            Ok(line) => line,
            Err(dropped) => {
                missing = missing_lines(dropped, self.format);
                &missing
            }
        };
        // A log that cannot be written has nobody left to tell.
        let _ = match &self.target {
            Target::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Target::File(file) => (&**file).write_all(line.as_bytes()),
        };
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = one_line(text.strip_suffix('\n').unwrap_or(&text), self.format);
        if let Some(line) = self.queue.push(line) {
            self.put(Ok(&line));
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event as one line with its end; what does not belong into a line is escaped as the format does it.
fn one_line(event: &str, format: Format) -> String {
    let shown = visible(event);
    let mut line = match (&shown, format) {
        (std::borrow::Cow::Borrowed(text), _) => (*text).to_owned(),
        (std::borrow::Cow::Owned(text), Format::Pretty) => text.clone(),
        (std::borrow::Cow::Owned(_), Format::Json) => json_line(event),
    };
    line.push('\n');
    line
}

/// What stands in the log for lines that found no room.
fn missing_lines(dropped: u64, format: Format) -> String {
    let text = format!("{dropped} lines of the log are missing: its reader is too slow");
    match format {
        Format::Pretty => format!("WARN otto: {text}\n"),
        Format::Json => format!(
            "{{\"level\":\"WARN\",\"target\":\"otto\",\"event\":\"log_lines_missing\",\"count\":{dropped},\"message\":\"{text}\"}}\n"
        ),
    }
}

/// JSON escapes for every character that is not shown as itself.
fn json_line(event: &str) -> String {
    let mut line = String::with_capacity(event.len());
    let mut buffer = [0; 4];
    for character in event.chars() {
        let text = &*character.encode_utf8(&mut buffer);
        if visible(text) == text {
            line.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                line.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_cannot_steer_a_terminal() {
        let hostile = "a\nb\u{1b}[31m\u{202e}\u{e0041}";
        let pretty = one_line(hostile, Format::Pretty);
        assert_eq!(pretty.matches('\n').count(), 1, "{pretty:?}");
        assert!(!pretty.contains('\u{1b}') && !pretty.contains('\u{202e}'));
        let event = "{\"message\":\"\u{202e}\u{e0041}\u{9b}x\"}";
        let line = one_line(event, Format::Json);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["message"], "\u{202e}\u{e0041}\u{9b}x");
        assert!(line.is_ascii(), "{line:?}");
    }
}
