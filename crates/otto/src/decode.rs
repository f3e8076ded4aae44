//! Reads the values of a YAML tree, collecting every problem instead of stopping at the first.
//!
//! It knows text, booleans, limits, lists and mappings; what a field means is decided by the caller.
//!
//! Invariant: a function that returns `None` has recorded an error.

use std::collections::HashMap;

use otto_core::agent::Limit;

use crate::diagnostic::{Diagnostic, Place, SourceFile, one_of, quoted};
use crate::limits::InvalidLimit;
use crate::load::credentials;
use crate::load::interpolate::{Interpolator, Reader};
use crate::suggest::closest;
use crate::yaml::{self, At, Key, Node, Value};

/// A field of a configuration file, as the loader, the schema and the documentation know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What may stand there, in words.
    pub form: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What holds when it is absent, in words.
    pub default: &'static str,
    /// Its JSON Schema, as JSON text.
    pub schema: &'static str,
}

/// Reads one file.
#[derive(Debug)]
pub(crate) struct Decoder<'a> {
    pub(crate) file: &'a SourceFile,
    interpolator: Option<&'a Interpolator<'a>>,
    problems: Vec<Diagnostic>,
}

/// The entries of a mapping whose keys are known.
#[derive(Debug)]
pub(crate) struct Fields<'n> {
    entries: HashMap<&'n str, (&'n Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The value of a key. A key without a value counts as absent.
    pub(crate) fn value(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .get(name)
            .map(|(_, node)| *node)
            .filter(|node| !node.is_null())
    }
}

impl<'a> Decoder<'a> {
    /// A decoder that inserts variables, if it is given what to insert from.
    pub(crate) fn new(file: &'a SourceFile, interpolator: Option<&'a Interpolator<'a>>) -> Self {
        Self {
            file,
            interpolator,
            problems: Vec::new(),
        }
    }

