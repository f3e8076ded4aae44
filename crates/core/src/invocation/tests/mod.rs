//! The rules of the machine, one test each.
//!
//! A test is a table: what happens, and what the machine wants then. [`harness`] feeds the rows, gives the
//! effects their short names, and checks after every row what holds for all of them: the history only grows
//! and is valid, every granted reservation is settled exactly once, nothing follows the end, and folding
//! what happened gives the same machine.

mod compaction;
mod confirmation;
mod draft;
mod endings;
mod harness;
mod money;
mod note;
mod resume;
mod retry;
mod stop;
mod tools;
