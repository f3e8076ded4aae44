//! What is wrong with a configuration, where, and how to put it right.
//!
//! A loader collects every problem of every file before it gives up; this module holds and renders them. It
//! does not print: the caller decides where the text goes.
//!
//! Invariant: a rendered diagnostic shows no credential and no control character of the file it quotes.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use otto_core::agent::Origin;

use crate::load::credentials;
use crate::text::{visible, visible_start};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, and somebody should look.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a configuration: a file, or a position in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as people know it, or `environment variable X`.
    pub source: Arc<str>,
    /// The position, where there is one.
    pub position: Option<Position>,
}

/// A position in a file, with the line it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters of the line that are meant, at least 1.
    pub width: u32,
    /// The text of the line, without its end.
    text: Arc<str>,
}

impl Position {
    pub(crate) fn new(line: u32, column: u32, width: u32, text: &str) -> Self {
        Self {
            line,
            column,
            width: width.max(1),
            text: Arc::from(text),
        }
    }
}

impl Place {
    /// A whole file, or another source as a whole.
    #[must_use]
    pub fn whole(source: &str) -> Self {
        Self {
            source: Arc::from(source),
            position: None,
        }
    }

    /// The place as the origin of a value: `reviewer.yml:7`.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match &self.position {
            Some(position) => Origin::new(&format!("{}:{}", self.source, position.line)),
            None => Origin(Arc::clone(&self.source)),
        }
    }
}

impl fmt::Display for Place {
    /// `reviewer.yml:7:12`, or the file alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.source))?;
        match &self.position {
            Some(position) => write!(f, ":{}:{}", position.line, position.column),
            None => Ok(()),
        }
    }
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a line. Foreign text in it is already made visible.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What would have been right.
    pub expected: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// Another place that has to do with it, and how.
    pub related: Option<(Place, &'static str)>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place,
            expected: None,
            help: None,
            related: None,
        }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(place, message)
        }
    }

    /// Adds what would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds `did you mean` if there is a word to offer.
    pub(crate) fn suggest(self, word: Option<&str>) -> Self {
        match word {
            Some(word) => self.help(format!("did you mean `{}`?", visible(word))),
            None => self,
        }
    }

    /// Adds another place that has to do with the problem.
    #[must_use]
    pub fn related(mut self, place: Place, how: &'static str) -> Self {
        self.related = Some((place, how));
        self
    }
}

impl fmt::Display for Diagnostic {
    /// Several lines, without a final line end:
    ///
    /// ```text
    /// error: unknown key `modle`
    ///   --> .otto/agents/reviewer.yml:2:1
    ///     |
    ///   2 | modle: claude-sonnet-5-5
    ///     | ^^^^^
    ///     = expected: ...
    ///     = help: did you mean `model`?
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n  --> {}",
            self.severity.as_str(),
            self.message,
            self.place
        )?;
        if let Some(position) = &self.place.position {
            write_excerpt(f, position)?;
        }
        let margin = self.place.position.as_ref().map_or(1, margin);
        let mut note =
            |what: &str, text: &dyn fmt::Display| write!(f, "\n {:margin$} = {what}: {text}", "");
        if let Some((place, how)) = &self.related {
            note(how, place)?;
        }
        if let Some(expected) = &self.expected {
            note("expected", expected)?;
        }
        if let Some(help) = &self.help {
            note("help", help)?;
        }
        Ok(())
    }
}

/// Columns that line numbers take in an excerpt.
fn margin(position: &Position) -> usize {
    position.line.to_string().len().max(2)
}

/// BOUND: characters of a source line that an excerpt shows before and from the column on.
const MAX_EXCERPT_BEFORE: usize = 60;
const MAX_EXCERPT_FROM: usize = 60;

