//! From what happens in an invocation to what a person sees of it: a pure function with a little memory.
//!
//! It decides the words; where they go and whether a live line is drawn is decided by `live.rs`.
//!
//! Invariant: every foreign string is made visible here, so hostile model or tool text cannot steer a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use otto::core::invocation::{ModelFailureKind, ToolEnding};
use otto::limits::show_duration;
use otto::text::{visible, visible_lines, visible_start};
use otto::{ListenerEvent, Money};

use super::money::show_money;
use super::report::show_tokens;
use super::style::{Painter, Style};

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A piece of the agent's words, as it comes.
    Text(String),
    /// A line of its own.
    Line(String),
}

/// What has been seen so far, as far as later lines need it.
#[derive(Debug)]
pub(crate) struct View {
    painter: Painter,
    cost_limit: Option<Money>,
    turn: u32,
    spent: Money,
    tokens: u64,
    running: BTreeMap<String, Started>,
    thinking: bool,
}

#[derive(Debug)]
struct Started {
    arguments: String,
    during_stream: bool,
    /// Most calls that ran at the same time as this one, itself included.
    together: usize,
}

/// BOUND: characters of a call's arguments and of a failure's text on one line.
const MAX_ARGUMENT_CHARS: usize = 48;
const MAX_FAILURE_CHARS: usize = 120;

impl View {
    pub(crate) fn new(painter: Painter, cost_limit: Option<Money>) -> Self {
        Self {
            painter,
            cost_limit,
            turn: 0,
            spent: Money::ZERO,
            tokens: 0,
            running: BTreeMap::new(),
            thinking: false,
        }
    }

    /// What one event adds to the screen.
    pub(crate) fn show(&mut self, event: &ListenerEvent) -> Vec<Piece> {
        if !matches!(event, ListenerEvent::Thinking(_)) {
            self.thinking = false;
        }
        match event {
            ListenerEvent::TurnStarted { turn, .. } => {
                self.turn = *turn;
                Vec::new()
            }
            ListenerEvent::CompactionStarted { messages, .. } => {
                vec![self.warn(&format!(
                    "the history nears the model's window: the first {messages} messages are being summarized"
                ))]
            }
            ListenerEvent::Compacted {
                summarized: true, ..
            } => vec![self.warn("the history was shortened to a summary and the latest turns")],
            ListenerEvent::Compacted {
                summarized: false, ..
            } => {
                vec![self.warn("the history was shortened without a summary: the model gave none")]
            }
            ListenerEvent::Text(text) => vec![Piece::Text(visible_lines(text).into_owned())],
            ListenerEvent::Thinking(_) => {
                let was_thinking = std::mem::replace(&mut self.thinking, true);
                if was_thinking {
                    Vec::new()
                } else {
                    vec![self.dim("thinking ...")]
                }
            }
            // The call is told of when it has ended, with its time; until then the live line names it.
            ListenerEvent::ToolCallStarted { .. } => Vec::new(),
            ListenerEvent::ToolStarted {
                call,
                input,
                during_stream,
                ..
            } => {
                let started = Started {
                    arguments: arguments(input),
                    during_stream: *during_stream,
                    together: 0,
                };
                self.running.insert(call.0.to_string(), started);
                let together = self.running.len();
                for running in self.running.values_mut() {
                    running.together = running.together.max(together);
                }
                Vec::new()
            }
            ListenerEvent::ToolFinished {
                call,
                tool,
                ending,
                content,
                duration,
                // The content says it in words.
                refused_by: _,
            } => {
                let started = self.running.remove(&*call.0);
                vec![Piece::Line(self.tool_line(
                    tool,
                    *ending,
                    content,
                    *duration,
                    started.as_ref(),
                ))]
            }
            ListenerEvent::Settled {
                usage,
                charged,
                spent,
                limit,
            } => {
                self.spent = *spent;
                self.cost_limit = limit.or(self.cost_limit);
                if let Some(usage) = usage {
                    self.tokens = self.tokens.saturating_add(usage.total_tokens());
                    return Vec::new();
                }
                let charged = show_money(*charged);
                vec![self.warn(&format!(
                    "no usage record came for this call: its full hold of {charged} is charged"
                ))]
            }
            ListenerEvent::BudgetWarning {
                scope,
                limit,
                spent,
            } => {
                vec![self.warn(&format!(
                    "80 % of a limit is used: {spent} of {limit} in {}",
                    visible(&scope.to_string())
                ))]
            }
            ListenerEvent::Retrying {
                kind,
                message,
                wait,
            } => {
                let message = visible_start(message, MAX_FAILURE_CHARS);
                vec![self.warn(&format!(
                    "{}: {message}; trying again in {}",
                    failure_word(*kind),
                    seconds(*wait)
                ))]
            }
            ListenerEvent::TurnCut { message } => {
                let message = visible_start(message, MAX_FAILURE_CHARS);
                vec![self.warn(&format!("the reply broke off ({message}); what was whole in it is kept, and the work goes on"))]
            }
            ListenerEvent::WaitingForBudget { denial } => {
                vec![self.warn(&format!(
                    "waiting for money that other calls hold: {}",
                    visible(&denial.to_string())
                ))]
            }
            ListenerEvent::WouldDeny { tool, missing } => {
                vec![self.warn(&format!(
                    "audit: policy would deny `{}` ({})",
                    visible(tool),
                    visible(missing)
                ))]
            }
            ListenerEvent::Restarted => {
                vec![self.warn("the agent's task crashed and was restarted from its journal")]
            }
            // The report that follows says it in full.
            ListenerEvent::Finished(_) => Vec::new(),
        }
    }

