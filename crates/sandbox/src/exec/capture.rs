//! A bounded part of what a program writes: its beginning and its end.
//!
//! The beginning says what was run, the end says how it went; what is dropped is the middle.

use std::collections::VecDeque;

/// Collects the output of one stream.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    head_limit: usize,
    tail_limit: usize,
    dropped: u64,
}

impl Capture {
    /// Keeps at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        let head_limit = limit / 2;
        Self {
            head: Vec::new(),
            tail: VecDeque::new(),
            head_limit,
            tail_limit: limit - head_limit,
            dropped: 0,
        }
    }

    /// Takes more output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self.head_limit - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        let skipped = rest.len().saturating_sub(self.tail_limit);
        let kept = &rest[skipped..];
        let overflow = (self.tail.len() + kept.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..overflow);
        self.tail.extend(kept);
        self.dropped += (skipped + overflow) as u64;
    }

    /// What was kept, with a line in the place of what was not; and whether anything was dropped.
    pub(super) fn finish(self) -> (Vec<u8>, bool) {
        let mut output = self.head;
        if self.dropped > 0 {
            output
                .extend_from_slice(format!("\n[{} bytes dropped here]\n", self.dropped).as_bytes());
        }
        output.extend(self.tail);
        (output, self.dropped > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Capture;

    #[test]
    fn what_fits_is_kept_whole_however_it_arrives() {
        for chunk in 1..=7 {
            let mut capture = Capture::new(10);
            b"0123456789"
                .chunks(chunk)
                .for_each(|bytes| capture.push(bytes));
            assert_eq!(
                capture.finish(),
                (b"0123456789".to_vec(), false),
                "chunks of {chunk}"
            );
        }
    }

    #[test]
    fn the_middle_of_a_flood_is_dropped() {
        for chunk in [1, 3, 10, 1000] {
            let flood: Vec<u8> = (0..1000_u32)
                .map(|number| b'a' + u8::try_from(number % 26).unwrap())
                .collect();
            let mut capture = Capture::new(11);
            flood.chunks(chunk).for_each(|bytes| capture.push(bytes));
            let (output, cut) = capture.finish();
            let expected = [&flood[..5], b"\n[989 bytes dropped here]\n", &flood[994..]].concat();
            assert_eq!((output, cut), (expected, true), "chunks of {chunk}");
        }
    }

    #[test]
    fn nothing_can_be_kept_too() {
        let mut capture = Capture::new(0);
        capture.push(b"x");
        assert_eq!(
            capture.finish(),
            (b"\n[1 bytes dropped here]\n".to_vec(), true)
        );
    }
}
