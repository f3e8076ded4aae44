//! Whether the input of a tool call is what a tool may be given.
//!
//! Stricter than JSON: the value must be an object, no object in it may name a key twice, and nesting is
//! limited. Parsers disagree on which of two equal keys counts, so a check that reads one of them says
//! nothing about a tool that reads the other. Such an input goes back to the model as an error.
//!
//! Invariant: an accepted input parses with any conforming parser to the same object.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::codec::wire::Text;

/// Why an input was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("the tool input is not acceptable JSON")]
pub struct InvalidToolInput(#[source] serde_json::Error);

/// Checks a complete tool input.
///
/// Nesting deeper than 127 levels is refused by the parser's own recursion limit, so hostile depth costs
/// nothing.
///
/// # Errors
/// When the text is not exactly one JSON object, or an object in it holds a key twice, a lone surrogate or a
/// number outside the range of a double.
pub fn check_tool_input(text: &str) -> Result<(), InvalidToolInput> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let checked = (&mut deserializer)
        .deserialize_map(Strict)
        .and_then(|()| deserializer.end());
    checked.map_err(InvalidToolInput)
}

/// Visits a value and everything in it.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object without doubled keys")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Strict)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys: Vec<Cow<'de, str>> = Vec::new();
        while let Some(Text(key)) = entries.next_key()? {
            keys.push(key);
            entries.next_value_seed(Strict)?;
        }
        keys.sort_unstable();
        match keys.array_windows().find(|[a, b]| a == b) {
            Some([key, _]) => Err(de::Error::custom(format_args!(
                "doubled key `{}`",
                key.escape_debug()
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_accepted() {
        for text in [
            "{}",
            " { \"a\" : [1, -2.5e3, null, true, \"\\u00e9\\ud83d\\ude00\"] } ",
            "{\"a\":{\"b\":1},\"b\":{\"b\":1}}",
            "{\"\":0}",
        ] {
            assert!(check_tool_input(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "\"{}\"",
            "1",
            "{",
            "{}}",
            "{} {}",
            "{\"a\":1,}",
            "{\"a\":[\"b\",]}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":NaN}",
            "{\"a\":01}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\\ud83d\"}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"x\":[{\"k\":1,\"j\":0,\"k\":2}]}",
            "{\"a\":1e999}",
            "\u{feff}{}",
            "{}\0",
        ] {
            assert!(check_tool_input(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hostile_depth_is_refused_without_recursion() {
        for depth in [200, 100_000] {
            let lists = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            let objects = format!("{}{{}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            assert!(check_tool_input(&lists).is_err());
            assert!(check_tool_input(&objects).is_err());
        }
        let shallow = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(check_tool_input(&shallow).is_ok());
    }

    #[test]
    fn the_reason_shows_the_key_escaped() {
        let error = check_tool_input("{\"\\u001b\":1,\"\\u001b\":2}").unwrap_err();
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            reason.contains("doubled key") && !reason.contains('\u{1b}'),
            "{reason}"
        );
    }
}
