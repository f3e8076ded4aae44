//! The journal codec.
