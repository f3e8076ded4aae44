//! An invocation that is parked: which calls wait for a person's word, and what to type for each word.

use otto::SessionId;
use otto::core::invocation::OpenCall;
use otto::text::{visible, visible_lines};
use serde_json::{Value, json};

/// One call for programs.
pub(super) fn describe(open: &OpenCall) -> Value {
    json!({
        "call": &*open.call.0,
        "tool": &*open.tool,
        // The journal holds objects; anything else is told as the text it is.
        "input": serde_json::from_str::<Value>(&open.input)
            .unwrap_or_else(|_| Value::from(&*open.input)),
    })
}

/// The calls with their exact inputs, and the commands of which one decides.
pub(super) fn tell(session: SessionId, open: &[OpenCall]) -> String {
    let mut text =
        "\n  these calls were running when Otto ended, and nobody knows what became of them:\n"
            .to_owned();
    for call in open {
        text.push_str(&format!(
            "    {} {}\n",
            visible(&call.tool),
            visible_lines(&call.input)
        ));
    }
    text.push_str("  look whether they took effect, then type one of:\n");
    for (word, meaning) in [
        ("done", "they did; they are not run again"),
        ("not-done", "they did not; the model may ask again"),
        ("retry", "run them again"),
        ("unknown", "nobody can tell; the model is told so"),
    ] {
        text.push_str(&format!(
            "    otto resume {session} --decide {word:<8}  # {meaning}\n"
        ));
    }
    text
}
