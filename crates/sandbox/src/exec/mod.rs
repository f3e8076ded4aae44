use crate::confine::Prepared;
use crate::spec::{ExecSpec, SetupFailure, Stage};
use std::io;
use std::os::unix::net::UnixStream;
pub(crate) fn supervise(
    _spec: &ExecSpec,
    _prepared: &Prepared,
    stream: &UnixStream,
) -> io::Result<()> {
    crate::launcher::fail(stream, &SetupFailure::refused(Stage::Program, "not built"))
}
