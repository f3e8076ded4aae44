//! Single values of version 1: how ids, words, amounts and times are written.
//!
//! Invariant: every value is written in one way only, and what cannot be is refused on reading.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Money;
use crate::agent::{Limit, Origin};
use crate::journal::JournalError;

/// A value written as its text, such as an id or a name.
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, "a text", |text| {
            text.parse()
                .map(Text)
                .map_err(|error: T::Err| error.to_string())
        })
    }
}

/// A value of a closed set, written as its word.
pub(super) struct Word<T>(pub(super) T);

/// A closed set whose members have words. The words are part of the format: never change one.
pub(super) trait Vocabulary: Copy + 'static {
    /// What the set is, for errors.
    const NAME: &'static str;
    /// All members.
    const ALL: &'static [Self];
    /// The word of a member.
    fn word(self) -> &'static str;
}

impl<T: Vocabulary> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.word())
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, T::NAME, |text| {
            T::ALL
                .iter()
                .find(|member| member.word() == text)
                .map(|member| Word(*member))
                .ok_or_else(|| format!("unknown {} `{}`", T::NAME, text.escape_default()))
        })
    }
}

/// Reads a text and turns it into a value.
fn read_text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct TextVisitor<T, F>(&'static str, F, PhantomData<T>);

    impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for TextVisitor<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(TextVisitor(expected, parse, PhantomData))
}

/// Money as its picodollars.
#[derive(Clone, Copy)]
pub(super) struct Picodollars(pub(super) Money);

impl Serialize for Picodollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.picodollars())
    }
}

impl<'de> Deserialize<'de> for Picodollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = u64::deserialize(deserializer)?;
        Money::from_picodollars(amount)
            .map(Picodollars)
            .ok_or_else(|| {
                D::Error::custom(format_args!(
                    "{amount} picodollars are more than can be counted"
                ))
            })
    }
}

/// A duration to the nanosecond.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Span {
    secs: u64,
    nanos: u32,
}

impl Span {
    pub(super) const fn of(duration: Duration) -> Self {
        Self {
            secs: duration.as_secs(),
            nanos: duration.subsec_nanos(),
        }
    }

    pub(super) fn restore(self) -> Result<Duration, JournalError> {
        if self.nanos < 1_000_000_000 {
            Ok(Duration::new(self.secs, self.nanos))
        } else {
            Err(JournalError::impossible(&format!(
                "{} nanoseconds in a second",
                self.nanos
            )))
        }
    }
}

/// A limit with the place where it was set.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitRecord<'a, V> {
    value: V,
    #[serde(borrow)]
    origin: Cow<'a, str>,
}

impl<'a, V> LimitRecord<'a, V> {
    pub(super) fn of<T: Copy>(limit: &'a Limit<T>, value: impl FnOnce(T) -> V) -> Self {
        Self {
            value: value(limit.value),
            origin: Cow::Borrowed(&limit.origin.0),
        }
    }

    pub(super) fn restore<T>(
        self,
        value: impl FnOnce(V) -> Result<T, JournalError>,
    ) -> Result<Limit<T>, JournalError> {
        Ok(Limit {
            value: value(self.value)?,
            origin: Origin(arc(&self.origin)),
        })
    }
}

pub(super) fn arc(text: &str) -> Arc<str> {
    Arc::from(text)
}

pub(super) fn optional_arc(text: Option<&Cow<'_, str>>) -> Option<Arc<str>> {
    text.map(|text| arc(text))
}

pub(super) fn optional_cow(text: Option<&Arc<str>>) -> Option<Cow<'_, str>> {
    text.map(|text| Cow::Borrowed(&**text))
}
