//! Lines of the log on their way to whoever reads them.
//!
//! Whoever logs must never wait for a reader: a full pipe would stop every agent of the process. Lines wait
//! here, bounded, and a thread of their own writes them. It knows nothing of formats and files.
//!
//! Invariant: `push` does not block on what writes; what finds no room is counted and told with the next line
//! that is written.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// BOUND: lines that wait; at a few hundred bytes each some megabytes.
const LINES_MAX: usize = 8_192;

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    dropped: u64,
    is_served: bool,
    is_writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

impl Queue {
    /// Takes a line, or counts it where there is no room. Gives it back while nobody serves the queue: then the
    /// caller writes it itself.
    pub(super) fn push(&self, line: String) -> Option<String> {
        let mut state = self.lock();
        if !state.is_served {
            return Some(line);
        }
        if state.lines.len() < LINES_MAX {
            state.lines.push_back(line);
        } else {
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
        None
    }

    /// From now on lines wait. Gives whether nobody had said so before; then the caller must start
    /// [`Queue::serve`].
    pub(super) fn begin(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_served, true)
    }

    /// Undoes [`Queue::begin`], when what would serve could not be started.
    pub(super) fn cannot_begin(&self) {
        self.lock().is_served = false;
    }

    /// Writes lines as they come, for ever. `write` gets a line, or how many were dropped before it.
    pub(super) fn serve(&self, mut write: impl FnMut(Result<&str, u64>)) {
        let mut state = self.lock();
        loop {
            state = self
                .changed
                .wait_while(state, |state| state.is_idle())
                .unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            state.is_writing = true;
            drop(state);
            for line in &lines {
                write(Ok(line));
            }
            if dropped > 0 {
                write(Err(dropped));
            }
            state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, at most `bound`.
    pub(super) fn drain(&self, bound: Duration) {
        let state = self.lock();
        if !state.is_served {
            return;
        }
        let waiting = |state: &mut State| !state.is_idle() || state.is_writing;
        // A reader that is still stuck gets no more.
        let _ = self.changed.wait_timeout_while(state, bound, waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_hears_what_it_missed() {
        let queue = Arc::new(Queue::default());
        assert_eq!(queue.push("early".to_owned()).as_deref(), Some("early"));
        assert!(queue.begin());
        assert!(!queue.begin());
        let (started, has_started) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (written, all) = mpsc::channel();
        let served = queue.clone();
        thread::spawn(move || {
            served.serve(|line| {
                started.send(()).unwrap();
                // Stuck until the test lets it go on; afterwards nothing holds it.
                let _ = may_go_on.recv();
                let _ = written.send(line.map(str::to_owned));
            });
        });
        assert_eq!(queue.push("first".to_owned()), None);
        has_started.recv().unwrap();
        for number in 0..LINES_MAX + 7 {
            assert_eq!(queue.push(number.to_string()), None);
        }
        drop(go_on);
        queue.drain(Duration::MAX);
        let all: Vec<_> = all.try_iter().collect();
        assert_eq!(all.len(), 1 + LINES_MAX + 1);
        assert_eq!(all[0], Ok("first".to_owned()));
        assert_eq!(all[LINES_MAX], Ok((LINES_MAX - 1).to_string()));
        assert_eq!(all[LINES_MAX + 1], Err(7));
    }
}
