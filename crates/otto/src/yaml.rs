//! YAML as a tree in which every key and value knows its place.
//!
//! Deserializing straight into structs stops at the first problem and loses positions and the exact text of
//! numbers. A loader that reports everything at once, and reads money to the digit, needs the tree.
//! Anchors and aliases work; tags, merge keys, several documents and keys that are not plain words are
//! refused: no configuration of Otto needs them, and each has been used to smuggle something.
//!
//! Invariant: reading costs at most the constants below, whatever the text holds. An alias counts as all the
//! nodes it stands for, so nested aliases cannot multiply.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};

use crate::diagnostic::{Diagnostic, Place, SourceFile, quoted};

/// BOUND: a configuration file in bytes. Agent files are a few kilobytes; prompts can be long.
pub(crate) const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// BOUND: keys, values, lists and mappings in one file, aliases counted in full.
const MAX_NODES: usize = 10_000;
/// BOUND: lists and mappings inside each other.
const MAX_DEPTH: usize = 32;
/// BOUND: aliases in one file.
const MAX_ALIASES: usize = 100;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

/// The shapes of a value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Text as written, escapes resolved. `plain` tells `true` from `"true"`.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file; keys may repeat here.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: At,
    pub(crate) name: String,
}

/// A position: line and column from 1, width in characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    line: usize,
    column: usize,
    width: usize,
}

impl At {
    pub(crate) fn in_file(self, file: &SourceFile) -> Place {
        file.place(self.line, self.column, self.width)
    }

    fn of(span: &Span) -> Self {
        let (start, end) = (span.start, span.end);
        // A value of several lines is marked at its first character only.
        let width = if start.line() == end.line() {
            end.col().saturating_sub(start.col())
        } else {
            1
        };
        Self {
            line: start.line(),
            column: start.col() + 1,
            width,
        }
    }
}

impl Node {
    /// Whether the value is absent: `~`, `null` or nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What the value is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// Reads a file of one document. `Ok(None)`: the file is empty.
///
/// # Errors
/// The first thing that makes the text unreadable as a tree; later problems cannot be told from its effects.
pub(crate) fn parse(file: &SourceFile) -> Result<Option<Node>, Box<Diagnostic>> {
    let options = options! {
        disallow_directives: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::new(file);
    for event in Parser::new_from_str_with_options(file.text(), options) {
        let (event, span) = event.map_err(|error| syntax_error(file, &error))?;
        builder.take(event, &span)?;
    }
    Ok(builder.root)
}

fn syntax_error(file: &SourceFile, error: &ScanError) -> Box<Diagnostic> {
    let marker = error.marker();
    let place = file.place(marker.line(), marker.col() + 1, 1);
    let line_start_has_tab = file
        .text()
        .split('\n')
        .nth(marker.line().saturating_sub(1))
        .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'));
    let diagnostic = Diagnostic::error(
        place,
        format!("not valid YAML: {}", crate::text::visible(&error.info())),
    );
    Box::new(if line_start_has_tab {
        diagnostic.help("indent with spaces; YAML does not allow tabs there")
    } else {
        diagnostic
    })
}

/// A list or mapping that is not closed yet.
struct Open {
    at: At,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
    },
}

struct Builder<'a> {
    file: &'a SourceFile,
    root: Option<Node>,
    documents: usize,
    open: Vec<Open>,
    nodes: usize,
    aliases: usize,
    anchors: HashMap<usize, Anchored>,
}

struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn new(file: &'a SourceFile) -> Self {
        Self {
            file,
            root: None,
            documents: 0,
            open: Vec::new(),
            nodes: 0,
            aliases: 0,
            anchors: HashMap::new(),
        }
    }

    fn error(&self, at: At, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(at.in_file(self.file), message))
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Box<Diagnostic>> {
        let at = At::of(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                let node = Node {
                    at,
                    value: Value::Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                    },
                };
                self.count(1, at)?;
                self.anchor(anchor, &node);
                self.add(node)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                self.begin(at, anchor, OpenKind::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                self.begin(
                    at,
                    anchor,
                    OpenKind::Mapping {
                        entries: Vec::new(),
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self
                        .error(at, "a second document begins here")
                        .boxed_expected("one document per file; remove the `---`"));
                }
                Ok(())
            }
            // Comments, anchor names and unresolved aliases are not asked for in the options.
            _ => Ok(()),
        }
    }

    fn refuse_tag(&self, tagged: bool, span: &Span) -> Result<(), Box<Diagnostic>> {
        if !tagged {
            return Ok(());
        }
        let at = span
            .tag_span()
            .map_or_else(|| At::of(span), |tag| At::of(&tag));
        Err(self
            .error(at, "tags are not supported")
            .boxed_expected("a plain value; put text that begins with `!` in quotes"))
    }

    fn count(&mut self, nodes: usize, at: At) -> Result<(), Box<Diagnostic>> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.error(
                at,
                format!("more than {MAX_NODES} keys and values, aliases counted in full"),
            ));
        }
        Ok(())
    }

    fn begin(&mut self, at: At, anchor: usize, kind: OpenKind) -> Result<(), Box<Diagnostic>> {
        self.count(1, at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.error(at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.open.push(Open { at, anchor, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.kind {
            OpenKind::Sequence(items) => Value::Sequence(items),
            OpenKind::Mapping { entries, .. } => Value::Mapping(entries),
        };
        let node = Node { at: open.at, value };
        self.anchor(open.anchor, &node);
        self.add(node)
    }

    fn anchor(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            let (nodes, depth) = measure(node);
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    nodes,
                    depth,
                },
            );
        }
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<(), Box<Diagnostic>> {
        self.aliases += 1;
        if self.aliases > MAX_ALIASES {
            return Err(self.error(at, format!("more than {MAX_ALIASES} aliases")));
        }
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(self.error(at, "this alias stands inside what it names"));
        };
        let (nodes, depth) = (anchored.nodes, anchored.depth);
        if self.open.len() + depth > MAX_DEPTH {
            return Err(self.error(at, format!("nested more than {MAX_DEPTH} deep")));
        }
        self.count(nodes, at)?;
        let node = Node {
            at,
            value: self.anchors[&anchor].node.value.clone(),
        };
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.open.last_mut() else {
            self.root = if node.is_null() { None } else { Some(node) };
            return Ok(());
        };
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(node),
            OpenKind::Mapping { entries, key } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let Value::Scalar { text, plain } = node.value else {
                        return Err(self
                            .error(node.at, "a key that is not a word")
                            .boxed_expected("a plain word before the colon"));
                    };
                    if plain && text == "<<" {
                        return Err(self
                            .error(node.at, "merge keys are not supported")
                            .boxed_expected("the keys written out"));
                    }
                    *key = Some(Key {
                        at: node.at,
                        name: text,
                    });
                }
            },
        }
        Ok(())
    }
}

trait BoxedExpected {
    fn boxed_expected(self, expected: &str) -> Self;
}

impl BoxedExpected for Box<Diagnostic> {
    fn boxed_expected(mut self, expected: &str) -> Self {
        self.expected = Some(expected.to_owned());
        self
    }
}

/// Nodes and depth of a tree. The tree is at most [`MAX_DEPTH`] deep, so recursion is bounded.
fn measure(node: &Node) -> (usize, usize) {
    let join = |(nodes, depth): (usize, usize), (more, inner): (usize, usize)| {
        (nodes + more, depth.max(inner))
    };
    match &node.value {
        Value::Scalar { .. } => (1, 0),
        Value::Sequence(items) => {
            let (nodes, depth) = items.iter().map(measure).fold((1, 0), join);
            (nodes, depth + 1)
        }
        Value::Mapping(entries) => {
            let (nodes, depth) = entries
                .iter()
                .map(|(_, value)| measure(value))
                .fold((1 + entries.len(), 0), join);
            (nodes, depth + 1)
        }
    }
}

/// A tree as JSON, by the core schema of YAML 1.2: plain `true`, `false`, `null` and numbers are what they
/// look like, everything else is text. A number that JSON cannot hold exactly stays text.
pub(crate) fn to_json(node: &Node) -> serde_json::Value {
    match &node.value {
        _ if node.is_null() => serde_json::Value::Null,
        Value::Scalar { text, plain: true } => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            text => plain_number(text).unwrap_or_else(|| text.into()),
        },
        Value::Scalar { text, plain: false } => text.as_str().into(),
        Value::Sequence(items) => items.iter().map(to_json).collect(),
        Value::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.name.clone(), to_json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn plain_number(text: &str) -> Option<serde_json::Value> {
    // `from_str` of JSON also accepts nothing but JSON numbers here, so `0x10`, `1_000` and `.5` stay text.
    let begins = text
        .bytes()
        .next()
        .is_some_and(|b| b == b'-' || b.is_ascii_digit());
    if !begins {
        return None;
    }
    serde_json::from_str::<serde_json::Number>(text)
        .ok()
        .map(serde_json::Value::Number)
}

/// Every key that stands twice in one mapping of the tree, as diagnostics. For mappings that no table of
/// fields decodes.
pub(crate) fn duplicate_keys(file: &SourceFile, node: &Node) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    collect_duplicates(file, node, &mut found);
    found
}

