//! Reading conversations and turns.

use std::collections::BTreeSet;
use std::time::Duration;

use super::errors::ScriptError;
use super::fields::{Fields, Problems, listed, nearest};
use super::node::{Node, Value};
use super::read_blocks::{Shape, read_blocks};
use super::read_faults::read_faults;
use super::{
    Block, BlockKind, Chunk, Content, Conversation, Repeat, Script, Stop, Turn, UsageChange,
};
use crate::expr::{Expr, JsonTemplate, Names, Template};
use crate::limits;
use crate::place::Place;

const SCRIPT_KEYS: &[&str] = &[
    "name",
    "description",
    "let",
    "when",
    "turns",
    "summary",
    "conversations",
];
const CONVERSATION_KEYS: &[&str] = &["name", "description", "let", "when", "turns", "summary"];
/// What a conversation says of itself when nothing else is written.
const SUMMARY: &str = "This is a summary of the conversation so far.";
const TURN_KEYS: &[&str] = &[
    "when", "repeat", "delay", "chunk", "pace", "packet", "thinking", "text", "tool", "tools",
    "blocks", "sse", "stop", "usage", "faults",
];
/// Keys of a turn that mean nothing for a summary.
const NOT_IN_SUMMARY: &[&str] = &["when", "repeat"];

/// Reads a whole script.
pub(super) fn script(root: &Node, origin: &str) -> Result<Script, Vec<ScriptError>> {
    let mut problems = Problems::default();
    let script = read_script(root, origin, &mut problems);
    match script {
        Some(script) if problems.is_empty() => Ok(script),
        _ => Err(problems.into_list()),
    }
}

fn read_script(root: &Node, origin: &str, problems: &mut Problems) -> Option<Script> {
    let place = Place::Root;
    let fields = problems.fields(root, &place, SCRIPT_KEYS)?;
    let name = fields
        .optional("name")
        .and_then(|node| problems.text(node, &place.key("name")))
        .unwrap_or(origin)
        .to_owned();
    let conversations = match (fields.optional("conversations"), fields.optional("turns")) {
        (Some(list), None) => {
            for key in fields.present(&["let", "when"]) {
                problems.add(root, &place, format!("`{key}` belongs to a conversation: move it into an entry of `conversations`"));
            }
            let place = place.key("conversations");
            let list = problems.list(list, &place, limits::CONVERSATIONS, "conversations");
            list.iter()
                .enumerate()
                .filter_map(|(index, node)| {
                    let place = place.at(index);
                    let fields = problems.fields(node, &place, CONVERSATION_KEYS)?;
                    let name = fields
                        .optional("name")
                        .and_then(|node| problems.text(node, &place.key("name")));
                    let name =
                        name.map_or_else(|| format!("conversation {}", index + 1), str::to_owned);
                    read_conversation(&fields, &place, name, problems)
                })
                .collect()
        }
        (None, Some(_)) => read_conversation(&fields, &place, name.clone(), problems)
            .into_iter()
            .collect(),
        (Some(_), Some(_)) => {
            problems.add(
                root,
                &place,
                "expected either `turns` or `conversations`, found both",
            );
            Vec::new()
        }
        (None, None) => {
            problems.add(
                root,
                &place,
                "a script needs `turns`, or `conversations` with `turns` in each",
            );
            Vec::new()
        }
    };
    if conversations.is_empty() && problems.is_empty() {
        problems.add(root, &place, "expected at least one conversation");
    }
    Some(Script {
        name,
        conversations,
    })
}

/// Reads expressions and templates of one conversation, and remembers which labels they use.
pub(super) struct Reader<'p> {
    pub(super) problems: &'p mut Problems,
    lets: Vec<String>,
    /// Labels used, with the line and place of the use.
    used: Vec<(String, u64, u64, String)>,
}

