use super::WorkerHost;
use crate::ctx::{ExecOutcome, ExecRequest};
use otto_core::port::tool::ToolError;
use std::path::Path;
use std::time::Instant;
impl WorkerHost {
    pub(crate) async fn exec_until(
        &self,
        _working_dir: &Path,
        _program: ExecRequest,
        _deadline: Instant,
    ) -> Result<ExecOutcome, ToolError> {
        Err(ToolError::for_operator("not built"))
    }
}