fn collect_duplicates(file: &SourceFile, node: &Node, found: &mut Vec<Diagnostic>) {
    match &node.value {
        Value::Scalar { .. } => {}
        Value::Sequence(items) => items
            .iter()
            .for_each(|item| collect_duplicates(file, item, found)),
        Value::Mapping(entries) => {
            let mut seen: HashMap<&str, At> = HashMap::new();
            for (key, value) in entries {
                match seen.get(key.name.as_str()) {
                    Some(first) => found.push(duplicate_key(file, key, *first)),
                    None => {
                        seen.insert(&key.name, key.at);
                    }
                }
                collect_duplicates(file, value, found);
            }
        }
    }
}

/// The diagnostic for a key that was already there at `first`.
pub(crate) fn duplicate_key(file: &SourceFile, key: &Key, first: At) -> Diagnostic {
    Diagnostic::error(
        key.at.in_file(file),
        format!("key {} stands here a second time", quoted(&key.name)),
    )
    .related(first.in_file(file), "first")
    .help("remove one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Node>, String> {
        let file = SourceFile::new("x.yml", text.to_owned());
        parse(&file).map_err(|diagnostic| format!("{}: {}", diagnostic.place, diagnostic.message))
    }

    fn json(text: &str) -> serde_json::Value {
        to_json(&read(text).unwrap().unwrap())
    }

    #[test]
    fn scalars_are_read_by_the_core_schema() {
        assert_eq!(
            json("{a: 1, b: '1', c: true, d: yes, e: ~, f: 1.5, g: 0x10, h: $0.50, i: -2, j: \"\", k: 5m}").to_string(),
            r#"{"a":1,"b":"1","c":true,"d":"yes","e":null,"f":1.5,"g":"0x10","h":"$0.50","i":-2,"j":"","k":"5m"}"#
        );
        assert_eq!(
            json("a: &x [1, 2]\nb: *x\n").to_string(),
            r#"{"a":[1,2],"b":[1,2]}"#
        );
        assert!(read("").unwrap().is_none());
        assert!(read("# only a comment\n").unwrap().is_none());
    }

    #[test]
    fn what_no_configuration_needs_is_refused_with_its_place() {
        for (text, expected) in [
            ("a: !include b.yml\n", "x.yml:1:4: tags are not supported"),
            (
                "---\na: 1\n---\nb: 2\n",
                "x.yml:3:1: a second document begins here",
            ),
            (
                "a: &x {b: 1}\nc:\n  <<: *x\n",
                "x.yml:3:3: merge keys are not supported",
            ),
            ("[a]: 1\n", "x.yml:1:1: a key that is not a word"),
            (
                "a: &x [*x]\n",
                "x.yml:1:8: this alias stands inside what it names",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
        assert!(read("%YAML 1.2\n---\na: 1\n").is_err());
        assert!(read("a: [1\n").unwrap_err().contains("not valid YAML"));
    }

    #[test]
    fn bombs_end_at_the_bounds() {
        let mut laughs = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (from, to) in [('a', 'b'), ('b', 'c'), ('c', 'd'), ('d', 'e'), ('e', 'f')] {
            laughs.push_str(&format!(
                "{to}: &{to} [{}]\n",
                vec![format!("*{from}"); 10].join(", ")
            ));
        }
        assert!(
            read(&laughs)
                .unwrap_err()
                .contains("more than 10000 keys and values")
        );
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(
            read(&format!("a: &a 1\nb: [{}]\n", vec!["*a"; 101].join(",")))
                .unwrap_err()
                .contains("more than 100 aliases")
        );
        let mut deep = String::from("a: &a [1]\n");
        let mut last = 'a';
        for next in 'b'..='z' {
            deep.push_str(&format!("{next}: &{next} [[*{last}]]\n"));
            last = next;
        }
        assert!(
            read(&deep)
                .unwrap_err()
                .contains("nested more than 32 deep"),
            "{:?}",
            read(&deep).map(|_| ())
        );
        assert!(
            read(&"- 1\n".repeat(10_001))
                .unwrap_err()
                .contains("more than 10000")
        );
    }
}
