//! A run of this very program, as a user would type it: what it prints is passed on and kept.
//!
//! Invariant: a process that was started here has ended, and was waited for, when its act is dropped.

use std::io::{PipeReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::sync::mpsc;

use crate::error::Failure;

/// BOUND: pieces of output that wait to be shown, and the size of one.
const PIECES: usize = 64;
const PIECE_BYTES: usize = 8 * 1024;

/// A running command.
pub(super) struct Act {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    kept: Vec<u8>,
}

/// What a command came to.
pub(super) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    /// Everything it printed.
    pub(super) output: Vec<u8>,
}

impl Act {
    /// Starts `otto ARGS` with this environment and nothing else.
    pub(super) fn begin(
        args: &[&str],
        environment: &[(String, String)],
        project: &Path,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::doing("start `otto` again", &error);
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(args)
            .current_dir(project)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone().map_err(failed)?)
            .stderr(writer);
        let child = command.spawn().map_err(failed)?;
        // The command holds the pipe's other end: with it open the output would never end.
        drop(command);
        let (sender, output) = mpsc::channel(PIECES);
        std::thread::spawn(move || pass_on(reader, &sender));
        Ok(Self {
            child,
            output,
            kept: Vec::new(),
        })
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next piece of its output; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let piece = self.output.recv().await?;
        self.kept.extend_from_slice(&piece);
        Some(piece)
    }

    /// Ends it as a power cut would: SIGKILL, no warning, nothing written.
    pub(super) fn kill(&mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .map_err(|error| Failure::doing("kill the agent's process", &error))
    }

    /// Waits for its end. Its output must have ended.
    pub(super) fn ended(mut self) -> Result<Ended, Failure> {
        let status = self
            .child
            .wait()
            .map_err(|error| Failure::doing("wait for the agent's process", &error))?;
        Ok(Ended {
            code: status.code(),
            output: std::mem::take(&mut self.kept),
        })
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        // After `ended` both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pass_on(mut reader: PipeReader, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        if sender.blocking_send(buffer[..count].to_vec()).is_err() {
            return;
        }
    }
}
