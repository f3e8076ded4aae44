//! Reads YAML (1.2, core schema) into the tree of JSON.
//!
//! Scalars mean what the core schema says: `yes` is text, `0x10` is sixteen, `1.10` stays `1.10`. Merge keys
//! (`<<`) are resolved, since so many files use them; what has no place in JSON (tags of applications,
//! infinities) is noted. An alias costs as much as all it stands for, so nested aliases cannot multiply.

use std::collections::{BTreeSet, HashMap};

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag, options};

use super::{Bad, Keys, MAX_DEPTH, MAX_NODES, MAX_NUMBER_BYTES, Node};

// BOUND: documents in one text.
const MAX_DOCUMENTS: usize = 1_000;

// BOUND: aliases in one text.
const MAX_ALIASES: usize = 10_000;

// BOUND: names of unknown tags that are listed in a note.
const MAX_NOTED_TAGS: usize = 5;

/// All documents of a text, and what could not be carried over.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) documents: Vec<Node>,
    pub(crate) notes: Vec<String>,
}

/// Parses a text. Without any document there is one: null.
pub(crate) fn parse(text: &str) -> Result<Stream, Bad> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        builder.take(event, &span)?;
    }
    Ok(builder.finish())
}

fn syntax(error: &serde_saphyr::granit_parser::ScanError) -> Bad {
    let marker = error.marker();
    let mut message = crate::text::cut(error.info(), 300);
    if message.contains("tab") {
        message.push_str(" (YAML is indented with spaces, not with tabs)");
    }
    Bad {
        line: marker.line(),
        column: marker.col() + 1,
        message,
    }
}

/// A list or mapping that is not closed yet.
struct Open {
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map {
        entries: Vec<(Box<str>, Node)>,
        keys: Keys,
        key: Option<Key>,
        merged: Vec<Node>,
    },
}

enum Key {
    Name(Box<str>),
    Merge,
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    /// Values in the documents, and values kept for aliases.
    nodes: usize,
    kept: usize,
    aliases: usize,
    infinities: usize,
    tags: BTreeSet<String>,
}

