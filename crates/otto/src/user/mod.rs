//! What belongs to the user and not to a project: the day's money, and which state directories are theirs.
//!
//! Both stand in the user's state directory (`$XDG_STATE_HOME/otto`), where no project's files reach.
//!
//! ```text
//! <user's state>/days/2026-11-28   what all processes have taken of that day's ceiling, in picodollars: two records, the newer counts
//! <user's state>/days/lock         held while a day is read and written
//! <user's state>/owned/<mark>      a state directory that Otto made for this user
//! ```
//!
//! Invariant: nothing that a project holds can make more money available than the user's day has left.

mod day_book;
mod day_file;
mod day_store;
mod ownership;

pub(crate) use day_book::DayBook;
pub(crate) use day_store::DayStore;
pub(crate) use ownership::claim;
