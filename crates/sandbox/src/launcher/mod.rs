//! The launcher: a small process that starts before anything else and makes every confined process as a
//! copy of itself.
//!
//! It has one thread, no secret (it starts with an empty environment, before any configuration is read) and
//! no policy: it makes what Otto asks for, and each copy confines itself before it does anything else. It
//! has to exist before Otto locks itself, because a process in a Landlock domain may not mount.
//!
//! Nobody tells it to kill. It holds a second handle of every stream it started a process for; when Otto
//! drops its end, for whatever reason, even by dying, the launcher sees the stream close and kills the
//! process. When a process ends first, the launcher writes how it ended into the stream and closes it.
//!
//! Invariant: no process of the launcher outlives the stream it was started for, nor the launcher.

mod child;
mod role;
mod service;

pub(crate) use child::fail;
pub(crate) use role::{Role, role_of_this_process, spawn};
pub(crate) use service::run;