impl Reader<'_> {
    const fn names(&self, in_for_each: bool) -> Names<'_> {
        Names {
            lets: self.lets.as_slice(),
            in_for_each,
        }
    }

    /// An expression.
    pub(super) fn expr(&mut self, node: &Node, place: &Place<'_>) -> Option<Expr> {
        let text = self.problems.text(node, place)?;
        match Expr::parse(text, self.names(false)) {
            Ok(expr) => {
                self.remember(node, place, std::iter::once(&expr));
                Some(expr)
            }
            Err(problem) => {
                self.problems.add(node, place, problem);
                None
            }
        }
    }

    /// A text with expressions.
    pub(super) fn template(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        in_for_each: bool,
    ) -> Option<Template> {
        let text = self.problems.text(node, place)?;
        match Template::parse(text, self.names(in_for_each)) {
            Ok(template) => {
                self.remember(node, place, template.expressions());
                Some(template)
            }
            Err(problem) => {
                self.problems.add(node, place, problem);
                None
            }
        }
    }

    /// A JSON value whose texts may hold expressions.
    pub(super) fn json(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        in_for_each: bool,
    ) -> Option<JsonTemplate> {
        Some(match &node.value {
            Value::Text(text) if text.contains("{{") => {
                JsonTemplate::Text(self.template(node, place, in_for_each)?)
            }
            Value::List(list) => {
                let entries: Option<Vec<_>> = list
                    .iter()
                    .enumerate()
                    .map(|(index, entry)| self.json(entry, &place.at(index), in_for_each))
                    .collect();
                JsonTemplate::list(entries?)
            }
            Value::Map(map) => {
                let entries: Option<Vec<_>> = map
                    .iter()
                    .map(|(key, entry)| {
                        Some((
                            key.name.clone(),
                            self.json(entry, &place.key(&key.name), in_for_each)?,
                        ))
                    })
                    .collect();
                JsonTemplate::map(entries?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                JsonTemplate::Fixed(scalar(&node.value).to_string())
            }
        })
    }

    fn remember<'e>(
        &mut self,
        node: &Node,
        place: &Place<'_>,
        expressions: impl Iterator<Item = &'e Expr>,
    ) {
        for label in expressions.filter_map(Expr::label) {
            self.used
                .push((label.to_owned(), node.line, node.column, place.to_string()));
        }
    }

    /// One expression or a list of them.
    fn expressions(&mut self, node: Option<&Node>, place: &Place<'_>) -> Vec<Expr> {
        match node {
            None => Vec::new(),
            Some(node) if matches!(node.value, Value::List(_)) => {
                let list = self
                    .problems
                    .list(node, place, limits::ALTERNATIVES, "expressions");
                list.iter()
                    .enumerate()
                    .filter_map(|(index, node)| self.expr(node, &place.at(index)))
                    .collect()
            }
            Some(node) => self.expr(node, place).into_iter().collect(),
        }
    }
}

/// A node without lists and maps in it, as JSON.
fn scalar(value: &Value) -> serde_json::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.clone().into(),
        Value::Text(text) => text.as_str().into(),
        Value::Null | Value::List(_) | Value::Map(_) => serde_json::Value::Null,
    }
}

/// A node as JSON.
pub(super) fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::List(list) => list.iter().map(to_json).collect(),
        Value::Map(map) => map
            .iter()
            .map(|(key, node)| (key.name.clone(), to_json(node)))
            .collect(),
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_)) => scalar(value),
    }
}

fn read_conversation(
    fields: &Fields<'_>,
    place: &Place<'_>,
    name: String,
    problems: &mut Problems,
) -> Option<Conversation> {
    let mut reader = Reader {
        problems,
        lets: Vec::new(),
        used: Vec::new(),
    };
    let lets = read_lets(fields, place, &mut reader);
    let when = reader.expressions(fields.optional("when"), &place.key("when"));
    let turns_place = place.key("turns");
    let Some(list) = fields.optional("turns") else {
        reader.problems.add(
            fields.node,
            place,
            "a conversation needs `turns`: a list of what the model says",
        );
        return None;
    };
    let list = reader
        .problems
        .list(list, &turns_place, limits::TURNS, "turns");
    let turns: Vec<Turn> = list
        .iter()
        .enumerate()
        .filter_map(|(index, node)| read_turn(node, &turns_place.at(index), &mut reader))
        .collect();
    let summary = read_summary(fields, place, &mut reader)?;
    check_labels(&turns, reader);
    Some(Conversation {
        name,
        when,
        lets,
        turns,
        summary,
    })
}

/// What answers a request for a summary: a turn that is neither passed over nor repeated.
fn read_summary(fields: &Fields<'_>, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<Turn> {
    if let Some(node) = fields.optional("summary") {
        let place = place.key("summary");
        if let Value::Map(entries) = &node.value {
            let repeated = entries
                .iter()
                .find(|(key, _)| NOT_IN_SUMMARY.contains(&key.name.as_str()));
            if let Some((key, _)) = repeated {
                let problem = "a summary is neither passed over nor repeated";
                let place = place.key(&key.name);
                reader
                    .problems
                    .add_at(key.line, key.column, &place, problem);
            }
        }
        return read_turn(node, &place, reader);
    }
    let text = Template::parse(SUMMARY, reader.names(false)).ok()?;
    Some(Turn {
        when: Vec::new(),
        repeat: Repeat::Times(1),
        delay: Duration::ZERO,
        packet: None,
        content: Content::Blocks(vec![Block {
            kind: BlockKind::Text(text),
            delay: Duration::ZERO,
            pace: Duration::ZERO,
            chunk: Chunk::DEFAULT,
        }]),
        stop: None,
        usage: UsageChange::default(),
        faults: Vec::new(),
    })
}

