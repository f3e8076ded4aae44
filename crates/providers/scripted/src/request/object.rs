//! Typed access to the fields of a JSON object, with the vendor's texts for what is wrong.
//!
//! Invariant: an error text begins with the dotted place of the value, as the vendor's do.

use serde_json::{Map, Value as Json};

use crate::error::ApiError;
use crate::place::Place;

/// A JSON object and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Object<'a, 'p> {
    pub(super) map: &'a Map<String, Json>,
    pub(super) place: &'p Place<'p>,
}

pub(super) type Checked<T> = Result<T, ApiError>;

/// A 400 about a place.
pub(super) fn wrong(place: &Place<'_>, problem: &str) -> ApiError {
    ApiError::invalid(format!("{place}: {problem}"))
}

impl<'a, 'p> Object<'a, 'p> {
    /// The object at `place`.
    pub(super) fn of(json: &'a Json, place: &'p Place<'p>) -> Checked<Self> {
        match json {
            Json::Object(map) => Ok(Self { map, place }),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                Err(wrong(place, "Input should be an object"))
            }
        }
    }

    /// Refuses fields outside `allowed`.
    pub(super) fn only(&self, allowed: &[&str]) -> Checked<()> {
        match self
            .map
            .keys()
            .find(|name| !allowed.contains(&name.as_str()))
        {
            None => Ok(()),
            Some(name) => Err(wrong(
                &self.place.key(name),
                "Extra inputs are not permitted",
            )),
        }
    }

    /// A field that is present and not null.
    pub(super) fn optional(&self, name: &str) -> Option<&'a Json> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub(super) fn required(&self, name: &str) -> Checked<&'a Json> {
        self.map
            .get(name)
            .ok_or_else(|| wrong(&self.place.key(name), "Field required"))
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Checked<&'a str> {
        let value = self.required(name)?;
        value
            .as_str()
            .ok_or_else(|| wrong(&self.place.key(name), "Input should be a valid string"))
    }

    /// A text that may be absent.
    pub(super) fn optional_text(&self, name: &str) -> Checked<Option<&'a str>> {
        match self.optional(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(
                &self.place.key(name),
                "Input should be a valid string",
            )),
        }
    }

    /// A truth value that may be absent.
    pub(super) fn optional_truth(&self, name: &str) -> Checked<Option<bool>> {
        match self.optional(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong(
                &self.place.key(name),
                "Input should be a valid boolean",
            )),
        }
    }

    /// A list that may be absent; at most `most` entries.
    pub(super) fn optional_list(&self, name: &str, most: usize) -> Checked<&'a [Json]> {
        match self.optional(name) {
            None => Ok(&[]),
            Some(Json::Array(list)) if list.len() <= most => Ok(list),
            Some(Json::Array(list)) => Err(wrong(
                &self.place.key(name),
                &format!(
                    "List should have at most {most} items after validation, not {}",
                    list.len()
                ),
            )),
            Some(_) => Err(wrong(&self.place.key(name), "Input should be a valid list")),
        }
    }

    /// One word of a closed set, if present.
    pub(super) fn optional_word(&self, name: &str, words: &[&str]) -> Checked<Option<&'a str>> {
        match self.optional_text(name)? {
            Some(word) if !words.contains(&word) => Err(wrong(
                &self.place.key(name),
                &format!("Input should be {}", either(words)),
            )),
            word => Ok(word),
        }
    }
}

/// `'a', 'b' or 'c'`, as the vendor lists choices.
pub(super) fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("'{only}'"),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|word| format!("'{word}'")).collect();
            format!("{} or '{last}'", most.join(", "))
        }
    }
}

/// Whether a text matches the vendor's pattern for names and ids: letters, digits, `_` and `-`.
pub(super) fn is_wire_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
