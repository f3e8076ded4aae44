//! Scripts: what the model says, as data.
//!
//! A script is YAML. It holds conversations; a conversation holds turns; a turn holds blocks (text, thinking,
//! tool calls) and the faults that may befall it. The reference for authors is `docs/scripted-model.md`.
//!
//! This module turns text into a [`Script`] that cannot be wrong, reporting every problem at once. It plays
//! nothing.
//!
//! Invariant: every label, `let` name and filter used in a script exists, every count is within its bound.

mod errors;
mod fields;
mod node;
mod read;
mod read_blocks;
mod read_faults;

use std::time::Duration;

use serde_json::Value as Json;

pub(crate) use errors::shown;
pub use errors::{ScriptError, ScriptErrors};
pub(crate) use fields::nearest;

use crate::expr::{Expr, JsonTemplate, Template};

/// A parsed script.
///
/// # Example
/// ```
/// use otto_scripted::Script;
///
/// let script = Script::parse("turns: [{ text: 'You asked: {{ task }}' }]", "hello.yml")?;
/// assert_eq!(script.conversations(), 1);
///
/// let errors = Script::parse("turns: [{ txt: hi }]", "typo.yml").unwrap_err();
/// assert!(errors.to_string().contains("did you mean `text`?"));
/// # Ok::<(), otto_scripted::ScriptErrors>(())
/// ```
#[derive(Debug, Clone)]
pub struct Script {
    pub(crate) name: String,
    pub(crate) conversations: Vec<Conversation>,
}

impl Script {
    /// Parses a script. `origin` names it in messages: a path, usually.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once, with lines.
    pub fn parse(yaml: &str, origin: &str) -> Result<Self, ScriptErrors> {
        let errors = match node::parse(yaml) {
            Ok(root) => match read::script(&root, origin) {
                Ok(script) => return Ok(script),
                Err(errors) => errors,
            },
            Err(error) => vec![error],
        };
        Err(ScriptErrors::new(origin, errors))
    }

    /// The script's name: what it says, or else its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many conversations it describes.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// Whether any turn thinks, so that prefixes must be known to sign it.
    pub(crate) fn has_thinking(&self) -> bool {
        let turns = self.conversations.iter().flat_map(Conversation::all_turns);
        turns.into_iter().any(|turn| match &turn.content {
            Content::Blocks(blocks) => blocks
                .iter()
                .any(|block| matches!(block.kind, BlockKind::Thinking { .. })),
            Content::Sse(_) => false,
        })
    }

    /// Whether any turn behaves differently on its n-th attempt, so that attempts must be counted.
    pub(crate) fn has_faults(&self) -> bool {
        self.conversations
            .iter()
            .flat_map(Conversation::all_turns)
            .any(|turn| !turn.faults.is_empty())
    }
}

/// One conversation: when it applies, and its turns.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) name: String,
    /// All of them must hold.
    pub(crate) when: Vec<Expr>,
    /// Names and what they mean: the first expression that holds, else the last.
    pub(crate) lets: Vec<(String, Vec<Expr>)>,
    pub(crate) turns: Vec<Turn>,
    /// Answers a request for a summary of the conversation.
    pub(crate) summary: Turn,
}

impl Conversation {
    fn all_turns(&self) -> impl Iterator<Item = &Turn> {
        self.turns.iter().chain([&self.summary])
    }

    /// Whether the n-th assistant message is simply the n-th turn.
    pub(crate) fn is_straight(&self) -> bool {
        self.turns
            .iter()
            .all(|turn| turn.when.is_empty() && turn.repeat == Repeat::Times(1))
    }
}

/// One answer of the model.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// All of them must hold, else the turn is passed over.
    pub(crate) when: Vec<Expr>,
    pub(crate) repeat: Repeat,
    /// Wait before the answer begins.
    pub(crate) delay: Duration,
    /// Bytes per network write, and the wait between two.
    pub(crate) packet: Option<(usize, Duration)>,
    pub(crate) content: Content,
    pub(crate) stop: Option<Stop>,
    /// Replaces what is reported and billed.
    pub(crate) usage: UsageChange,
    pub(crate) faults: Vec<Fault>,
}

impl Turn {
    /// The label of the call that block number `block` makes.
    pub(crate) fn label(&self, block: usize) -> Option<&str> {
        let Content::Blocks(blocks) = &self.content else {
            return None;
        };
        match &blocks.get(block)?.kind {
            BlockKind::Tool(call) => Some(&call.label),
            BlockKind::Text(_) | BlockKind::Thinking { .. } | BlockKind::Raw(_) => None,
        }
    }
}

/// How often a turn is played before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Times(u32),
    Forever,
}

/// What a turn sends.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Blocks(Vec<Block>),
    /// The bytes of a whole stream, as they are.
    Sse(String),
}

/// One block of a turn.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    /// Wait before the block begins.
    pub(crate) delay: Duration,
    /// Wait before each delta but the first.
    pub(crate) pace: Duration,
    pub(crate) chunk: Chunk,
}

