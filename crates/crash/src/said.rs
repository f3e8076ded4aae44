//! What a process said before it died: one line per fact, each written by one system call.
//!
//! A line is said after an answer was received (an acknowledgement), or before something leaves (a bill of
//! the provider), so what stands in the file is what the rest of the world knows.
//!
//! Invariant: the file is outside what is crashed, so nothing of it is lost.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

/// Where facts are said.
#[derive(Clone)]
pub(crate) struct Mouth(Arc<File>);

impl Mouth {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("open `{}`", path.display()))?;
        Ok(Self(Arc::new(file)))
    }

    /// Says a fact.
    pub(crate) fn say(&self, fact: std::fmt::Arguments<'_>) {
        let line = format!("{fact}\n");
        (&*self.0)
            .write_all(line.as_bytes())
            .expect("the file of facts can be written");
    }
}

/// Says a fact: `say!(mouth, "entry {n}")`.
macro_rules! say {
    ($mouth:expr, $($words:tt)*) => { $mouth.say(format_args!($($words)*)) };
}
pub(crate) use say;

/// The facts that were said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts(Vec<String>);

impl Facts {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::of(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read `{}`", path.display())),
        }
    }

    pub(crate) fn of(text: &str) -> Self {
        Self(text.lines().map(str::to_owned).collect())
    }

    /// Whether this was said, word for word.
    pub(crate) fn has(&self, fact: &str) -> bool {
        self.0.iter().any(|line| line == fact)
    }

    /// What follows a word, of each line that begins with it.
    pub(crate) fn after<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0
            .iter()
            .filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    /// As [`Facts::after`], where numbers follow.
    pub(crate) fn numbers(&self, word: &str) -> Vec<u64> {
        self.after(word)
            .filter_map(|rest| rest.split(' ').next()?.parse().ok())
            .collect()
    }

    /// Adds what was said later.
    pub(crate) fn extend(&mut self, later: &Self) {
        self.0.extend_from_slice(&later.0);
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }
}
