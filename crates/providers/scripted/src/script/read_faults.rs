//! Reading faults.

use super::fields::{Fields, Problems, listed};
use super::node::{Node, Value};
use super::read::to_json;
use super::{
    Answer, AnswerBody, Attempts, BadEnding, Bill, CERTAIN, ErrorEvent, Fault, FaultKind,
    Insertion, LineEnds, Point, StreamFault, WireUsage,
};
use crate::error::default_for;
use crate::limits;
use crate::place::Place;

const KEYS: &[&str] = &[
    "attempt",
    "chance",
    "bill",
    "status",
    "error",
    "body",
    "headers",
    "content_type",
    "pad",
    "wire",
    "reset",
    "stall",
    "cut",
    "error_event",
    "insert",
    "duplicate",
    "drop",
    "usage",
    "message_deltas",
    "pings",
    "line_ends",
    "comments",
    "bom",
    "multiline",
    "model",
];
const ANSWER_KEYS: &[&str] = &["status", "error", "body", "pad"];
const STREAM_KEYS: &[&str] = &[
    "reset",
    "stall",
    "cut",
    "error_event",
    "insert",
    "duplicate",
    "drop",
    "usage",
    "message_deltas",
    "pings",
    "line_ends",
    "comments",
    "bom",
    "multiline",
    "model",
    "content_type",
];
/// Latest byte or event a fault may point at.
const FARTHEST: usize = 1 << 30;

