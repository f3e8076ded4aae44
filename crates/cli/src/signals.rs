//! Signals: Ctrl-C and the polite request to end, and the kill switch by signal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// SIGINT or SIGTERM: end in an orderly way.
    End,
    /// SIGUSR1: throw the kill switch, for every process on the state directory.
    Kill,
}

/// Waits for signals.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next one. Cancel safe: nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Ask {
        tokio::select! {
            _ = self.interrupt.recv() => Ask::End,
            _ = self.terminate.recv() => Ask::End,
            _ = self.user.recv() => Ask::Kill,
        }
    }
}

/// The reason that a switch thrown by signal carries.
pub(crate) fn kill_reason() -> String {
    format!("signal SIGUSR1 to process {}", std::process::id())
}
