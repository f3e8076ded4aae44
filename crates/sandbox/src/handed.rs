//! A large file, handed to the host open, in place of its text.
//!
//! The worker finds and opens it, as far as its grant goes; the host copies it once, out of the memory of the kernel,
//! where the worker would copy it twice more: into memory that both share, which is dear to write after another
//! processor has read it. The host trusts none of that: it takes a regular file alone, only what can be had without
//! waiting for a disk or another process, no more than was announced, and only text that hides nothing. It looks at
//! its own copy, which nobody can change any more. Whatever is not taken is asked for again, as text.
//!
//! Invariant: nothing here waits.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use crate::shown::open_text;
use crate::sys;

/// Why a file was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Its file system cannot read without waiting.
    NeverHere,
    /// Not in memory, not text that hides nothing, too long, changed meanwhile: the worker has the words for it.
    NotThisTime,
}

/// The whole text of `file`, if it has at most `most_bytes`.
pub(crate) fn take(file: &OwnedFd, most_bytes: u64) -> Result<String, NotTaken> {
    let stat = fstat(file).map_err(|_| NotTaken::NotThisTime)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let expected = usize::try_from(size).map_err(|_| NotTaken::NotThisTime)?;
    if !is_regular || !(1..=most_bytes).contains(&size) {
        return Err(NotTaken::NotThisTime);
    }
    // One byte more, so that a file that has grown is noticed.
    let mut content = Vec::with_capacity(expected + 1);
    while content.len() <= expected {
        match sys::read_more_at_once(file.as_fd(), &mut content) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return Err(NotTaken::NeverHere),
            Err(_) => return Err(NotTaken::NotThisTime),
        }
    }
    let is_whole = content.len() == expected;
    is_whole
        .then(|| open_text(content))
        .flatten()
        .ok_or(NotTaken::NotThisTime)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn opened(dir: &tempfile::TempDir, content: &[u8]) -> OwnedFd {
        let path = dir.path().join("file");
        fs::write(&path, content).unwrap();
        File::open(&path).unwrap().into()
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let text = "a line of text\r\n\tünïcode 漢字\n".repeat(10_000);
        let size = text.len() as u64;
        // Some file systems cannot say whether they would wait; then the worker reads.
        let taken = take(&opened(&dir, text.as_bytes()), size);
        assert!(
            taken == Ok(text.clone()) || taken == Err(NotTaken::NeverHere),
            "{taken:?}"
        );
        for (content, most_bytes) in [
            (text.as_bytes(), size - 1),
            (b"", size),
            (b"a\0b", size),
            ("a\u{202e}b".as_bytes(), size),
            (b"a\xffb", size),
        ] {
            let taken = take(&opened(&dir, content), most_bytes);
            assert!(taken.is_err(), "{taken:?}");
        }
    }

    #[test]
    fn what_is_no_file_to_be_read_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        let write_only = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.path().join("file"))
            .unwrap();
        fs::write(dir.path().join("file"), "text").unwrap();
        for handle in [
            socket.into(),
            write_only.into(),
            File::open(dir.path()).unwrap().into(),
            // A regular file of a kind that tells no size.
            File::open("/proc/self/status").unwrap().into(),
            File::open("/dev/zero").unwrap().into(),
        ] {
            assert_eq!(take(&handle, 1_000_000), Err(NotTaken::NotThisTime));
        }
    }
}