fn bad(span: &Span, message: impl Into<String>) -> Bad {
    Bad {
        line: span.start.line(),
        column: span.start.col() + 1,
        message: message.into(),
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Bad> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, span)?;
                let plain = style == ScalarStyle::Plain;
                // A key is its text, and only a plain `<<` merges.
                if let Some(Open {
                    kind:
                        Kind::Map {
                            entries,
                            keys,
                            key: key @ None,
                            ..
                        },
                    ..
                }) = self.open.last_mut()
                {
                    if plain && text == "<<" && tag.is_none() {
                        *key = Some(Key::Merge);
                        return Ok(());
                    }
                    if !keys.is_new(entries, &text) {
                        return Err(bad(
                            span,
                            format!("the key {} is there twice", crate::text::quote(&text)),
                        ));
                    }
                    *key = Some(Key::Name(Box::from(&*text)));
                    return self.keep(anchor, &Node::Text(Box::from(&*text)), span);
                }
                let node = self.scalar(&text, plain, tag.as_deref(), span)?;
                self.keep(anchor, &node, span)?;
                self.add(node, span)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.note_tag(tag.as_deref());
                self.begin(anchor, Kind::List(Vec::new()), span)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.note_tag(tag.as_deref());
                let kind = Kind::Map {
                    entries: Vec::new(),
                    keys: Keys::default(),
                    key: None,
                    merged: Vec::new(),
                };
                self.begin(anchor, kind, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                if self.documents.len() >= MAX_DOCUMENTS {
                    return Err(bad(span, format!("more than {MAX_DOCUMENTS} documents")));
                }
                Ok(())
            }
            // Comments and names of anchors are not asked for in the options.
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Bad> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(bad(
                span,
                format!("more than {MAX_NODES} values, aliases counted in full"),
            ));
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, kind: Kind, span: &Span) -> Result<(), Bad> {
        self.count(1, span)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(bad(
                span,
                format!("lists and mappings more than {MAX_DEPTH} levels deep"),
            ));
        }
        if let Some(Open {
            kind: Kind::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(bad(
                span,
                "a key that is a list or a mapping has no place in JSON",
            ));
        }
        self.open.push(Open { anchor, kind });
        Ok(())
    }

    fn end(&mut self, span: &Span) -> Result<(), Bad> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let node = match open.kind {
            Kind::List(items) => Node::List(items),
            Kind::Map {
                entries, merged, ..
            } if merged.is_empty() => Node::Map(entries),
            Kind::Map {
                entries, merged, ..
            } => self.merge(entries, merged, span)?,
        };
        self.keep(open.anchor, &node, span)?;
        self.add(node, span)
    }

    /// Keys of the mapping itself win over merged ones, and earlier merged mappings over later ones.
    fn merge(
        &mut self,
        own: Vec<(Box<str>, Node)>,
        merged: Vec<Node>,
        span: &Span,
    ) -> Result<Node, Bad> {
        let mut sources = Vec::new();
        for node in merged {
            match node {
                Node::List(items) => sources.extend(items),
                other => sources.push(other),
            }
        }
        let mut entries: Vec<(Box<str>, Node)> = Vec::new();
        let mut taken: std::collections::HashSet<Box<str>> =
            own.iter().map(|(key, _)| key.clone()).collect();
        for source in sources {
            let Node::Map(source) = source else {
                return Err(bad(span, "`<<` merges a mapping or a list of mappings"));
            };
            entries.extend(
                source
                    .into_iter()
                    .filter(|(key, _)| taken.insert(key.clone())),
            );
        }
        entries.extend(own);
        Ok(Node::Map(entries))
    }

    fn keep(&mut self, anchor: usize, node: &Node, span: &Span) -> Result<(), Bad> {
        if anchor == 0 {
            return Ok(());
        }
        let (nodes, depth) = measure(node);
        self.kept = self.kept.saturating_add(nodes);
        if self.kept > MAX_NODES {
            return Err(bad(
                span,
                format!("anchors hold more than {MAX_NODES} values"),
            ));
        }
        self.anchors.insert(
            anchor,
            Anchored {
                node: node.clone(),
                nodes,
                depth,
            },
        );
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Bad> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return Err(bad(span, format!("more than {MAX_ALIASES} aliases")));
        }
        let Some(Anchored { nodes, depth, .. }) = self.anchors.get(&anchor) else {
            return Err(bad(span, "this alias stands inside what it names"));
        };
        let (nodes, depth) = (*nodes, *depth);
        if self.open.len() + depth > MAX_DEPTH {
            return Err(bad(
                span,
                format!("lists and mappings more than {MAX_DEPTH} levels deep"),
            ));
        }
        self.count(nodes, span)?;
        let node = self.anchors[&anchor].node.clone();
        self.add(node, span)
    }

    fn add(&mut self, node: Node, span: &Span) -> Result<(), Bad> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.documents.push(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map {
                entries,
                keys,
                key,
                merged,
            }) => match key.take() {
                Some(Key::Name(name)) => entries.push((name, node)),
                Some(Key::Merge) => merged.push(node),
                None => {
                    // Only an alias arrives here without a key.
                    let Node::Text(name) = node else {
                        return Err(bad(span, "a key that is not a text has no place in JSON"));
                    };
                    if !keys.is_new(entries, &name) {
                        return Err(bad(
                            span,
                            format!("the key {} is there twice", crate::text::quote(&name)),
                        ));
                    }
                    *key = Some(Key::Name(name));
                }
            },
        }
        Ok(())
    }

    fn note_tag(&mut self, tag: Option<&Tag>) {
        let unknown = tag.filter(|tag| tag.core_suffix().is_none());
        if let Some(tag) = unknown
            && self.tags.len() <= MAX_NOTED_TAGS
        {
            let name = format!("{}{}", tag.handle(), tag.suffix());
            self.tags.insert(crate::text::cut(name, 60));
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        plain: bool,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<Node, Bad> {
        self.note_tag(tag);
        match tag.and_then(Tag::core_suffix) {
            None if plain && tag.is_none() => Ok(self.resolve(text)),
            None | Some("str") => Ok(Node::Text(text.into())),
            Some(kind) => {
                let node = self.resolve(text);
                let fits = match kind {
                    "null" => node == Node::Null,
                    "bool" => matches!(node, Node::Bool(_)),
                    "int" | "float" => matches!(node, Node::Number(_)),
                    _ => false,
                };
                if fits {
                    Ok(node)
                } else {
                    Err(bad(
                        span,
                        format!("this value is not of the type `!!{kind}`"),
                    ))
                }
            }
        }
    }

    /// The core schema of YAML 1.2 (section 10.3.2).
    fn resolve(&mut self, text: &str) -> Node {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
            "true" | "True" | "TRUE" => return Node::Bool(true),
            "false" | "False" | "FALSE" => return Node::Bool(false),
            _ => {}
        }
        if is_infinite(text) {
            self.infinities += 1;
            return Node::Text(text.into());
        }
        number(text).map_or_else(
            || Node::Text(text.into()),
            |number| Node::Number(number.into()),
        )
    }

    fn finish(mut self) -> Stream {
        let mut notes = Vec::new();
        if !self.tags.is_empty() {
            let more = if self.tags.len() > MAX_NOTED_TAGS {
                " and more"
            } else {
                ""
            };
            let names: Vec<&str> = self
                .tags
                .iter()
                .take(MAX_NOTED_TAGS)
                .map(String::as_str)
                .collect();
            notes.push(format!(
                "tags left out: {}{more}",
                crate::text::one_line(&names.join(", "))
            ));
        }
        if self.infinities > 0 {
            notes.push("infinities and NaN became texts".to_owned());
        }
        if self.documents.is_empty() {
            self.documents.push(Node::Null);
        }
        Stream {
            documents: self.documents,
            notes,
        }
    }
}

