//! The database file: opening and checking it, its schema, and how values stand in its columns.

pub(crate) mod codec;
pub(crate) mod open;
pub(crate) mod schema;