    /// Events were lost because this end was too slow.
    pub(crate) fn lagged(&self, count: u64) -> Piece {
        self.dim(&format!("({count} events not shown)"))
    }

    /// The line that stays at the bottom of a terminal.
    pub(crate) fn live_line(
        &self,
        elapsed: Duration,
        time_limit: Option<Duration>,
        columns: usize,
    ) -> String {
        let money = match self.cost_limit {
            Some(limit) => format!("{} of {limit}", show_money(self.spent)),
            None => show_money(self.spent),
        };
        let time = match time_limit {
            Some(limit) => format!("{} of {}", seconds(elapsed), show_duration(limit)),
            None => seconds(elapsed),
        };
        let mut line = format!(
            "turn {} | {money} | {} tokens | {time}",
            self.turn.max(1),
            show_tokens(self.tokens)
        );
        match self.running.len() {
            0 => {}
            1 => line.push_str(" | 1 tool running"),
            count => line.push_str(&format!(" | {count} tools running")),
        }
        // Cut before it is painted: a colour that is not ended would go on. All of it is ASCII, a column each.
        if line.len() > columns {
            line.truncate(columns.saturating_sub(1));
            line.push_str(if columns > 0 { "…" } else { "" });
        }
        self.painter.paint(Style::Dim, &line)
    }

    fn dim(&self, text: &str) -> Piece {
        Piece::Line(self.painter.paint(Style::Dim, text))
    }

    fn warn(&self, text: &str) -> Piece {
        Piece::Line(format!(
            "{} {text}",
            self.painter.paint(Style::Warn, "note:")
        ))
    }

    /// `  fs.read path=notes.md        ok  3 ms  1.2 KiB, beside 2 others, during the reply`
    fn tool_line(
        &self,
        tool: &str,
        ending: ToolEnding,
        content: &str,
        duration: Duration,
        started: Option<&Started>,
    ) -> String {
        let arguments = started.map_or("", |started| started.arguments.as_str());
        let call = format!("{} {arguments}", visible(tool));
        let (word, style) = match ending {
            ToolEnding::Succeeded => ("ok", Style::Good),
            ToolEnding::Failed => ("failed", Style::Warn),
            ToolEnding::Denied => ("denied", Style::Bad),
            ToolEnding::TimedOut => ("timed out", Style::Bad),
            ToolEnding::Cancelled => ("cancelled", Style::Warn),
            ToolEnding::OperatorFault => ("cannot work", Style::Bad),
        };
        let mut notes = Vec::new();
        if ending == ToolEnding::Succeeded {
            notes.push(size(content.len()));
        } else {
            let first_line = content.lines().next().unwrap_or_default();
            notes.push(visible_start(first_line, MAX_FAILURE_CHARS));
        }
        if let Some(started) = started {
            match started.together {
                0 | 1 => {}
                2 => notes.push("beside another".to_owned()),
                count => notes.push(format!("beside {} others", count - 1)),
            }
            if started.during_stream {
                notes.push("during the reply".to_owned());
            }
        }
        format!(
            "  {call:<58} {} {:>7}  {}",
            self.painter.paint(style, &format!("{word:<9}")),
            milliseconds(duration),
            self.painter.paint(Style::Dim, &notes.join(", "))
        )
        .trim_end()
        .to_owned()
    }
}

/// What a person wants to know first of a call.
const FIRST: [&str; 4] = ["path", "url", "pattern", "command"];

