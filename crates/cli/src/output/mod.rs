//! Everything that is printed: text for people, JSON lines for programs.
//!
//! Standard output carries what was asked for (an agent's words, a table, JSON lines); progress, warnings and
//! errors go to standard error, so that `otto run agent task > answer.md` holds the answer. A reader that goes
//! away (`otto sessions | head -1`) is no failure: what follows is dropped and the command ends with its own
//! code.
//!
//! Invariant: every string that comes from outside passes `otto::text` before it is written here.

mod events;
mod json;
mod live;
mod money;
mod report;
mod style;
mod table;

use std::io::{self, IsTerminal, Write};

use otto::env::Environment;
use otto::text::visible_lines;
use otto::{Diagnostic, Severity};
use serde_json::Value;

use crate::args::{Color, Global};
use crate::error::{Code, Failure};

pub(crate) use events::{Piece, View};
pub(crate) use json::{
    artifact, event, money as money_json, not_granted, outcome_word, record, report as report_json,
    usage,
};
pub(crate) use live::Live;
pub(crate) use money::show_money;
pub(crate) use report::{show_artifacts, show_report, show_tokens};
pub(crate) use style::{Painter, Style};
pub(crate) use table::Table;

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Standard output.
    Answer,
    /// Standard error.
    Progress,
}

/// Both streams and how to write to them.
pub(crate) struct Out {
    answer: Stream,
    progress: Stream,
    json: bool,
    /// What `COLUMNS` says.
    columns_named: Option<usize>,
}

/// What a terminal has that does not say.
const USUAL_COLUMNS: usize = 80;

struct Stream {
    writer: Box<dyn Write + Send>,
    is_terminal: bool,
    painter: Painter,
    state: Writing,
}

/// Whether a stream still takes bytes.
enum Writing {
    Open,
    /// The reader went away.
    Closed,
    /// Something else is wrong, such as a full disk.
    Failed(io::Error),
}

