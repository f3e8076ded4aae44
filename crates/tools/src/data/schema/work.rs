//! How much work a validation would be, counted before it is done.
//!
//! Each pair of a schema and a value is counted once and remembered, so the count itself is cheap even where the
//! validation would not end. It errs upward: a schema for other children counts for every child.

use std::collections::HashMap;

use super::super::Node;

// BOUND: values in a schema.
const MAX_SCHEMA_NODES: usize = 20_000;

// BOUND: evaluations of one validation; the library makes some millions in a second.
const MAX_WORK: u64 = 5_000_000;

// BOUND: pairs remembered while counting; about 100 MB.
const MAX_PAIRS: usize = 2_000_000;

// BOUND: references and combinations that apply to one value in a row. The library follows them by recursion, for
// each level of the document anew.
pub(super) const MAX_CHAIN: usize = 20;

/// Refuses a validation that would not end, or a schema that leads elsewhere.
pub(super) fn check(schema: &Node, document: &Node) -> Result<(), String> {
    if !matches!(schema, Node::Map(_) | Node::Bool(_)) {
        return Err(format!(
            "a schema is an object or a boolean, not a value of type {}",
            schema.kind()
        ));
    }
    if nodes(schema) > MAX_SCHEMA_NODES {
        return Err(format!(
            "the schema has more than {MAX_SCHEMA_NODES} values"
        ));
    }
    let mut counter = Counter {
        root: schema,
        rules: HashMap::new(),
        anchors: HashMap::new(),
        done: HashMap::new(),
    };
    counter.collect(schema, true)?;
    counter.link_all(schema)?;
    counter.work(schema, document, 0).map(drop)
}

fn nodes(node: &Node) -> usize {
    match node {
        Node::List(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Node::Map(entries) => 1 + entries.iter().map(|(_, value)| nodes(value)).sum::<usize>(),
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => 1,
    }
}

/// Keywords whose schemas apply to the very value: one, a list, or by name.
const IN_PLACE: [&str; 9] = [
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
];

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// Keywords whose schemas apply to children, and not to one by its name or place.
const FOR_CHILDREN: [&str; 8] = [
    "additionalProperties",
    "additionalItems",
    "contains",
    "items",
    "patternProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The parts of one schema that lead to more work.
#[derive(Default)]
struct Rules<'a> {
    in_place: Vec<&'a Node>,
    by_name: Vec<(&'a str, &'a Node)>,
    by_place: Vec<&'a Node>,
    for_all: Vec<&'a Node>,
}

struct Counter<'a> {
    root: &'a Node,
    /// By address of the schema. A schema without parts has no entry.
    rules: HashMap<*const Node, Rules<'a>>,
    anchors: HashMap<&'a str, &'a Node>,
    /// By addresses of schema and value; `None` while a pair is being counted.
    done: HashMap<(*const Node, *const Node), Option<u64>>,
}

impl<'a> Counter<'a> {
    fn collect(&mut self, node: &'a Node, is_root: bool) -> Result<(), String> {
        match node {
            Node::List(items) => {
                for item in items {
                    self.collect(item, false)?;
                }
            }
            Node::Map(entries) => {
                for (key, value) in entries {
                    match (&**key, value) {
                        ("$anchor" | "$dynamicAnchor", Node::Text(name)) => {
                            self.anchors.insert(name, node);
                        }
                        ("$id", Node::Text(_)) if !is_root => {
                            return Err("`$id` is supported only at the top of a schema".to_owned());
                        }
                        _ => {}
                    }
                    self.collect(value, false)?;
                }
            }
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
        }
        Ok(())
    }

    /// Finds the parts of every object that could be a schema; the library compiles all of them.
    fn link_all(&mut self, root: &'a Node) -> Result<(), String> {
        let mut all = vec![root];
        while let Some(node) = all.pop() {
            match node {
                Node::List(items) => all.extend(items),
                Node::Map(entries) => {
                    let rules = self.link(entries)?;
                    if !(rules.in_place.is_empty()
                        && rules.by_name.is_empty()
                        && rules.by_place.is_empty()
                        && rules.for_all.is_empty())
                    {
                        self.rules.insert(std::ptr::from_ref(node), rules);
                    }
                    all.extend(entries.iter().map(|(_, value)| value));
                }
                Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
            }
        }
        Ok(())
    }

