//! The way out to hosts: a process of its own for each http worker, without files, that decides, resolves,
//! dials and relays.
//!
//! The worker has no network at all; the kernel sees to that. What it has is a socket to its own egress
//! process, over which it asks for `host` and `port`. Which agent asks is not a field that could be forged:
//! it is the socket, and the allowlist was fixed when the pair was made. The egress process reads the
//! resolver's settings and nothing else, can connect only to the ports of its allowlist, and cannot run or
//! write anything.
//!
//! Honest wording: that no packet leaves without the egress process is enforced by the kernel; that only
//! the listed hosts are reached is enforced by the few hundred lines in this folder.

mod address;
mod client;
mod confine;
mod gate;
mod rate;
mod relay;
mod rule;
mod service;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ctx::EgressRefusal;

pub(crate) use client::Client;
pub use rate::ConnectRate;
pub(crate) use rule::{EgressPolicy, HostRule};
pub(crate) use service::serve;

// BOUND: a host name, a port, a time and an id.
pub(crate) const MAX_ASK_BYTES: usize = 512;
// BOUND: a refusal is one sentence.
const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ask {
    /// Tells answers apart from those that came too late for an earlier question.
    id: u32,
    host: String,
    port: u16,
    time_left: Duration,
}

/// What it gets; with a connection comes the handle of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    id: u32,
    result: Result<(), EgressRefusal>,
}

/// A note of audit mode: this host passed although it is on no list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnlistedHost {
    pub(crate) host: String,
    pub(crate) port: u16,
}