impl Out {
    pub(crate) fn new(global: &Global, environment: &Environment) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        // `NO_COLOR` (no-color.org): any value that is not empty switches colours off.
        let wanted = |is_terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                is_terminal
                    && environment.variable("NO_COLOR").is_none()
                    && environment.variable("TERM") != Some("dumb")
            }
        };
        let stream = |writer: Box<dyn Write + Send>, is_terminal: bool| Stream {
            writer,
            is_terminal,
            painter: Painter::new(wanted(is_terminal)),
            state: Writing::Open,
        };
        let (answer, progress) = (stdout.is_terminal(), stderr.is_terminal());
        Self {
            answer: stream(Box::new(stdout), answer),
            progress: stream(Box::new(stderr), progress),
            json: global.json,
            columns_named: environment
                .variable("COLUMNS")
                .and_then(|columns| columns.parse().ok())
                .filter(|columns| *columns > 0),
        }
    }

    /// Whether programs read: JSON lines instead of text.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// The columns of the terminal that progress is shown on, asked anew each time: it may have been resized. Where it
    /// does not say, `COLUMNS` does.
    pub(crate) fn columns(&self) -> usize {
        let told =
            rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
        match told {
            0 => self.columns_named.unwrap_or(USUAL_COLUMNS),
            columns => columns,
        }
    }

    pub(crate) fn is_terminal(&self, to: To) -> bool {
        self.stream_ref(to).is_terminal
    }

    pub(crate) fn painter(&self, to: To) -> Painter {
        self.stream_ref(to).painter
    }

    /// Writes text that holds nothing foreign, or only what has been made visible.
    pub(crate) fn write(&mut self, to: To, text: &str) {
        self.stream(to).write(text);
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, to: To, text: &str) {
        let stream = self.stream(to);
        stream.write(text);
        stream.write("\n");
    }

    /// Writes bytes as they are, for an artifact that goes into a file or a pipe.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.answer.write_bytes(bytes);
    }

    /// An output that is shown to nobody.
    pub(crate) fn silent(&self) -> Self {
        let silent = || Stream {
            writer: Box::new(io::sink()),
            is_terminal: false,
            painter: Painter::new(false),
            state: Writing::Open,
        };
        Self {
            answer: silent(),
            progress: silent(),
            json: self.json,
            columns_named: self.columns_named,
        }
    }

    /// Writes a JSON object on a line of its own.
    pub(crate) fn json(&mut self, value: &Value) {
        self.line(To::Answer, &value.to_string());
    }

    /// Tells what somebody should look at, once each.
    pub(crate) fn warnings(&mut self, warnings: &[Diagnostic]) {
        for warning in warnings
            .iter()
            .filter(|warning| warning.severity == Severity::Warning)
        {
            self.line(To::Progress, &format!("{warning}\n"));
        }
    }

    /// Tells what went wrong and returns its code.
    pub(crate) fn failure(&mut self, failure: &Failure) -> Code {
        if self.json {
            self.json(&serde_json::json!({
                "type": "error",
                "exit_code": failure.code.number(),
                "message": failure.message,
                "hint": failure.hint,
            }));
            return failure.code;
        }
        let painter = self.progress.painter;
        let message = visible_lines(&failure.message);
        // Rendered configuration errors begin with the word themselves.
        if message.starts_with("error: ") || message.starts_with("warning: ") {
            self.line(To::Progress, &message);
        } else {
            self.line(
                To::Progress,
                &format!("{} {message}", painter.paint(Style::Bad, "error:")),
            );
        }
        if let Some(hint) = &failure.hint {
            self.line(
                To::Progress,
                &format!(
                    "{} {}",
                    painter.paint(Style::Accent, "hint:"),
                    visible_lines(hint)
                ),
            );
        }
        failure.code
    }

    /// Flushes both streams and decides the final code: output that could not be written, other than to a
    /// reader that went away, is a failure of its own.
    pub(crate) fn finish(&mut self, code: Code) -> Code {
        self.answer.flush();
        self.progress.flush();
        match &self.answer.state {
            Writing::Failed(error) if code == Code::Completed => {
                let text = format!("error: write the output: {error}\n");
                self.progress.write(&text);
                self.progress.flush();
                Code::Other
            }
            _ => code,
        }
    }

    fn stream(&mut self, to: To) -> &mut Stream {
        match to {
            To::Answer => &mut self.answer,
            To::Progress => &mut self.progress,
        }
    }

    const fn stream_ref(&self, to: To) -> &Stream {
        match to {
            To::Answer => &self.answer,
            To::Progress => &self.progress,
        }
    }
}

impl Stream {
    /// Writes and flushes: people watch, and programs read line by line.
    fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    fn write_bytes(&mut self, bytes: &[u8]) {
        if matches!(self.state, Writing::Open)
            && let Err(error) = self
                .writer
                .write_all(bytes)
                .and_then(|()| self.writer.flush())
        {
            self.broke(error);
        }
    }

    fn flush(&mut self) {
        if matches!(self.state, Writing::Open)
            && let Err(error) = self.writer.flush()
        {
            self.broke(error);
        }
    }

    fn broke(&mut self, error: io::Error) {
        self.state = match error.kind() {
            io::ErrorKind::BrokenPipe => Writing::Closed,
            _ => Writing::Failed(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn broken(kind: io::ErrorKind) -> Out {
        let stream = |writer: Box<dyn Write + Send>| Stream {
            writer,
            is_terminal: false,
            painter: Painter::new(false),
            state: Writing::Open,
        };
        Out {
            answer: stream(Box::new(Broken(kind))),
            progress: stream(Box::new(io::sink())),
            json: false,
            columns_named: None,
        }
    }

    #[test]
    fn a_reader_that_went_away_changes_no_code() {
        let mut out = broken(io::ErrorKind::BrokenPipe);
        out.line(To::Answer, "x");
        out.line(To::Answer, "y");
        assert_eq!(out.finish(Code::Completed), Code::Completed);
        assert_eq!(out.finish(Code::BudgetExhausted), Code::BudgetExhausted);
    }

    #[test]
    fn a_full_disk_is_a_failure_unless_there_is_a_worse_one() {
        let mut out = broken(io::ErrorKind::StorageFull);
        out.line(To::Answer, "x");
        assert_eq!(out.finish(Code::Completed), Code::Other);
        assert_eq!(out.finish(Code::Deadline), Code::Deadline);
    }
}
