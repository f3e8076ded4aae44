//! Frames: how bytes cross the streams between Otto and its workers.
//!
//! A frame is a length (four bytes, little endian, of the payload alone), a tag and the payload. Both sides
//! speak it, and neither trusts the other: the length is compared with a cap before a byte is kept, and
//! memory grows with what really arrives, not with what was announced.
//!
//! It knows nothing of what the tags mean.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What the payload is.
    pub(crate) tag: u8,
    /// The payload.
    pub(crate) payload: Vec<u8>,
}

pub(crate) const HEADER_BYTES: usize = 5;

// BOUND: memory taken before the first byte of a payload has arrived.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;

/// A frame that breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("a frame announces {announced} bytes; at most {cap} are accepted")]
    TooLong { announced: u64, cap: u64 },
    #[error("the payload of a frame is not what its tag says")]
    Malformed,
}

impl From<BadFrame> for io::Error {
    fn from(bad: BadFrame) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

/// The header of a frame.
pub(crate) fn header(tag: u8, payload_bytes: usize) -> io::Result<[u8; HEADER_BYTES]> {
    let length = u32::try_from(payload_bytes).map_err(|_| BadFrame::TooLong {
        announced: payload_bytes as u64,
        cap: u64::from(u32::MAX),
    })?;
    let [a, b, c, d] = length.to_le_bytes();
    Ok([a, b, c, d, tag])
}

/// Takes a header apart: the tag and the number of bytes that follow.
pub(crate) fn parse_header(header: [u8; HEADER_BYTES], cap: u64) -> Result<(u8, u64), BadFrame> {
    let [a, b, c, d, tag] = header;
    let announced = u64::from(u32::from_le_bytes([a, b, c, d]));
    if announced > cap {
        return Err(BadFrame::TooLong { announced, cap });
    }
    Ok((tag, announced))
}

/// How much memory to take for a payload before it has arrived.
pub(crate) fn first_allocation(announced: u64) -> usize {
    usize::try_from(announced).map_or(FIRST_ALLOCATION_BYTES, |bytes| {
        bytes.min(FIRST_ALLOCATION_BYTES)
    })
}

/// Writes one frame.
pub(crate) fn write_frame(to: &mut impl Write, tag: u8, payload: &[u8]) -> io::Result<()> {
    let header = header(tag, payload.len())?;
    let mut slices = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match to.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes one small frame and a handle beside it.
pub(crate) fn write_frame_with_handle(
    to: &UnixStream,
    tag: u8,
    payload: &[u8],
    handle: BorrowedFd<'_>,
) -> io::Result<()> {
    let frame = [&header(tag, payload.len())?[..], payload].concat();
    let handles = [handle];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&handles)) {
        return Err(Errno::NOBUFS.into());
    }
    let slices = [IoSlice::new(&frame)];
    let sent = sendmsg(to, &slices, &mut ancillary, SendFlags::NOSIGNAL)?;
    // A stream may take a part; the handle went with the first byte.
    (&*to).write_all(&frame[sent..])
}

/// Reads one frame; `None` when the stream ended before it began.
pub(crate) fn read_frame(from: &mut impl Read, cap: u64) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while have < HEADER_BYTES {
        match from.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let (tag, announced) = parse_header(header, cap)?;
    let mut payload = Vec::with_capacity(first_allocation(announced));
    from.take(announced).read_to_end(&mut payload)?;
    if payload.len() as u64 != announced {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Frame { tag, payload }))
}

/// Plain data as the payload of a frame.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|_| BadFrame::Malformed.into())
}

/// The opposite of [`encode`]; bytes that are left over are an error.
pub(crate) fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, BadFrame> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(BadFrame::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was() {
        let mut stream = Vec::new();
        write_frame(&mut stream, 7, b"payload").unwrap();
        write_frame(&mut stream, 8, b"").unwrap();
        let mut from = &stream[..];
        assert_eq!(
            read_frame(&mut from, 7).unwrap(),
            Some(Frame {
                tag: 7,
                payload: b"payload".to_vec()
            })
        );
        assert_eq!(
            read_frame(&mut from, 7).unwrap(),
            Some(Frame {
                tag: 8,
                payload: Vec::new()
            })
        );
        assert_eq!(read_frame(&mut from, 7).unwrap(), None);
    }

    #[test]
    fn a_lying_length_is_refused_and_takes_no_memory() {
        let frame = [0xff, 0xff, 0xff, 0xff, 1];
        let error = read_frame(&mut &frame[..], 1024).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // Announced within the cap, but never sent: an error, after one small allocation.
        let frame = [0, 0, 0, 1, 1, b'x'];
        let error = read_frame(&mut &frame[..], 1 << 30).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(first_allocation(u64::MAX) <= FIRST_ALLOCATION_BYTES);
    }

    #[test]
    fn every_cut_of_a_frame_is_an_error_and_not_a_shorter_frame() {
        let mut stream = Vec::new();
        write_frame(&mut stream, 3, b"0123456789").unwrap();
        for cut in 1..stream.len() {
            let error = read_frame(&mut &stream[..cut], 1024).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_left_over_are_not_accepted() {
        let mut bytes = encode(&5_u32).unwrap();
        assert_eq!(decode::<u32>(&bytes), Ok(5));
        bytes.push(0);
        assert_eq!(decode::<u32>(&bytes), Err(BadFrame::Malformed));
    }
}