/// Reads a list of faults.
pub(super) fn read_faults(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Vec<Fault> {
    let list = problems.list(node, place, limits::FAULTS, "faults");
    list.iter()
        .enumerate()
        .filter_map(|(index, node)| read_fault(node, &place.at(index), problems))
        .collect()
}

fn read_fault(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Option<Fault> {
    let fields = problems.fields(node, place, KEYS)?;
    let chance = fields
        .optional("chance")
        .map(|node| read_chance(node, &place.key("chance"), problems));
    let attempts = match fields.optional("attempt") {
        Some(node) => read_attempts(node, &place.key("attempt"), problems),
        // A fault by chance may befall any attempt; a certain one would befall all of them.
        None if chance.is_some() => Attempts::All,
        None => Attempts::These(vec![1]),
    };
    let bill = fields.optional("bill").and_then(|node| {
        problems.word(
            node,
            &place.key("bill"),
            &[
                ("sent", Bill::Sent),
                ("whole", Bill::Whole),
                ("nothing", Bill::Nothing),
            ],
        )
    });
    let kind = read_kind(&fields, place, problems)?;
    Some(Fault {
        attempts,
        chance: chance.unwrap_or(CERTAIN),
        kind,
        bill: bill.unwrap_or(Bill::Sent),
    })
}

fn read_kind(fields: &Fields<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<FaultKind> {
    let (answer, stream) = (fields.present(ANSWER_KEYS), fields.present(STREAM_KEYS));
    if let Some(node) = fields.optional("wire") {
        if let Some(other) = answer.iter().chain(&stream).next() {
            problems.add(
                node,
                place,
                format!("`wire` replaces the whole response: remove `{other}`"),
            );
        }
        return problems
            .text(node, &place.key("wire"))
            .map(|text| FaultKind::Wire(text.to_owned()));
    }
    if !answer.is_empty() {
        if let Some(other) = stream.iter().find(|key| **key != "content_type") {
            problems.add(
                fields.node,
                place,
                format!("`{}` replaces the answer: remove `{other}`", answer[0]),
            );
        }
        return read_answer(fields, place, problems).map(FaultKind::Answer);
    }
    let before = |key| {
        fields
            .optional(key)
            .is_some_and(|node| matches!(&node.value, Value::Text(text) if text == "before"))
    };
    for (key, kind) in [
        ("reset", FaultKind::ResetBefore),
        ("stall", FaultKind::StallBefore),
    ] {
        if before(key) {
            if let Some(other) = stream.iter().find(|other| **other != key) {
                problems.add(
                    fields.node,
                    place,
                    format!("`{key}: before` sends nothing: remove `{other}`"),
                );
            }
            return Some(kind);
        }
    }
    if stream.is_empty() && fields.optional("headers").is_none() {
        problems.add(
            fields.node,
            place,
            format!(
                "a fault needs what goes wrong: one of {}",
                listed(&[ANSWER_KEYS, STREAM_KEYS, &["wire"]].concat())
            ),
        );
        return None;
    }
    Some(FaultKind::Stream(Box::new(read_stream(
        fields, place, problems,
    ))))
}

/// `20%` or `0.5%`, in thousandths of a percent.
fn read_chance(node: &Node, place: &Place<'_>, problems: &mut Problems) -> u32 {
    let parsed = match &node.value {
        Value::Text(text) => text.strip_suffix('%').and_then(|number| {
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| {
                !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit())
            };
            if !digits(whole) || !digits(fraction) {
                return None;
            }
            let thousandths: u32 = format!("{fraction:0<3}").parse().ok()?;
            whole
                .parse::<u32>()
                .ok()
                .map(|whole| whole * 1_000 + thousandths)
                .filter(|chance| *chance <= CERTAIN)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => None,
    };
    if parsed.is_none() {
        problems.wrong(node, place, "a percentage such as `20%` or `0.5%`");
    }
    parsed.unwrap_or(CERTAIN)
}

fn read_attempts(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Attempts {
    let mut one = |node: &Node| {
        problems
            .number(node, place, 1, 1_000_000)
            .and_then(|n| u32::try_from(n).ok())
    };
    match &node.value {
        Value::Text(text) if text == "all" => Attempts::All,
        Value::List(list) => Attempts::These(list.iter().filter_map(one).collect()),
        Value::Number(_) => Attempts::These(one(node).into_iter().collect()),
        Value::Null | Value::Bool(_) | Value::Text(_) | Value::Map(_) => {
            problems.wrong(
                node,
                place,
                "a whole number from 1, a list of them, or `all`",
            );
            Attempts::All
        }
    }
}

fn read_answer(fields: &Fields<'_>, place: &Place<'_>, problems: &mut Problems) -> Option<Answer> {
    let status = match fields.optional("status") {
        Some(node) => problems
            .number(node, &place.key("status"), 200, 599)
            .and_then(|n| u16::try_from(n).ok())?,
        None => 200,
    };
    let mut headers = read_headers(fields, place, problems);
    let body = match (fields.optional("body"), fields.optional("error")) {
        (Some(node), Some(_)) => {
            problems.add(node, place, "expected either `error` or `body`, found both");
            return None;
        }
        (
            Some(Node {
                value: Value::Text(text),
                ..
            }),
            None,
        ) => {
            let html = text.trim_start().starts_with('<');
            with_content_type(
                &mut headers,
                if html {
                    "text/html; charset=UTF-8"
                } else {
                    "text/plain"
                },
            );
            AnswerBody::Text(text.clone())
        }
        (Some(node), None) => {
            with_content_type(&mut headers, "application/json");
            AnswerBody::Text(to_json(node).to_string())
        }
        (None, error) => {
            with_content_type(&mut headers, "application/json");
            read_error(error, &place.key("error"), status, problems)?
        }
    };
    let pad = fields
        .optional("pad")
        .and_then(|node| problems.number(node, &place.key("pad"), 0, limits::BODY_PAD));
    Some(Answer {
        status,
        headers,
        body,
        pad: pad.unwrap_or(0),
    })
}

fn read_error(
    node: Option<&Node>,
    place: &Place<'_>,
    status: u16,
    problems: &mut Problems,
) -> Option<AnswerBody> {
    let (kind, message) = default_for(status);
    let Some(node) = node else {
        return Some(AnswerBody::Error {
            kind: kind.to_owned(),
            message: message.to_owned(),
            details: None,
        });
    };
    let fields = problems.fields(node, place, &["type", "message", "details"])?;
    let mut text = |key, default: &str| match fields.optional(key) {
        Some(node) => problems.text(node, &place.key(key)).map(str::to_owned),
        None => Some(default.to_owned()),
    };
    let (kind, message) = (text("type", kind), text("message", message));
    Some(AnswerBody::Error {
        kind: kind?,
        message: message?,
        details: fields.optional("details").map(to_json),
    })
}

fn with_content_type(headers: &mut Vec<(String, String)>, value: &str) {
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), value.to_owned()));
    }
}

fn read_headers(
    fields: &Fields<'_>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let place = place.key("headers");
    if let Some(node) = fields.optional("content_type")
        && let Some(text) = problems.text(node, &place)
    {
        headers.push(("content-type".to_owned(), text.to_owned()));
    }
    let Some(node) = fields.optional("headers") else {
        return headers;
    };
    let Value::Map(entries) = &node.value else {
        problems.wrong(node, &place, "a mapping from header names to texts");
        return headers;
    };
    for (key, node) in entries {
        let place = place.key(&key.name);
        let Some(value) = problems.text(node, &place) else {
            continue;
        };
        let name = key.name.to_ascii_lowercase();
        let valid = hyper::header::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && hyper::header::HeaderValue::from_str(value).is_ok();
        if valid {
            headers.push((name, value.to_owned()));
        } else {
            problems.add(node, &place, "not a valid HTTP header");
        }
    }
    headers
}

fn read_stream(fields: &Fields<'_>, place: &Place<'_>, problems: &mut Problems) -> StreamFault {
    let truth = |key, problems: &mut Problems| {
        fields
            .optional(key)
            .and_then(|node| problems.truth(node, &place.key(key)))
            .unwrap_or(false)
    };
    let text = |key, problems: &mut Problems| {
        fields
            .optional(key)
            .and_then(|node| problems.text(node, &place.key(key)))
            .map(str::to_owned)
    };
    let count = |key, least, problems: &mut Problems| {
        fields
            .optional(key)
            .and_then(|node| problems.count(node, &place.key(key), least, 10_000))
            .unwrap_or(least)
    };
    StreamFault {
        ending: read_ending(fields, place, problems),
        error_event: fields
            .optional("error_event")
            .and_then(|node| read_error_event(node, &place.key("error_event"), problems)),
        insert: fields
            .optional("insert")
            .map(|node| read_insertions(node, &place.key("insert"), problems))
            .unwrap_or_default(),
        duplicate: fields
            .optional("duplicate")
            .map(|node| read_event_types(node, &place.key("duplicate"), true, problems))
            .unwrap_or_default(),
        drop: fields
            .optional("drop")
            .map(|node| read_event_types(node, &place.key("drop"), false, problems))
            .unwrap_or_default(),
        usage: fields
            .optional("usage")
            .map(|node| read_wire_usage(node, &place.key("usage"), problems))
            .unwrap_or_default(),
        message_deltas: count("message_deltas", 1, problems),
        pings: count("pings", 0, problems),
        line_ends: fields
            .optional("line_ends")
            .and_then(|node| {
                problems.word(
                    node,
                    &place.key("line_ends"),
                    &[
                        ("lf", LineEnds::Lf),
                        ("crlf", LineEnds::CrLf),
                        ("cr", LineEnds::Cr),
                    ],
                )
            })
            .unwrap_or_default(),
        comments: truth("comments", problems),
        bom: truth("bom", problems),
        multiline: truth("multiline", problems),
        model: text("model", problems),
        content_type: text("content_type", problems),
        headers: read_headers(fields, place, problems),
    }
}

/// `cut`, `reset` or `stall` with a place in the stream.
fn read_ending(
    fields: &Fields<'_>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<(Point, BadEnding)> {
    let present = fields.present(&["cut", "reset", "stall"]);
    if present.len() > 1 {
        problems.add(
            fields.node,
            place,
            format!(
                "a stream ends once: expected only one of {}",
                listed(&present)
            ),
        );
        return None;
    }
    let key = present.first()?;
    let node = fields.optional(key)?;
    let place = place.key(key);
    let ending = match *key {
        "cut" => BadEnding::Close,
        "reset" => BadEnding::Reset,
        _ => BadEnding::Stall,
    };
    if matches!(node.value, Value::Number(_)) {
        return Some((
            Point::Byte(problems.count(node, &place, 0, FARTHEST)?),
            ending,
        ));
    }
    let known: &'static [&'static str] = if ending == BadEnding::Close {
        &["byte", "event", "how"]
    } else {
        &["byte", "event"]
    };
    let inner = problems.fields(node, &place, known)?;
    let how = if ending == BadEnding::Close {
        inner.optional("how")
    } else {
        None
    };
    let how = how.map(|node| {
        problems.word(
            node,
            &place.key("how"),
            &[
                ("close", BadEnding::Close),
                ("clean", BadEnding::Clean),
                ("reset", BadEnding::Reset),
            ],
        )
    });
    let point = match (inner.optional("byte"), inner.optional("event")) {
        (Some(node), None) => Point::Byte(problems.count(node, &place.key("byte"), 0, FARTHEST)?),
        (None, Some(node)) => {
            Point::Event(problems.count(node, &place.key("event"), 0, FARTHEST)?)
        }
        _ => {
            problems.add(
                node,
                &place,
                "expected `byte` or `event`: where the stream ends",
            );
            return None;
        }
    };
    Some((point, how.unwrap_or(Some(ending))?))
}