/// What a block is.
#[derive(Debug, Clone)]
pub(crate) enum BlockKind {
    Text(Template),
    Thinking {
        text: Template,
        tokens: Option<u64>,
        redacted: bool,
    },
    Tool(ToolCall),
    /// A block of any other type, sent whole in its start event.
    Raw(JsonTemplate),
}

/// A tool call, or several with `for_each`.
#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    /// The tool, as it is called on the wire.
    pub(crate) name: String,
    /// The name by which later turns speak of the result.
    pub(crate) label: String,
    pub(crate) input: ToolInput,
    /// Whether the input is written in ASCII, with escapes for the rest.
    pub(crate) ascii: bool,
    pub(crate) for_each: Option<Expr>,
    pub(crate) limit: usize,
}

/// The input of a call.
#[derive(Debug, Clone)]
pub(crate) enum ToolInput {
    Json(JsonTemplate),
    /// Text that need not be JSON.
    Text(Template),
}

/// How a block is cut into deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Characters per delta.
    Characters(usize),
    /// One delta per word.
    Words,
    /// One delta.
    Whole,
}

/// How a turn ends.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) reason: String,
    /// For a refusal.
    pub(crate) category: Option<String>,
    pub(crate) explanation: Option<String>,
    /// For `stop_sequence`.
    pub(crate) sequence: Option<String>,
}

/// Token counts that replace the counted ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UsageChange {
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cache_read_tokens: Option<u64>,
    pub(crate) cache_write_5m_tokens: Option<u64>,
    pub(crate) cache_write_1h_tokens: Option<u64>,
}

/// What goes wrong, and when.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) attempts: Attempts,
    /// How likely it is, in thousandths of a percent.
    pub(crate) chance: u32,
    pub(crate) kind: FaultKind,
    pub(crate) bill: Bill,
}

/// A chance of one, in the unit of [`Fault::chance`].
pub(crate) const CERTAIN: u32 = 100_000;

/// Which attempts a fault befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempts {
    All,
    /// Counted from 1.
    These(Vec<u32>),
}

/// What a faulted attempt is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bill {
    /// What was handed to the network.
    Sent,
    /// The whole answer.
    Whole,
    Nothing,
}

/// The kinds of faults.
#[derive(Debug, Clone)]
pub(crate) enum FaultKind {
    /// Another answer instead of the turn.
    Answer(Answer),
    /// These bytes instead of an HTTP response; then the connection closes.
    Wire(String),
    /// The connection is reset before any byte.
    ResetBefore,
    /// Nothing is ever sent.
    StallBefore,
    /// The turn, with a changed stream.
    Stream(Box<StreamFault>),
}

/// An HTTP answer that is not a message.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: AnswerBody,
    /// The body is filled with blanks up to this many bytes.
    pub(crate) pad: u64,
}

/// The body of an [`Answer`].
#[derive(Debug, Clone)]
pub(crate) enum AnswerBody {
    /// The vendor's JSON.
    Error {
        kind: String,
        message: String,
        details: Option<Json>,
    },
    Text(String),
}

/// Changes of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamFault {
    pub(crate) ending: Option<(Point, BadEnding)>,
    /// An `error` event, after which the connection closes or, with `true`, stays open.
    pub(crate) error_event: Option<ErrorEvent>,
    pub(crate) insert: Vec<(usize, Insertion)>,
    /// Event types that are sent twice; `all` for every one.
    pub(crate) duplicate: Vec<String>,
    /// Event types that are left out.
    pub(crate) drop: Vec<String>,
    pub(crate) usage: WireUsage,
    /// How many `message_delta` events carry the end.
    pub(crate) message_deltas: usize,
    /// Pings between any two events.
    pub(crate) pings: usize,
    pub(crate) line_ends: LineEnds,
    pub(crate) comments: bool,
    pub(crate) bom: bool,
    /// Data spread over several lines.
    pub(crate) multiline: bool,
    pub(crate) model: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Byte(usize),
    /// Before this event, counted from 0.
    Event(usize),
}

/// How a stream ends that does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadEnding {
    /// The connection closes without the end of the body.
    Close,
    /// The body ends as if it were whole.
    Clean,
    /// The connection is reset.
    Reset,
    /// Nothing more comes; the connection stays open.
    Stall,
}

/// An `error` event.
#[derive(Debug, Clone)]
pub(crate) struct ErrorEvent {
    /// Before this event, counted from 0.
    pub(crate) at: usize,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) stays_open: bool,
}

/// Something put between two events.
#[derive(Debug, Clone)]
pub(crate) enum Insertion {
    /// An event with this name and data.
    Event {
        name: Option<String>,
        data: String,
    },
    /// Bytes as they are.
    Text(String),
    Wait(Duration),
}

/// What becomes of the usage fields on the wire. The bill does not change.
#[derive(Debug, Clone, Default)]
pub(crate) enum WireUsage {
    #[default]
    True,
    Missing,
    /// These fields replace the true ones.
    Changed(Vec<(String, Json)>),
}

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LineEnds {
    #[default]
    Lf,
    CrLf,
    Cr,
}

#[cfg(test)]
mod tests;
