//! The function that a worker is started with: finds the tool, runs it, bounds its answer.
//!
//! Invariant: the answer is never longer than the request allows.

use otto_sandbox::{ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};

use crate::catalog::find;
use crate::text::{cut, quote};

/// Routes a request to its tool. See [`otto_sandbox::Dispatch`].
#[must_use]
pub fn dispatch(ctx: &WorkerCtx, request: &WorkerRequest) -> WorkerAnswer {
    let Some(tool) = find(&request.tool) else {
        let message = format!("there is no tool {}", quote(&request.tool));
        return WorkerAnswer::Failed(ToolFailure::for_operator(message));
    };
    let max = usize::try_from(request.max_output_bytes)
        .unwrap_or(usize::MAX)
        .min(tool.max_output_bytes);
    match (tool.run)(ctx, request) {
        WorkerAnswer::Done { content } => WorkerAnswer::Done {
            content: cut(content, max),
        },
        WorkerAnswer::HandedOver { file, most_bytes } => WorkerAnswer::HandedOver {
            file,
            most_bytes: most_bytes.min(max as u64),
        },
        WorkerAnswer::Failed(failure) => WorkerAnswer::Failed(ToolFailure {
            message: cut(failure.message, max),
            ..failure
        }),
        WorkerAnswer::Exec(request) => WorkerAnswer::Exec(request),
    }
}