fn read_error_event(node: &Node, place: &Place<'_>, problems: &mut Problems) -> Option<ErrorEvent> {
    let fields = problems.fields(node, place, &["at", "type", "message", "stays_open"])?;
    let mut text = |key, default: &str| match fields.optional(key) {
        Some(node) => problems.text(node, &place.key(key)).map(str::to_owned),
        None => Some(default.to_owned()),
    };
    let (kind, message) = (
        text("type", "overloaded_error"),
        text("message", "Overloaded"),
    );
    let at = fields.optional("at").map_or(Some(1), |node| {
        problems.count(node, &place.key("at"), 0, FARTHEST)
    });
    let stays_open = fields
        .optional("stays_open")
        .and_then(|node| problems.truth(node, &place.key("stays_open")));
    Some(ErrorEvent {
        at: at?,
        kind: kind?,
        message: message?,
        stays_open: stays_open.unwrap_or(false),
    })
}

fn read_insertions(
    node: &Node,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Vec<(usize, Insertion)> {
    let list = problems.list(node, place, 1_000, "insertions");
    list.iter()
        .enumerate()
        .filter_map(|(index, node)| read_insertion(node, &place.at(index), problems))
        .collect()
}

fn read_insertion(
    node: &Node,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<(usize, Insertion)> {
    const WHAT: [&str; 3] = ["data", "text", "wait"];
    let fields = problems.fields(node, place, &["at", "event", "data", "text", "wait"])?;
    let at = fields.optional("at").map_or(Some(1), |node| {
        problems.count(node, &place.key("at"), 0, FARTHEST)
    })?;
    let name = match fields.optional("event") {
        Some(node) => Some(problems.text(node, &place.key("event"))?.to_owned()),
        None => None,
    };
    let present = fields.present(&WHAT);
    let [what] = present.as_slice() else {
        problems.add(
            node,
            place,
            format!("expected exactly one of {}", listed(&WHAT)),
        );
        return None;
    };
    let value = fields.optional(what)?;
    let place = place.key(what);
    let insertion = match *what {
        "wait" => Insertion::Wait(problems.duration(value, &place)?),
        "text" => Insertion::Text(problems.text(value, &place)?.to_owned()),
        _ => {
            let data = match &value.value {
                Value::Text(text) => text.clone(),
                _ => to_json(value).to_string(),
            };
            Insertion::Event { name, data }
        }
    };
    Some((at, insertion))
}

fn read_event_types(
    node: &Node,
    place: &Place<'_>,
    all: bool,
    problems: &mut Problems,
) -> Vec<String> {
    const TYPES: [&str; 7] = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    ];
    let mut one = |node: &Node| match &node.value {
        Value::Text(text) if TYPES.contains(&text.as_str()) || (all && text == "all") => {
            Some(text.clone())
        }
        _ => {
            problems.wrong(
                node,
                place,
                &format!(
                    "an event type, one of {}{}",
                    listed(&TYPES),
                    if all { ", or `all`" } else { "" }
                ),
            );
            None
        }
    };
    match &node.value {
        Value::List(list) => list.iter().filter_map(one).collect(),
        _ => one(node).into_iter().collect(),
    }
}

/// `usage: missing`, or a mapping of wire fields to any values.
fn read_wire_usage(node: &Node, place: &Place<'_>, problems: &mut Problems) -> WireUsage {
    match &node.value {
        Value::Text(text) if text == "missing" => WireUsage::Missing,
        Value::Map(entries) => WireUsage::Changed(
            entries
                .iter()
                .map(|(key, node)| (key.name.clone(), to_json(node)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
            problems.wrong(node, place, "`missing` or a mapping of usage fields");
            WireUsage::True
        }
    }
}