fn read_lets(
    fields: &Fields<'_>,
    place: &Place<'_>,
    reader: &mut Reader<'_>,
) -> Vec<(String, Vec<Expr>)> {
    let place = place.key("let");
    let Some(node) = fields.optional("let") else {
        return Vec::new();
    };
    let Value::Map(entries) = &node.value else {
        reader
            .problems
            .wrong(node, &place, "a mapping from names to expressions");
        return Vec::new();
    };
    if entries.len() > limits::LETS {
        reader.problems.add(
            node,
            &place,
            format!("{} names: expected at most {}", entries.len(), limits::LETS),
        );
        return Vec::new();
    }
    let mut lets = Vec::new();
    for (key, node) in entries {
        if !is_name(&key.name) {
            reader
                .problems
                .add_at(key.line, key.column, &place.key(&key.name), NAME_RULE);
            continue;
        }
        let alternatives = reader.expressions(Some(node), &place.key(&key.name));
        // Known from here on: a `let` sees only those before it, so evaluation ends.
        reader.lets.push(key.name.clone());
        lets.push((key.name.clone(), alternatives));
    }
    lets
}

pub(super) const NAME_RULE: &str =
    "expected a name of small letters, digits and `_` that begins with a letter";

pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Every label that is used belongs to some call.
fn check_labels(turns: &[Turn], reader: Reader<'_>) {
    let known: BTreeSet<&str> = turns
        .iter()
        .flat_map(|turn| (0..limits::BLOCKS).filter_map(|block| turn.label(block)))
        .collect();
    for (label, line, column, place) in reader.used {
        if known.contains(label.as_str()) {
            continue;
        }
        let hint = match nearest(&label, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "this conversation calls no tool".to_owned(),
            None => format!(
                "its calls are named {}",
                listed(&known.iter().copied().collect::<Vec<_>>())
            ),
        };
        reader.problems.add_at(
            line,
            column,
            &Place::Root.key(&place),
            format!("no call is named `{label}`: {hint}"),
        );
    }
}

fn read_turn(node: &Node, place: &Place<'_>, reader: &mut Reader<'_>) -> Option<Turn> {
    let fields = reader.problems.fields(node, place, TURN_KEYS)?;
    let duration = |key: &'static str, reader: &mut Reader<'_>| {
        fields
            .optional(key)
            .and_then(|node| reader.problems.duration(node, &place.key(key)))
    };
    let delay = duration("delay", reader).unwrap_or_default();
    let shape = Shape {
        delay: Duration::ZERO,
        pace: duration("pace", reader).unwrap_or_default(),
        chunk: fields
            .optional("chunk")
            .and_then(|node| read_chunk(node, &place.key("chunk"), reader.problems))
            .unwrap_or(Chunk::DEFAULT),
    };
    let sse = fields.optional("sse");
    let blocks = fields.present(&["thinking", "text", "tool", "tools", "blocks"]);
    let content = match sse {
        Some(node) => {
            if let Some(key) = blocks.first() {
                reader.problems.add(
                    node,
                    place,
                    format!("`sse` is a whole stream: remove `{key}`"),
                );
            }
            let mut text = reader.problems.text(node, &place.key("sse"))?.to_owned();
            // A YAML block text ends with one line break however many blank lines the author wrote, but the
            // last event needs its blank line.
            if text.ends_with('\n') && !text.ends_with("\n\n") {
                text.push('\n');
            }
            Content::Sse(text)
        }
        None => Content::Blocks(read_blocks(&fields, place, shape, reader)),
    };
    Some(Turn {
        when: reader.expressions(fields.optional("when"), &place.key("when")),
        repeat: fields.optional("repeat").map_or(Repeat::Times(1), |node| {
            read_repeat(node, &place.key("repeat"), reader.problems)
        }),
        delay,
        packet: fields
            .optional("packet")
            .and_then(|node| read_packet(node, &place.key("packet"), reader.problems)),
        content,
        stop: fields
            .optional("stop")
            .and_then(|node| read_stop(node, &place.key("stop"), reader.problems)),
        usage: fields
            .optional("usage")
            .map(|node| read_usage(node, &place.key("usage"), reader.problems))
            .unwrap_or_default(),
        faults: fields
            .optional("faults")
            .map(|node| read_faults(node, &place.key("faults"), reader.problems))
            .unwrap_or_default(),
    })
}