    /// What was found wrong, in the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Diagnostic> {
        self.problems.sort_by_key(|problem| {
            problem
                .place
                .position
                .as_ref()
                .map(|at| (at.line, at.column))
        });
        self.problems
    }

    pub(crate) fn place(&self, node: &Node) -> Place {
        node.at.in_file(self.file)
    }

    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    /// Records an error at a value.
    pub(crate) fn error(
        &mut self,
        node: &Node,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let place = self.place(node);
        self.report(Diagnostic::error(place, message).expected(expected));
    }

    /// Reads the whole file as a tree, and refuses it if a credential stands in it, comments included.
    pub(crate) fn tree(&mut self) -> Option<Node> {
        let text = self.file.text();
        for found in credentials::find(text) {
            let before = &text[..found.range.start];
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            let width = text[found.range.clone()]
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .count();
            let place = self.file.place(line, column, width);
            self.report(
                Diagnostic::error(place, format!("{} stands in this file", found.kind))
                    .expected("no credential in any configuration file")
                    .help("remove it, replace it at its issuer, and pass it in the environment: ANTHROPIC_API_KEY for the provider"),
            );
        }
        match yaml::parse(self.file) {
            Ok(Some(node)) => Some(node),
            Ok(None) => {
                let place = self.file.whole();
                self.report(
                    Diagnostic::error(place, "the file is empty")
                        .expected("a mapping with keys such as `name`"),
                );
                None
            }
            Err(diagnostic) => {
                self.report(*diagnostic);
                None
            }
        }
    }

    /// A mapping with these keys only. Unknown and repeated keys are errors; the known ones are returned.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[Field],
    ) -> Option<Fields<'n>> {
        let names = || known.iter().map(|field| field.name);
        let mut entries: HashMap<&'n str, (&'n Key, &'n Node)> = HashMap::new();
        for (key, value) in self.entries(node, what, &one_of(names()))? {
            if !known.iter().any(|field| field.name == key.name) {
                let place = key.at.in_file(self.file);
                self.report(
                    Diagnostic::error(
                        place,
                        format!("unknown key {} in {what}", quoted(&key.name)),
                    )
                    .expected(one_of(names()))
                    .suggest(closest(&key.name, names())),
                );
                continue;
            }
            if let Some((first, _)) = entries.get(key.name.as_str()) {
                let diagnostic = yaml::duplicate_key(self.file, key, first.at);
                self.report(diagnostic);
                continue;
            }
            entries.insert(&key.name, (key, value));
        }
        Some(Fields { entries })
    }

    /// The entries of a mapping with free keys. Repeated keys are the caller's to find.
    pub(crate) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        expected: &str,
    ) -> Option<&'n [(Key, Node)]> {
        match &node.value {
            Value::Mapping(entries) => Some(entries),
            _ => {
                self.error(
                    node,
                    format!("{what} is {}", node.kind()),
                    format!("a mapping: {expected}"),
                );
                None
            }
        }
    }

    /// A mapping with free keys, each at most once.
    pub(crate) fn unique_entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        expected: &str,
    ) -> Option<Vec<(&'n Key, &'n Node)>> {
        let mut first: HashMap<&str, At> = HashMap::new();
        let mut unique = Vec::new();
        for (key, value) in self.entries(node, what, expected)? {
            match first.get(key.name.as_str()) {
                Some(at) => {
                    let diagnostic = yaml::duplicate_key(self.file, key, *at);
                    self.report(diagnostic);
                }
                None => {
                    first.insert(&key.name, key.at);
                    unique.push((key, value));
                }
            }
        }
        Some(unique)
    }

    /// The items of a list, at most `max`.
    pub(crate) fn items<'n>(
        &mut self,
        node: &'n Node,
        field: &Field,
        max: usize,
    ) -> Option<&'n [Node]> {
        match &node.value {
            Value::Sequence(items) if items.len() <= max => Some(items),
            Value::Sequence(items) => {
                self.error(
                    node,
                    format!("`{}` has {} entries", field.name, items.len()),
                    format!("at most {max}"),
                );
                None
            }
            _ => {
                self.error(
                    node,
                    format!("`{}` is {}", field.name, node.kind()),
                    field.form,
                );
                None
            }
        }
    }

    /// The text of a single value, with its variables inserted.
    pub(crate) fn text(&mut self, node: &Node, field: &Field, reader: Reader) -> Option<String> {
        let Value::Scalar { text, .. } = &node.value else {
            self.error(
                node,
                format!("`{}` is {}", field.name, node.kind()),
                field.form,
            );
            return None;
        };
        if node.is_null() {
            self.error(
                node,
                format!("`{}` has an entry without a value", field.name),
                field.form,
            );
            return None;
        }
        let Some(interpolator) = self.interpolator else {
            return Some(text.clone());
        };
        match interpolator.insert(text, reader) {
            Ok(text) => Some(text),
            Err(failure) => {
                let diagnostic = Diagnostic {
                    help: failure.help,
                    ..Diagnostic::error(self.place(node), failure.message)
                };
                self.report(diagnostic);
                None
            }
        }
    }

    /// A value that `parse` reads; its error becomes `expected`.
    pub(crate) fn value<T, E: std::fmt::Display>(
        &mut self,
        node: &Node,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(node, field, Reader::Otto)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                // Errors of core end with what they expected; the field says that once for all.
                let problem = error.to_string();
                let problem = problem.split(": expected ").next().unwrap_or_default();
                self.error(node, format!("`{}`: {problem}", field.name), field.form);
                None
            }
        }
    }

    /// A limit, with the place it was set at.
    pub(crate) fn limit<T>(
        &mut self,
        node: &Node,
        field: &Field,
        parse: impl FnOnce(&str) -> Result<T, InvalidLimit>,
    ) -> Option<Limit<T>> {
        let text = self.text(node, field, Reader::Otto)?;
        match parse(&text) {
            Ok(value) => Some(Limit {
                value,
                origin: self.place(node).origin(),
            }),
            Err(error) => {
                self.error(
                    node,
                    format!("`{}`: {}", field.name, error.problem()),
                    error.expected(),
                );
                None
            }
        }
    }

    /// `true` or `false`, nothing else: YAML 1.1 would read `no` as false, and Norway as well.
    pub(crate) fn boolean(&mut self, node: &Node, field: &Field) -> Option<bool> {
        let text = self.text(node, field, Reader::Otto)?;
        match (&node.value, text.as_str()) {
            (Value::Scalar { plain: true, .. }, "true") => Some(true),
            (Value::Scalar { plain: true, .. }, "false") => Some(false),
            _ => {
                self.error(
                    node,
                    format!("`{}`: {} is not a boolean", field.name, quoted(&text)),
                    "true or false, without quotes",
                );
                None
            }
        }
    }

    /// Records that a key must be there.
    pub(crate) fn missing(&mut self, field: &Field, what: &str) {
        let place = self.file.whole();
        self.report(
            Diagnostic::error(place, format!("{what} has no `{}`", field.name))
                .expected(format!("{}: {}", field.name, field.form)),
        );
    }
}