/// The arguments of a call on one line, those a person asks for first; of a long text only its size.
fn arguments(input: &str) -> String {
    let Ok(serde_json::Value::Object(input)) = serde_json::from_str(input) else {
        return String::new();
    };
    let mut entries: Vec<_> = input.iter().collect();
    entries.sort_by_key(|(name, _)| {
        FIRST
            .iter()
            .position(|first| first == name)
            .unwrap_or(FIRST.len())
    });
    let mut shown = Vec::new();
    for (name, value) in entries {
        let value = match value {
            serde_json::Value::String(text) if text.chars().count() <= MAX_ARGUMENT_CHARS => {
                visible(text).into_owned()
            }
            serde_json::Value::String(text) => size(text.len()),
            serde_json::Value::Null => continue,
            other => visible_start(&other.to_string(), MAX_ARGUMENT_CHARS),
        };
        shown.push(format!(
            "{}={value}",
            visible_start(name, MAX_ARGUMENT_CHARS)
        ));
    }
    let line = shown.join(" ");
    if line.chars().count() > MAX_ARGUMENT_CHARS {
        format!(
            "{}…",
            line.chars().take(MAX_ARGUMENT_CHARS).collect::<String>()
        )
    } else {
        line
    }
}

/// Bytes for people, in binary units.
pub(super) fn size(bytes: usize) -> String {
    const KIB: usize = 1024;
    const MIB: usize = 1024 * KIB;
    // One decimal, by whole numbers.
    let tenths = |unit: usize| format!("{}.{}", bytes / unit, (bytes % unit) * 10 / unit);
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", tenths(KIB)),
        _ => format!("{} MiB", tenths(MIB)),
    }
}

fn milliseconds(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "<1 ms".to_owned(),
        ms @ 1..10_000 => format!("{ms} ms"),
        _ => seconds(duration),
    }
}

/// Seconds with one decimal below a minute, whole seconds above.
pub(super) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{}.{}s", duration.as_secs(), duration.subsec_millis() / 100);
    }
    show_duration(Duration::from_secs(duration.as_secs()))
}

