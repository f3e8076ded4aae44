//! A large answer in memory that worker and host share, instead of bytes through a socket.
//!
//! The worker fills it, seals its length and sends its handle. The host trusts none of that: it asks the kernel
//! whether this is memory (only memory can have seals, so no read of it waits for a disk or another process),
//! whether its length can still change, and how long it is; then it copies it and looks at the copy alone. What a
//! worker writes meanwhile only changes the answer that it gives anyway, so nothing is sealed against writing: for
//! that seal the kernel lets every processor finish what it has in hand, which takes longer than the copy.
//!
//! Invariant: what [`receive`] returns has exactly the announced length, and nobody else holds it.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::spec::to_otto;
use crate::wire::{self, BadFrame};

// BOUND: below this length the way through the socket is as cheap.
/// From this length on an answer is shared, in bytes.
pub(crate) const FROM_BYTES: usize = 128 * 1024;

/// The only flags with which a worker can make memory that has a handle.
pub(crate) const FLAGS: MemfdFlags = MemfdFlags::CLOEXEC
    .union(MemfdFlags::ALLOW_SEALING)
    .union(MemfdFlags::NOEXEC_SEAL);

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Shares `content` with the host. `false` when this kernel cannot, and nothing was sent.
pub(crate) fn send(stream: &UnixStream, content: &[u8]) -> io::Result<bool> {
    // Memory that cannot be run exists since Linux 6.3.
    let Ok(memory) = memfd_create(c"answer", FLAGS).map(File::from) else {
        return Ok(false);
    };
    if (&memory).write_all(content).is_err() || fcntl_add_seals(&memory, SEALS).is_err() {
        return Ok(false);
    }
    let payload = wire::encode(&(content.len() as u64))?;
    let frame = [&wire::header(to_otto::SHARED, payload.len())?[..], &payload].concat();
    let handles = [memory.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(Errno::NOBUFS.into());
    }
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&frame)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    // A stream may take a part; the handle went with the first byte.
    (&*stream).write_all(&frame[sent..])?;
    Ok(true)
}

/// Copies what a worker has shared, at most `cap` bytes.
pub(crate) fn receive(memory: &OwnedFd, announced: u64, cap: u64) -> Result<Vec<u8>, BadFrame> {
    if announced > cap {
        return Err(BadFrame::TooLong { announced, cap });
    }
    let is_sealed = fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SEALS));
    let length = fstat(memory)
        .ok()
        .and_then(|stat| u64::try_from(stat.st_size).ok());
    if !is_sealed || length != Some(announced) {
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
