//! Where a value sits inside a nested document, for messages such as `turns.2.text`.
//!
//! A place borrows its parents and costs nothing until it is shown: validation builds one for every value
//! it visits and shows almost none.
//!
//! Invariant: the dotted form is the one the vendor uses in its error texts (`messages.1.content.0`).

use std::fmt;

/// A path from the root of a document to one of its values.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The document itself.
    Root,
    /// A named member.
    Key(&'a Place<'a>, &'a str),
    /// A position in a list.
    Index(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// The member `name` of this place.
    pub(crate) const fn key(&'a self, name: &'a str) -> Self {
        Self::Key(self, name)
    }

    /// The entry `index` of this place.
    pub(crate) const fn at(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Place::Root, name) => f.write_str(name),
            Self::Index(Place::Root, index) => write!(f, "{index}"),
            Self::Key(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}.{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_reads_like_the_vendors_paths() {
        let root = Place::Root;
        let messages = root.key("messages");
        let first = messages.at(1);
        let content = first.key("content");
        assert_eq!(content.at(0).to_string(), "messages.1.content.0");
        assert_eq!(root.to_string(), "");
    }
}