fn is_infinite(text: &str) -> bool {
    let magnitude = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(magnitude, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// A plain scalar as a JSON number, if it is a number.
pub(crate) fn number(text: &str) -> Option<String> {
    if text.len() > MAX_NUMBER_BYTES {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return u128::from_str_radix(digits, 16)
            .ok()
            .filter(|_| !digits.starts_with('+'))
            .map(|n| n.to_string());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u128::from_str_radix(digits, 8)
            .ok()
            .filter(|_| !digits.starts_with('+'))
            .map(|n| n.to_string());
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let some_digit = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
    if !some_digit || !digits(whole) || !fraction.is_none_or(digits) {
        return None;
    }
    if let Some(exponent) = exponent {
        let power = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if power.is_empty() || !digits(power) {
            return None;
        }
    }
    let whole = whole.trim_start_matches('0');
    let mut number = String::with_capacity(text.len() + 2);
    number.push_str(sign);
    number.push_str(if whole.is_empty() { "0" } else { whole });
    if let Some(fraction) = fraction.filter(|fraction| !fraction.is_empty()) {
        number.push('.');
        number.push_str(fraction);
    }
    if let Some(exponent) = exponent {
        number.push('e');
        number.push_str(exponent);
    }
    Some(number)
}

fn measure(node: &Node) -> (usize, usize) {
    let inside = |(nodes, depth): (usize, usize), child: &Node| {
        let (more, deep) = measure(child);
        (nodes + more, depth.max(deep + 1))
    };
    match node {
        Node::List(items) => items.iter().fold((1, 1), inside),
        Node::Map(entries) => entries.iter().map(|(_, value)| value).fold((1, 1), inside),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => (1, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_print::{Style, print};
    use super::*;

    fn compact(text: &str) -> Result<String, String> {
        let stream = parse(text).map_err(|bad| bad.explain(text))?;
        let documents: Vec<String> = stream
            .documents
            .iter()
            .map(|node| print(node, Style::Compact, usize::MAX).text)
            .collect();
        Ok(documents.join(" --- ")
            + &stream
                .notes
                .iter()
                .map(|note| format!(" ({note})"))
                .collect::<String>())
    }

    #[test]
    fn scalars_mean_what_the_core_schema_says() {
        for (text, json) in [
            (
                "a: yes\nb: no\nc: on\nd: True\ne: ~\nf:\ng: null",
                r#"{"a":"yes","b":"no","c":"on","d":true,"e":null,"f":null,"g":null}"#,
            ),
            (
                "[1, -2, +3, 007, 0x1F, 0o17, 1.10, .5, 5., 1e3, 1_000, 1.2.3, 0xZZ, 12:30]",
                r#"[1,-2,3,7,31,15,1.10,0.5,5,1e3,"1_000","1.2.3","0xZZ","12:30"]"#,
            ),
            (
                "['1', \"true\", !!str 5, !!int \"7\", 2001-01-01]",
                r#"["1","true","5",7,"2001-01-01"]"#,
            ),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
            (
                "a: |\n  x\n  y\nb: >\n  x\n  y\n",
                r#"{"a":"x\ny\n","b":"x y\n"}"#,
            ),
            ("1: a\ntrue: b\n", r#"{"1":"a","true":"b"}"#),
            ("", "null"),
            ("# only a comment\n", "null"),
            ("a\n---\nb\n", r#""a" --- "b""#),
            (
                "[.inf, .nan]",
                r#"[".inf",".nan"] (infinities and NaN became texts)"#,
            ),
            (
                "a: !Ref x\nb: !Sub\n  - y",
                r#"{"a":"x","b":["y"]} (tags left out: !Ref, !Sub)"#,
            ),
        ] {
            assert_eq!(compact(text).as_deref(), Ok(json), "{text}");
        }
    }

    #[test]
    fn anchors_aliases_and_merges() {
        for (text, json) in [
            ("a: &x [1]\nb: *x\nc: *x", r#"{"a":[1],"b":[1],"c":[1]}"#),
            (
                "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3, z: 4}",
                r#"{"base":{"x":1,"y":2},"use":{"x":1,"y":3,"z":4}}"#,
            ),
            (
                "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}",
                r#"{"a":{"x":1},"b":{"x":2,"y":2},"c":{"x":1,"y":2}}"#,
            ),
            ("'<<': 1", r#"{"<<":1}"#),
            ("&k key: 1\nother: *k", r#"{"key":1,"other":"key"}"#),
        ] {
            assert_eq!(compact(text).as_deref(), Ok(json), "{text}");
        }
        assert!(
            compact("a: {<<: 1}")
                .unwrap_err()
                .contains("merges a mapping")
        );
        assert!(compact("a: &a [*a]").is_err());
        assert!(compact("a: *nowhere").is_err());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("a: 1\na: 2", "line 2, column 1: the key `a` is there twice"),
            ("a: 1\n\tb: 2", "not with tabs"),
            ("a: [1, 2", "line"),
            ("? [a, b]\n: c", "a key that is a list"),
            ("!!int x", "not of the type `!!int`"),
            ("a: b: c", "line 1"),
        ] {
            let error = compact(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_refused_early() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..20 {
            let before = i - 1;
            laughs.push_str(&format!(
                "a{i}: &a{i} [{}]\n",
                vec![format!("*a{before}"); 10].join(", ")
            ));
        }
        let error = compact(&laughs).unwrap_err();
        assert!(error.contains("more than 1000000 values"), "{error}");
        assert!(compact(&"[".repeat(100_000)).is_err());
        assert!(compact(&"- ".repeat(100_000)).is_err());
        assert!(compact(&"{a: ".repeat(100_000)).is_err());
        let many = format!("a: &a 1\nb: [{}]", "*a, ".repeat(MAX_ALIASES + 1));
        assert!(compact(&many).unwrap_err().contains("aliases"));
        // Anchors around each other hold their content once each.
        let mut around = format!("[{}]", "1, ".repeat(100_000));
        for i in 0..50 {
            around = format!("&b{i} [{around}]");
        }
        assert!(compact(&around).unwrap_err().contains("anchors hold"));
        assert!(
            compact(&"---\na\n".repeat(MAX_DOCUMENTS + 1))
                .unwrap_err()
                .contains("documents")
        );
    }
}
