//! What a tool may touch: the trust boundary and the only unsafe code.

mod ctx;
pub mod dir;
mod in_process;

pub use ctx::{
    ByteStream, Dispatch, Egress, EgressRefusal, ExecEnd, ExecOutcome, ExecRequest, FailureKind, MAX_ANSWER_BYTES,
    MAX_TOOL_NAME_BYTES, Place, StopFlag, ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest, soft_deadline,
};
pub use dir::{Access, Dir, DirError};
pub use in_process::InProcessHost;