const fn failure_word(kind: ModelFailureKind) -> &'static str {
    match kind {
        ModelFailureKind::Authentication => "the key was refused",
        ModelFailureKind::Permission => "not permitted",
        ModelFailureKind::NotFound => "not found",
        ModelFailureKind::InvalidRequest => "invalid request",
        ModelFailureKind::PromptTooLong => "the prompt is too long",
        ModelFailureKind::RateLimited => "rate limited",
        ModelFailureKind::SpendLimit => "the account's spending limit is reached",
        ModelFailureKind::Overloaded => "the provider is overloaded",
        ModelFailureKind::Server => "the provider failed",
        ModelFailureKind::Unreachable => "the provider cannot be reached",
        ModelFailureKind::Timeout => "no answer in time",
        ModelFailureKind::CutStream => "the reply broke off",
        ModelFailureKind::Protocol => "the reply was not as the protocol allows",
        ModelFailureKind::Interrupted => "interrupted",
        ModelFailureKind::CircuitOpen => "calls are suspended after too many failures",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use otto::core::ledger::{Amount, Scope};
    use otto::core::{ToolCallId, UtcDay};
    use otto::{Outcome, Usage};

    use super::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    fn call(id: &str) -> ToolCallId {
        ToolCallId(Arc::from(id))
    }

    fn started(id: &str, tool: &str, input: &str, during_stream: bool) -> ListenerEvent {
        ListenerEvent::ToolStarted {
            call: call(id),
            tool: Arc::from(tool),
            input: Arc::from(input),
            during_stream,
        }
    }

    fn finished(id: &str, tool: &str, ending: ToolEnding, content: &str, ms: u64) -> ListenerEvent {
        let (tool, content) = (Arc::from(tool), Arc::from(content));
        ListenerEvent::ToolFinished {
            call: call(id),
            tool,
            ending,
            refused_by: None,
            content,
            duration: Duration::from_millis(ms),
        }
    }

    /// What a person sees of these events, lines in brackets.
    fn shown(events: &[ListenerEvent]) -> String {
        let mut view = View::new(Painter::new(false), Some(money("0.50")));
        let mut screen = String::new();
        for event in events {
            for piece in view.show(event) {
                match piece {
                    Piece::Text(text) => screen.push_str(&text),
                    Piece::Line(line) => screen.push_str(&format!("[{line}]\n")),
                }
            }
        }
        screen
    }

    #[test]
    fn a_turn_with_parallel_tools() {
        let events = [
            ListenerEvent::TurnStarted {
                turn: 1,
                held: money("0.02"),
                max_output_tokens: 4_096,
            },
            ListenerEvent::Thinking("hm".to_owned()),
            ListenerEvent::Thinking("hmm".to_owned()),
            ListenerEvent::Text("I look ".to_owned()),
            ListenerEvent::Text("twice.\n".to_owned()),
            ListenerEvent::ToolCallStarted {
                call: call("1"),
                tool: Arc::from("grep"),
            },
            started(
                "1",
                "grep",
                r#"{"output":"counts","pattern":"TODO","path":"src","limit":5}"#,
                true,
            ),
            started("2", "fs.read", r#"{"path":"notes.txt"}"#, false),
            finished("2", "fs.read", ToolEnding::Succeeded, &"x".repeat(1_300), 3),
            finished(
                "1",
                "grep",
                ToolEnding::TimedOut,
                "no answer within 30s\nmore",
                30_000,
            ),
            started(
                "3",
                "fs.write",
                r#"{"path":"out.md","content":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
                false,
            ),
            finished(
                "3",
                "fs.write",
                ToolEnding::Denied,
                "missing permission: write",
                0,
            ),
            ListenerEvent::Settled {
                usage: Some(Usage {
                    input_tokens: 10,
                    output_tokens: 5,
                    ..Usage::default()
                }),
                charged: money("0.01"),
                spent: money("0.01"),
                limit: Some(money("0.50")),
            },
            ListenerEvent::Finished(Outcome::Completed {
                text: Arc::from("x"),
            }),
        ];
        assert_eq!(
            shown(&events),
            "\
[thinking ...]
I look twice.
[  fs.read path=notes.txt                                     ok           3 ms  1.2 KiB, beside another]
[  grep path=src pattern=TODO limit=5 output=counts           timed out   30.0s  no answer within 30s, beside another, during the reply]
[  fs.write path=out.md content=57 B                          denied      <1 ms  missing permission: write]
"
        );
    }

    #[test]
    fn what_somebody_should_know_is_a_note() {
        let message: Arc<str> = Arc::from("overloaded\u{1b}[2J");
        let events = [
            ListenerEvent::Retrying {
                kind: ModelFailureKind::Overloaded,
                message: Arc::clone(&message),
                wait: Duration::from_millis(1_500),
            },
            ListenerEvent::TurnCut { message },
            ListenerEvent::Settled {
                usage: None,
                charged: money("0.02"),
                spent: money("0.02"),
                limit: None,
            },
            ListenerEvent::BudgetWarning {
                scope: Scope::Day(UtcDay(20_000)),
                limit: Amount::Cost(money("10")),
                spent: Amount::Cost(money("8.5")),
            },
            ListenerEvent::WouldDeny {
                tool: Arc::from("http"),
                missing: "net".to_owned(),
            },
            ListenerEvent::Restarted,
        ];
        assert_eq!(
            shown(&events),
            "\
[note: the provider is overloaded: overloaded\\u{1b}[2J; trying again in 1.5s]
[note: the reply broke off (overloaded\\u{1b}[2J); what was whole in it is kept, and the work goes on]
[note: no usage record came for this call: its full hold of $0.02 is charged]
[note: 80 % of a limit is used: $8.50 of $10.00 in day 2024-10-04]
[note: audit: policy would deny `http` (net)]
[note: the agent's task crashed and was restarted from its journal]
"
        );
    }

    #[test]
    fn the_live_line_tells_spent_and_limit() {
        let mut view = View::new(Painter::new(false), Some(money("0.50")));
        view.show(&ListenerEvent::TurnStarted {
            turn: 2,
            held: money("0.02"),
            max_output_tokens: 1,
        });
        view.show(&ListenerEvent::Settled {
            usage: Some(Usage {
                input_tokens: 12_345,
                ..Usage::default()
            }),
            charged: money("0.0123456"),
            spent: money("0.0123456"),
            limit: Some(money("0.50")),
        });
        view.show(&started("1", "grep", "{}", false));
        assert_eq!(
            view.live_line(
                Duration::from_millis(12_340),
                Some(Duration::from_secs(300)),
                79
            ),
            "turn 2 | $0.012346 of $0.50 | 12,345 tokens | 12.3s of 5m | 1 tool running"
        );
        for (columns, expected) in [(20, "turn 2 | $0.012346 …"), (1, "…"), (0, "")] {
            let line = view.live_line(Duration::ZERO, None, columns);
            assert_eq!(line, expected);
            assert_eq!(line.chars().count(), columns);
        }
    }

    #[test]
    fn hostile_names_and_inputs_stay_on_their_line() {
        let line = shown(&[
            started(
                "1",
                "x\n\u{1b}[31m",
                "{\"path\":\"a\\nb\\u001b[0m\",\"\\u202e\":1}",
                false,
            ),
            finished(
                "1",
                "x\n\u{1b}[31m",
                ToolEnding::Failed,
                "no\u{7}\u{202e}",
                1,
            ),
        ]);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{line}");
    }
}
