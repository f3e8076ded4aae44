//! The library as an application uses it, against the scripted model.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod calls;
mod cancel;
mod compaction;
mod contexts;
mod limits;
mod reference;
