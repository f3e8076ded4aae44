//! The way out to hosts: a process of its own for each http worker, without files, that decides, resolves,
//! dials and relays.
//!
//! The worker has no network at all; the kernel sees to that. What it has is a socket to its own egress
//! process, over which it asks for `host` and `port`. Which agent asks is not a field that could be forged:
//! it is the socket, and the allowlist was fixed when the pair was made.
//!
//! Honest wording: that no packet leaves without the egress process is enforced by the kernel; that only
//! the listed hosts are reached is enforced by the few hundred lines in this folder.

mod rule;

pub(crate) use rule::{EgressPolicy, HostRule};
