//! A large answer in memory that worker and host share, instead of bytes through a socket.
//!
//! The worker fills it and sends its handle. The host trusts none of that: it asks the kernel whether this is memory
//! (only memory can have seals, so no read of it waits for a disk or another process) that cannot shrink, and how
//! long it is; then it copies what was announced and looks at the copy alone. What a worker writes meanwhile only
//! changes the answer that it gives anyway, so nothing is sealed against writing, and the worker uses the same
//! memory for its next answer: getting new pages from the kernel takes several times as long as filling them.
//!
//! Invariant: what [`receive`] returns has exactly the announced length, and nobody else holds it.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::Errno;

use crate::spec::to_otto;
use crate::wire::{self, BadFrame};

// BOUND: below this length the way through the socket is as cheap.
/// From this length on an answer is shared, in bytes.
pub(crate) const FROM_BYTES: usize = 128 * 1024;

/// The only flags with which a worker can make memory that has a handle.
pub(crate) const FLAGS: MemfdFlags = MemfdFlags::CLOEXEC
    .union(MemfdFlags::ALLOW_SEALING)
    .union(MemfdFlags::NOEXEC_SEAL);

// BOUND: how long a worker without a call keeps the memory of its last large answer.
/// A pause between two calls of one turn is shorter.
pub(crate) const KEPT_FOR: Duration = Duration::from_millis(500);

/// A worker's side: the memory of its last large answer, if it still has it.
#[derive(Debug, Default)]
pub(crate) struct Memory(Option<File>);

impl Memory {
    /// Shares `content` with the host. `false` when this kernel cannot, and nothing was sent.
    pub(crate) fn send(&mut self, stream: &UnixStream, content: &[u8]) -> io::Result<bool> {
        let Ok(memory) = self.filled_with(content) else {
            self.0 = None;
            return Ok(false);
        };
        let payload = wire::encode(&(content.len() as u64))?;
        wire::write_frame_with_handle(stream, to_otto::SHARED, &payload, memory.as_fd())?;
        Ok(true)
    }

    /// Memory that begins with `content`; what a longer answer has left behind it stays.
    fn filled_with(&mut self, content: &[u8]) -> io::Result<&File> {
        let mut memory = match self.0.take() {
            Some(mut memory) => {
                memory.rewind()?;
                memory
            }
            None => {
                // Memory that cannot be run exists since Linux 6.3.
                let memory = File::from(memfd_create(c"answer", FLAGS)?);
                fcntl_add_seals(&memory, SEALS)?;
                memory
            }
        };
        memory.write_all(content)?;
        Ok(self.0.insert(memory))
    }

    /// Gives the memory back unless the next request comes within `kept_for`.
    pub(crate) fn release_when_idle(
        &mut self,
        stream: &UnixStream,
        kept_for: Duration,
    ) -> io::Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let timeout = Timespec::try_from(kept_for).map_err(|_| Errno::INVAL)?;
        let is_idle = poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&timeout))? == 0;
        if is_idle {
            self.0 = None;
        }
        Ok(())
    }
}

const SEALS: SealFlags = SealFlags::SHRINK;

/// Copies what a worker has shared, at most `cap` bytes.
pub(crate) fn receive(memory: &OwnedFd, announced: u64, cap: u64) -> Result<Vec<u8>, BadFrame> {
    if announced > cap {
        return Err(BadFrame::TooLong { announced, cap });
    }
    let is_sealed = fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SEALS));
    let length = fstat(memory)
        .ok()
        .and_then(|stat| u64::try_from(stat.st_size).ok());
    if !is_sealed || length.is_none_or(|length| length < announced) {
        return Err(BadFrame::Malformed);
    }
    let expected = usize::try_from(announced).map_err(|_| BadFrame::Malformed)?;
    let mut content = Vec::with_capacity(expected);
    while content.len() < expected {
        match read_more(memory.as_fd(), &mut content) {
            Ok(0) => return Err(BadFrame::Malformed),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(BadFrame::Malformed),
        }
    }
    Ok(content)
}

fn read_more(memory: BorrowedFd<'_>, content: &mut Vec<u8>) -> rustix::io::Result<usize> {
    // By position: the worker's own position is at the end, and both share it.
    let offset = content.len() as u64;
    rustix::io::pread(memory, rustix::buffer::spare_capacity(content), offset)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::mem::MaybeUninit;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    /// The handle and the announced length of the next answer.
    fn next(stream: &UnixStream) -> (OwnedFd, u64) {
        let mut frame = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [io::IoSliceMut::new(&mut frame)];
        let received = recvmsg(stream, &mut slices, &mut ancillary, RecvFlags::empty()).unwrap();
        let handle = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut handles) => handles.next(),
            _ => None,
        });
        let payload = &frame[wire::HEADER_BYTES..received.bytes];
        (handle.unwrap(), wire::decode(payload).unwrap())
    }

    #[test]
    fn answers_of_all_lengths_come_whole_from_one_memory() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut memory = Memory::default();
        let mut inodes = Vec::new();
        for (byte, length) in [(b'a', 300_000), (b'b', 130_000), (b'c', 900_000), (b'd', 1)] {
            let content = vec![byte; length];
            assert!(memory.send(&theirs, &content).unwrap());
            let (handle, announced) = next(&ours);
            assert_eq!(receive(&handle, announced, u64::MAX), Ok(content));
            // Neither more than there is, nor more than was asked for.
            assert_eq!(
                receive(&handle, 1_000_000, u64::MAX),
                Err(BadFrame::Malformed)
            );
            assert!(receive(&handle, announced, announced - 1).is_err());
            inodes.push(fstat(&handle).unwrap().st_ino);
        }
        inodes.dedup();
        assert_eq!(inodes.len(), 1, "the pages were used again");
    }

    #[test]
    fn memory_is_given_back_by_a_worker_without_a_request() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut memory = Memory::default();
        memory.filled_with(b"x").unwrap();
        ours.write_all(b"x").unwrap();
        memory.release_when_idle(&theirs, Duration::ZERO).unwrap();
        assert!(memory.0.is_some(), "a request waits");
        (&theirs).read_exact(&mut [0]).unwrap();
        memory.release_when_idle(&theirs, Duration::ZERO).unwrap();
        assert!(memory.0.is_none());
    }

    #[test]
    fn what_is_no_sealed_memory_is_not_read() {
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(receive(&file.into(), 1, 1), Err(BadFrame::Malformed));
        let memory = memfd_create(c"unsealed", FLAGS).unwrap();
        File::from(memory.try_clone().unwrap())
            .write_all(b"x")
            .unwrap();
        assert_eq!(receive(&memory, 1, 1), Err(BadFrame::Malformed));
    }
}