fn read_repeat(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Repeat {
    if matches!(&node.value, Value::Text(text) if text == "forever") {
        return Repeat::Forever;
    }
    let times = match &node.value {
        Value::Number(number) => number
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=limits::REPEATS).contains(n)),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if times.is_none() {
        problems.wrong(
            node,
            place,
            &format!("a whole number from 1 to {} or `forever`", limits::REPEATS),
        );
    }
    Repeat::Times(times.unwrap_or(1))
}

/// Reads `chunk`.
pub(super) fn read_chunk(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Option<Chunk> {
    match &node.value {
        Value::Text(text) if text == "words" => Some(Chunk::Words),
        Value::Text(text) if text == "whole" => Some(Chunk::Whole),
        Value::Number(number) => match number.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(characters @ 1..=1_000_000) => Some(Chunk::Characters(characters)),
            _ => {
                problems.wrong(node, place, "a number of characters from 1 to 1000000");
                None
            }
        },
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            problems.wrong(node, place, "a number of characters, `words` or `whole`");
            None
        }
    }
}

/// `packet: 7`, or `packet: { bytes: 1, every: 10ms }`.
fn read_packet(
    node: &Node,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<(usize, Duration)> {
    if matches!(node.value, Value::Number(_)) {
        return Some((problems.count(node, place, 1, 1 << 20)?, Duration::ZERO));
    }
    let fields = problems.fields(node, place, &["bytes", "every"])?;
    let every = fields
        .optional("every")
        .and_then(|node| problems.duration(node, &place.key("every")))
        .unwrap_or_default();
    let Some(bytes) = fields.optional("bytes") else {
        problems.add(node, place, "a `packet` needs `bytes`");
        return None;
    };
    Some((
        problems.count(bytes, &place.key("bytes"), 1, 1 << 20)?,
        every,
    ))
}

/// The reasons that a model gives for ending a reply.
const STOPS: &[&str] = &[
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
];

/// `stop: end_turn`, or a mapping with `reason` and what goes with it. A single word must be one of [`STOPS`], so that a
/// slip is found; the `reason` of a mapping may be any word, to try what is made of one that nobody knows.
fn read_stop(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Option<Stop> {
    if let Value::Text(reason) = &node.value {
        if !STOPS.contains(&&**reason) {
            let expected = format!(
                "one of {}, or a mapping such as {{ reason: something_new }} for one that nobody knows",
                listed(STOPS)
            );
            problems.wrong(node, place, &expected);
            return None;
        }
        return Some(Stop {
            reason: reason.clone(),
            category: None,
            explanation: None,
            sequence: None,
        });
    }
    let fields = problems.fields(
        node,
        place,
        &["reason", "category", "explanation", "sequence"],
    )?;
    let mut text = |key: &'static str| {
        fields
            .optional(key)
            .and_then(|node| problems.text(node, &place.key(key)))
            .map(str::to_owned)
    };
    let (reason, category, explanation, sequence) = (
        text("reason"),
        text("category"),
        text("explanation"),
        text("sequence"),
    );
    if reason.is_none() {
        problems.add(node, place, "a `stop` needs `reason`, such as `refusal`");
    }
    Some(Stop {
        reason: reason?,
        category,
        explanation,
        sequence,
    })
}

fn read_usage(node: &Node, place: &Place<'_>, problems: &mut Problems) -> UsageChange {
    const KEYS: &[&str] = &[
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
    ];
    const MOST: u64 = 1_000_000_000;
    let Some(fields) = problems.fields(node, place, KEYS) else {
        return UsageChange::default();
    };
    let mut tokens = |key: &'static str| {
        fields
            .optional(key)
            .and_then(|node| problems.number(node, &place.key(key), 0, MOST))
    };
    UsageChange {
        input_tokens: tokens("input_tokens"),
        output_tokens: tokens("output_tokens"),
        cache_read_tokens: tokens("cache_read_tokens"),
        cache_write_5m_tokens: tokens("cache_write_5m_tokens"),
        cache_write_1h_tokens: tokens("cache_write_1h_tokens"),
    }
}
