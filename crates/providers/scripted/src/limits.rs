//! Every bound of this crate, in one place.
//!
//! A script comes from a file and a request from a socket: both are hostile. What happens at a bound is
//! written where the bound is used; the values are documented for users in `docs/scripted-model.md`.

use std::time::Duration;

/// Longest script text.
pub(crate) const SCRIPT_BYTES: usize = 1 << 20;
/// Most YAML nodes of a script.
pub(crate) const SCRIPT_NODES: usize = 50_000;
/// Deepest nesting of a script.
pub(crate) const SCRIPT_DEPTH: usize = 32;
/// Most problems reported for one script.
pub(crate) const SCRIPT_ERRORS: usize = 100;
/// Most conversations of a script.
pub(crate) const CONVERSATIONS: usize = 256;
/// Most turns of a conversation.
pub(crate) const TURNS: usize = 1_000;
/// Most blocks of a scripted turn.
pub(crate) const BLOCKS: usize = 64;
/// Most `let` names of a conversation.
pub(crate) const LETS: usize = 64;
/// Most conditions of a `when` and alternatives of a `let`.
pub(crate) const ALTERNATIVES: usize = 16;
/// Most fault entries of a turn.
pub(crate) const FAULTS: usize = 64;
/// Most plays of a turn that counts them; `repeat: forever` has no count.
pub(crate) const REPEATS: u32 = 100_000;
/// Most tool calls one `for_each` makes.
pub(crate) const FOR_EACH: usize = 32;
/// Longest expression.
pub(crate) const EXPRESSION_BYTES: usize = 2_000;
/// Most filters of an expression.
pub(crate) const FILTERS: usize = 16;
/// Largest compiled regular expression.
pub(crate) const REGEX_BYTES: usize = 1 << 20;
/// Largest value an expression or a template may make.
pub(crate) const VALUE_BYTES: usize = 4 << 20;
/// What evaluating a value costs at least, in bytes of [`WORK_BYTES`]: bounds how many are evaluated.
pub(crate) const WORK_PER_VALUE: usize = 64;
/// All bytes that the expressions of one request may make together.
pub(crate) const WORK_BYTES: usize = 64 << 20;
/// Longest wait a script may ask for.
pub(crate) const WAIT: Duration = Duration::from_secs(3_600);
/// Longest error body a fault may send.
pub(crate) const BODY_PAD: u64 = 1 << 30;

/// Longest request body; the vendor's limit.
pub(crate) const REQUEST_BYTES: usize = 32 << 20;
/// Most entries of `messages`; the vendor's limit.
pub(crate) const MESSAGES: usize = 100_000;
/// Most connections at a time; further ones wait to be accepted.
pub(crate) const CONNECTIONS: usize = 20_000;
/// How long a client may take to send the head of a request, and how long an idle connection is kept.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(600);
/// Most entries of the simulated prompt cache.
pub(crate) const CACHE_ENTRIES: usize = 100_000;
/// Most requests whose attempts are being counted.
pub(crate) const ATTEMPT_KEYS: usize = 100_000;
/// Most requests remembered one by one in the bill; the totals have no bound.
pub(crate) const BILLED_REQUESTS: usize = 100_000;
/// Most bytes of request bodies kept for inspection.
pub(crate) const LOG_BYTES: usize = 64 << 20;
