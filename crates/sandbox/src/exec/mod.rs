//! Programs: each runs in a fresh, sealed sandbox that ends with it.
//!
//! At level l2 there are two processes of ours: the launcher outside, and a supervisor that is process 1 of
//! a new pid namespace. Whatever the program starts, however it hides, dies when the supervisor ends,
//! because the kernel empties the namespace. At level l1 the program cannot leave its process group, and the
//! group is killed.
//!
//! The supervisor reads what the program writes, keeps a bounded part of it, and watches the clock and the
//! stream to Otto. It is not reachable for the program: it cannot be traced or signaled.
//!
//! Invariant: no process of a sandbox outlives the answer about it.

mod capture;
mod program;
mod supervisor;
mod view;

pub(crate) use supervisor::{MAX_CAPTURE_BYTES, supervise};
