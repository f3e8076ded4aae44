//! What the file tools share: errors about paths, near misses, and the walk.
//!
//! Invariant: a message names only what the model wrote or what lies beneath a granted directory.

mod filter;
mod suggest;
mod walk;

use otto_sandbox::{DirError, FailureKind, Place, ToolFailure, WorkerCtx};

use crate::text::quote;

pub(crate) use filter::{globs, types};
pub(crate) use walk::{Visit, WalkOptions, walk};

/// Turns an error about `path`, as the model wrote it, into a failure that says what was tried and what
/// would work: "read `src/mian.rs`: no such file or directory; did you mean `src/main.rs`?".
pub(crate) fn failure(ctx: &WorkerCtx, verb: &str, path: &str, error: DirError) -> ToolFailure {
    let mut message = format!("{verb} {}: {error}", quote(path));
    match error {
        DirError::NotFound | DirError::NotADirectory => {
            if let Ok(place) = ctx.place(path) {
                message.push_str(&suggest::near(&place));
            }
        }
        DirError::UnknownRoot => message.push_str(&suggest::roots(ctx)),
        DirError::NoWorkingDir if !ctx.roots.is_empty() => message.push_str(&suggest::roots(ctx)),
        _ => {}
    }
    let kind = error
        .refused_by()
        .map_or(FailureKind::ForModel, FailureKind::Denied);
    ToolFailure { kind, message }
}

/// A path below `place` as the model can write it again.
pub(crate) fn spelled(place: &Place<'_>, below: &str) -> String {
    match place.root {
        Some(root) if below.is_empty() => format!("@{root}"),
        Some(root) => format!("@{root}/{below}"),
        // A name that starts with `@` would be taken for a root.
        None if below.starts_with('@') => format!("./{below}"),
        None => below.to_owned(),
    }
}

/// The directory of a path in plain components (`a/./b/` is `a/b`, `.` is empty), or `None` when it climbs.
/// Used to tell globs and ignore files where they are; the kernel resolves the path itself.
pub(crate) fn plain(path: &str) -> Option<String> {
    let components: Vec<&str> = path
        .split('/')
        .filter(|component| !matches!(*component, "" | "."))
        .collect();
    (!components.contains(&"..")).then(|| components.join("/"))
}
