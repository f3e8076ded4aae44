//! A tool host without a boundary: calls run on a blocking thread of this process.
//!
//! It exists for tests and for an operator who switches the sandbox off on purpose. Files are still reached
//! only through [`Dir`] handles, so an honest tool stays beneath its directories; a tool with a bug that runs
//! foreign code is stopped by nothing. It offers no network and runs no programs.
//!
//! Invariant: it never claims to enforce anything ([`Enforcement::None`]), and it opens nothing that the
//! grant does not name.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use otto_core::policy::Permission;
use otto_core::port::BoxFuture;
use otto_core::port::tool::{ToolError, ToolErrorKind, ToolOutput};
use otto_core::port::tool_host::{Enforcement, HostGrant, HostRequest, ToolHost};

use crate::ctx::{Dispatch, MAX_ANSWER_BYTES, StopFlag, WorkerCtx, WorkerRequest, soft_deadline};
use crate::dir::{Access, Dir, DirError};

/// Runs calls in this process, confined by nothing but the tools' own care.
#[derive(Debug, Clone, Copy)]
pub struct InProcessHost {
    dispatch: Dispatch,
}

impl InProcessHost {
    /// A host that calls `dispatch` for every request.
    #[must_use]
    pub const fn new(dispatch: Dispatch) -> Self {
        Self { dispatch }
    }
}

impl ToolHost for InProcessHost {
    fn run(&self, request: HostRequest) -> BoxFuture<'_, Result<ToolOutput, ToolError>> {
        Box::pin(run(self.dispatch, request))
    }

    fn enforcement(&self) -> Enforcement {
        Enforcement::None
    }
}

async fn run(dispatch: Dispatch, request: HostRequest) -> Result<ToolOutput, ToolError> {
    let now = Instant::now();
    let deadline = now + request.time_left;
    let soft = soft_deadline(now, request.time_left);
    // Also stops the thread when this future is dropped.
    let stop = StopOnDrop(StopFlag::default());
    let flag = stop.0.clone();
    let cancellation = std::sync::Arc::clone(&request.cancellation);
    let thread = tokio::task::spawn_blocking(move || run_blocking(dispatch, &request, soft, flag));
    tokio::select! {
        biased;
        // A call that is done has done its work: its result is worth more than the news that it came late.
        answer = thread => match answer {
            Ok(answer) => answer,
            Err(_) => Err(crashed()),
        },
        () = cancellation.cancelled() => {
            Err(ToolError { kind: ToolErrorKind::Cancelled, message: "the call was cancelled".to_owned() })
        }
        () = tokio::time::sleep_until(deadline.into()) => Err(ToolError {
            kind: ToolErrorKind::TimedOut,
            message: "the call took longer than it may; ask for less at once".to_owned(),
        }),
    }
}

struct StopOnDrop(StopFlag);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn run_blocking(
    dispatch: Dispatch,
    request: &HostRequest,
    deadline: Instant,
    stop: StopFlag,
) -> Result<ToolOutput, ToolError> {
    let ctx = open(&request.grant, deadline, stop)?;
    let asked = WorkerRequest {
        tool: request.tool.as_str().to_owned(),
        input: request.input.to_string(),
        settings: request.settings.as_ref().map(ToString::to_string),
        max_output_bytes: MAX_ANSWER_BYTES,
        time_left: deadline.saturating_duration_since(Instant::now()),
        exec: None,
        takes_files: false,
    };
    let answer =
        catch_unwind(AssertUnwindSafe(|| dispatch(&ctx, &asked))).map_err(|_| crashed())?;
    answer.finish(|| {
        ToolError::denied(
            otto_core::policy::RefusedBy::Policy,
            "programs are run only inside the exec sandbox, and the sandbox is switched off here",
        )
    })
}

/// Opens what the grant names, with no more access than it names.
fn open(grant: &HostGrant, deadline: Instant, stop: StopFlag) -> Result<WorkerCtx, ToolError> {
    let mut ctx = WorkerCtx {
        stop,
        ..WorkerCtx::compute(deadline)
    };
    let may_read = grant.permissions.contains(Permission::Read);
    let may_write = grant.permissions.contains(Permission::Write);
    if let (Some(path), true) = (&grant.working_dir, may_read || may_write) {
        let access = if may_write {
            Access::ReadWrite
        } else {
            Access::ReadOnly
        };
        let dir =
            Dir::open(path, access).map_err(|error| unusable("the working directory", error))?;
        ctx.working_dir = Some(dir);
    }
    if may_read {
        for (name, path) in &grant.roots {
            let dir = Dir::open(path, Access::ReadOnly)
                .map_err(|error| unusable(&format!("the read-only root `@{name}`"), error))?;
            ctx.roots.push((name.to_string(), dir));
        }
    }
    Ok(ctx)
}

fn unusable(what: &str, error: DirError) -> ToolError {
    ToolError::for_operator(format!("open {what} of the agent: {error}"))
}

fn crashed() -> ToolError {
    ToolError::for_model("the tool crashed on this input; nothing is known about its effect")
}
