//! The first thing a program does that uses Otto's tools: start the launcher.
//!
//! It has to happen at the first line of `main`, before any thread, secret or configuration: the launcher
//! is the same binary started once more, and every confined process is a copy of it. Later, when Otto has
//! locked itself into its own domain, it could not be started any more.
//!
//! Invariant: in a process that is the launcher, [`boot`] does not return.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::ctx::Dispatch;
use crate::launcher::{self, Role};
use crate::spec::{MAX_START_BYTES, Start};
use crate::wire;

/// The running launcher. Cheap to clone.
#[derive(Clone)]
pub struct Booted(Arc<Inner>);

struct Inner {
    launcher: Result<OwnedFd, BootError>,
    /// Collected when the program ends in an orderly way; otherwise the system does it.
    process: Mutex<Option<std::process::Child>>,
}

/// Why there is no launcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Nobody called [`boot`].
    #[error(
        "the sandbox was not started: call `boot` at the first line of `main`, before any thread and before \
         the async runtime"
    )]
    NotBooted,
    /// This process was started by a launcher on its way to [`boot`].
    #[error(
        "the sandbox was not started: its launcher did other work before it reached `boot`, and started this process; \
         call `boot` at the first line of `main`"
    )]
    LateBoot,
    /// The program could not be started a second time.
    #[error("start the launcher of the sandbox: {0}")]
    Launcher(String),
}

static BOOTED: OnceLock<Booted> = OnceLock::new();

/// Starts the launcher, or becomes it. To be called at the first line of `main`.
///
/// `dispatch` is the code of the tools; it runs in confined workers and never in this process. A second call
/// returns the launcher of the first one.
///
/// Does not fail: a launcher that cannot be started is reported when a tool is to be used, by
/// [`Booted::error`] and by `otto doctor`, so that a program without tools still works.
#[must_use]
pub fn boot(dispatch: Dispatch) -> Booted {
    match launcher::role_of_this_process() {
        Role::Launcher(control) => launcher::run(control, dispatch),
        Role::ChildOfLauncher => BOOTED
            .get_or_init(|| Booted::without(BootError::LateBoot))
            .clone(),
        Role::Main => BOOTED.get_or_init(Booted::start).clone(),
    }
}

/// The launcher of this process, for code that is far from `main`. Without a call of [`boot`] it is one
/// whose every use fails with [`BootError::NotBooted`].
#[must_use]
pub fn booted() -> Booted {
    BOOTED
        .get()
        .cloned()
        .unwrap_or_else(|| Booted::without(BootError::NotBooted))
}

impl Booted {
    fn start() -> Self {
        crate::confine::limits::raise_open_files();
        match launcher::spawn() {
            Ok((control, process)) => Self(Arc::new(Inner {
                launcher: Ok(control),
                process: Mutex::new(Some(process)),
            })),
            Err(error) => Self::without(BootError::Launcher(error.to_string())),
        }
    }

    fn without(error: BootError) -> Self {
        Self(Arc::new(Inner {
            launcher: Err(error),
            process: Mutex::new(None),
        }))
    }

    /// Why there is no launcher, if there is none.
    #[must_use]
    pub fn error(&self) -> Option<&BootError> {
        self.0.launcher.as_ref().err()
    }

    /// Sends a request with one end of the stream of the new process, over which the answer comes, and one end
    /// of the socket for notes of its egress process, if that is to write any.
    ///
    /// # Errors
    /// `WouldBlock` when the launcher has not kept up; the caller tries again.
    pub(crate) fn request(
        &self,
        start: &Start,
        stream: BorrowedFd<'_>,
        notes: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let control = self
            .0
            .launcher
            .as_ref()
            .map_err(|error| io::Error::other(error.clone()))?;
        let message = wire::encode(start)?;
        if message.len() > MAX_START_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the grant takes {} bytes to describe; at most {MAX_START_BYTES} are possible",
                    message.len()
                ),
            ));
        }
        let handles: Vec<BorrowedFd<'_>> = std::iter::once(stream).chain(notes).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&handles)) {
            return Err(Errno::NOBUFS.into());
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(
            control.as_fd(),
            &[IoSlice::new(&message)],
            &mut ancillary,
            flags,
        )?;
        Ok(())
    }
}

impl fmt::Debug for Booted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Booted")
            .field(&self.0.launcher.as_ref().map(|_| "launcher"))
            .finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The launcher ends when its socket closes, which happens now; collecting it leaves no zombie.
        self.launcher = Err(BootError::NotBooted);
        if let Ok(mut process) = self.process.lock()
            && let Some(mut process) = process.take()
        {
            let _ = process.wait();
        }
    }
}
