//! The script of `otto demo`.

use crate::script::Script;

/// The demo's script, as its author wrote it.
pub const DEMO_SCRIPT: &str = include_str!("demo.yml");

/// The demo's script: an agent with `grep`, `fs.read` and `fs.write` is asked for a report on the read-only
/// root `@src`. What it says comes from the results of its calls.
///
/// # Panics
/// Never: a test parses the same text.
#[must_use]
pub fn demo_script() -> Script {
    Script::parse(DEMO_SCRIPT, "demo.yml").expect("the built-in script is valid")
}