    fn link(&self, entries: &'a [(Box<str>, Node)]) -> Result<Rules<'a>, String> {
        let mut rules = Rules::default();
        for (key, value) in entries {
            let key: &str = key;
            match value {
                Node::List(items) if IN_PLACE.contains(&key) => rules.in_place.extend(items),
                Node::Map(parts) if key.starts_with("dependen") => {
                    rules.in_place.extend(parts.iter().map(|(_, part)| part));
                }
                one if IN_PLACE.contains(&key) => rules.in_place.push(one),
                Node::Text(target) if REFERENCES.contains(&key) => {
                    rules.in_place.extend(self.resolve(target)?)
                }
                Node::Map(parts) if key == "properties" => {
                    rules
                        .by_name
                        .extend(parts.iter().map(|(name, part)| (&**name, part)));
                }
                Node::List(items) if key == "prefixItems" || key == "items" => {
                    rules.by_place.extend(items)
                }
                Node::Map(parts) if key == "patternProperties" => {
                    rules.for_all.extend(parts.iter().map(|(_, part)| part));
                }
                one if FOR_CHILDREN.contains(&key) => rules.for_all.push(one),
                _ => {}
            }
        }
        Ok(rules)
    }

    /// Evaluations that `schema` makes on `value` and on everything below it.
    fn work(&mut self, schema: &'a Node, value: &'a Node, chain: usize) -> Result<u64, String> {
        let pair = (std::ptr::from_ref(schema), std::ptr::from_ref(value));
        if !self.rules.contains_key(&pair.0) {
            return Ok(1);
        }
        match self.done.get(&pair) {
            Some(Some(known)) => return Ok(*known),
            // A circle: the library notices it as well and goes round once.
            Some(None) => return Ok(1),
            None => {}
        }
        if chain >= MAX_CHAIN {
            return Err(format!(
                "the schema has {MAX_CHAIN} references and combinations in a row, which is too many"
            ));
        }
        if self.done.len() >= MAX_PAIRS {
            return Err(
                "the schema and the document together are too large to be checked".to_owned(),
            );
        }
        self.done.insert(pair, None);
        let mut total: u64 = 1;
        for (part, below) in self.parts(pair.0, value) {
            let (below, chain) = below.map_or((value, chain + 1), |child| (child, 0));
            total = total.saturating_add(self.work(part, below, chain)?);
            if total > MAX_WORK {
                return Err(format!(
                    "checking the document would take more than {MAX_WORK} steps; the schema applies too often to the same values"
                ));
            }
        }
        self.done.insert(pair, Some(total));
        Ok(total)
    }

    /// Which schemas apply to the value itself (`None`) and to which of its children.
    fn parts(&self, schema: *const Node, value: &'a Node) -> Vec<(&'a Node, Option<&'a Node>)> {
        let Some(rules) = self.rules.get(&schema) else {
            return Vec::new();
        };
        let mut parts: Vec<(&'a Node, Option<&'a Node>)> =
            rules.in_place.iter().map(|part| (*part, None)).collect();
        let mut for_all =
            |child: &'a Node| parts.extend(rules.for_all.iter().map(|part| (*part, Some(child))));
        match value {
            Node::List(items) => items.iter().for_each(&mut for_all),
            Node::Map(entries) => entries
                .iter()
                .map(|(_, child)| child)
                .for_each(&mut for_all),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Text(_) => {}
        }
        if let Node::List(items) = value {
            parts.extend(
                rules
                    .by_place
                    .iter()
                    .zip(items)
                    .map(|(part, child)| (*part, Some(child))),
            );
        }
        parts.extend(
            rules
                .by_name
                .iter()
                .filter_map(|(name, part)| value.get(name).map(|child| (*part, Some(child)))),
        );
        parts
    }

    /// The place in this schema that a reference leads to; `None` for the draft's own schema.
    fn resolve(&self, target: &str) -> Result<Option<&'a Node>, String> {
        if target.starts_with("https://json-schema.org/")
            || target.starts_with("http://json-schema.org/")
        {
            return Ok(None);
        }
        let missing = || format!("the schema has no place {}", crate::text::quote(target));
        let own_id = match self.root.get("$id") {
            Some(Node::Text(id)) => target.strip_prefix(&**id),
            _ => None,
        };
        let Some(place) = own_id.unwrap_or(target).strip_prefix('#') else {
            if own_id == Some("") {
                return Ok(Some(self.root));
            }
            let quoted = crate::text::quote(target);
            return Err(format!(
                "{quoted} is not in this schema; nothing is fetched, so references begin with `#`"
            ));
        };
        if place.is_empty() {
            return Ok(Some(self.root));
        }
        if !place.starts_with('/') {
            return self
                .anchors
                .get(place)
                .copied()
                .map(Some)
                .ok_or_else(missing);
        }
        let mut here = self.root;
        for key in percent_decoded(place).split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            here = match here {
                Node::List(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
                other => other.get(&key),
            }
            .ok_or_else(missing)?;
        }
        Ok(Some(here))
    }
}

/// A fragment of a URL as text; what is not a valid escape stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