/// Shows the line with carets under what is meant. Characters are made visible one by one, so that the carets
/// stay below the right ones.
fn write_excerpt(f: &mut fmt::Formatter<'_>, position: &Position) -> fmt::Result {
    let line: Vec<char> = credentials::mask(&position.text).chars().collect();
    let column = (position.column as usize).saturating_sub(1).min(line.len());
    let first = column.saturating_sub(MAX_EXCERPT_BEFORE);
    let last = line.len().min(column + MAX_EXCERPT_FROM);
    let marked = (column + position.width as usize).clamp(column + 1, last.max(column + 1));

    let mut shown = String::new();
    let mut carets = String::new();
    if first > 0 {
        shown.push('…');
        carets.push(' ');
    }
    for (index, c) in line.iter().enumerate().take(last).skip(first) {
        let piece = if *c == '\t' {
            "    ".into()
        } else {
            visible(c.encode_utf8(&mut [0; 4])).into_owned()
        };
        let mark = if (column..marked).contains(&index) {
            '^'
        } else {
            ' '
        };
        carets.extend(std::iter::repeat_n(mark, piece.chars().count()));
        shown.push_str(&piece);
    }
    if column >= last {
        carets.push('^');
    }
    if last < line.len() {
        shown.push('…');
    }
    let (number, margin) = (position.line, margin(position));
    write!(
        f,
        "\n {:margin$} |\n {number:>margin$} | {}\n {:margin$} | {}",
        "",
        shown.trim_end(),
        "",
        carets.trim_end()
    )
}

/// Everything that is wrong with a configuration. Never empty of errors when it is returned as one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigErrors {
    diagnostics: Vec<Diagnostic>,
}

impl ConfigErrors {
    /// All problems, in the order of files and positions; warnings among them.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many of them are errors.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .count()
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.extend(diagnostics);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}

/// BOUND: rendered problems; a file of ten thousand unknown keys does not flood a terminal.
const MAX_SHOWN: usize = 50;

impl fmt::Display for ConfigErrors {
    /// Every problem, an empty line between them, and a line that counts the errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.diagnostics.iter().take(MAX_SHOWN) {
            write!(f, "{diagnostic}\n\n")?;
        }
        if self.diagnostics.len() > MAX_SHOWN {
            write!(
                f,
                "... and {} more problems\n\n",
                self.diagnostics.len() - MAX_SHOWN
            )?;
        }
        match self.error_count() {
            1 => f.write_str("1 error in the configuration"),
            count => write!(f, "{count} errors in the configuration"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// A file that is being read: its name for people and its text.
#[derive(Debug)]
pub(crate) struct SourceFile {
    name: Arc<str>,
    text: String,
}

impl SourceFile {
    pub(crate) fn new(name: &str, text: String) -> Self {
        Self {
            name: Arc::from(name),
            text,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn whole(&self) -> Place {
        Place {
            source: Arc::clone(&self.name),
            position: None,
        }
    }

    /// The place that begins at `line` and `column` (both from 1) and is `width` characters wide.
    pub(crate) fn place(&self, line: usize, column: usize, width: usize) -> Place {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let text = self
            .text
            .split('\n')
            .nth(line.saturating_sub(1))
            .unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        Place {
            source: Arc::clone(&self.name),
            position: Some(Position::new(
                small(line),
                small(column),
                small(width),
                text,
            )),
        }
    }
}

/// A foreign word in a message: visible, bounded, in backquotes.
pub(crate) fn quoted(text: &str) -> String {
    // BOUND: 60 characters are enough to recognise a word.
    format!("`{}`", visible_start(&credentials::mask(text), 60))
}

/// Words as a list for people: `a, b or c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    // BOUND: a long list is cut; it stands in an error message.
    const MAX_WORDS: usize = 24;
    let words: Vec<&str> = words.into_iter().collect();
    let mut list = String::from("one of ");
    for (index, word) in words.iter().take(MAX_WORDS).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(list, "{separator}{}", visible(word)).expect("writing to a string cannot fail");
    }
    if words.len() > MAX_WORDS {
        list.push_str(", ...");
    }
    list
}
