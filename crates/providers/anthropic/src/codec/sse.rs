//! Server-sent events: bytes to events, incrementally.
//!
//! Follows the event-stream format of the HTML standard: UTF-8 with an optional byte order mark, lines that
//! end with LF, CR or CRLF, comments, several `data` lines joined by LF. `id` and `retry` are ignored, and an
//! event that is not ended by an empty line is never dispatched. Text is not decoded here: lines are split
//! on bytes, so a character cut in two by the network is whole again before anybody reads it.
//!
//! Every byte is looked at once. An event whose data is one line inside one chunk is handed on without a copy.
//!
//! Invariant: the buffers hold at most one unfinished line and one unfinished event, each of at most
//! [`MAX_EVENT_BYTES`].

use std::ops::ControlFlow;

/// Longest line, and longest data of one event.
// BOUND: half of the largest request the vendor accepts (32 MB), so no event that could be sent back is refused.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Buffers that grew beyond this are given back after the event that needed them.
const KEPT_CAPACITY: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One dispatched event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The `event` field; empty when there was none.
    pub name: &'a [u8],
    /// The `data` lines, joined by LF.
    pub data: &'a [u8],
}

/// Why a byte stream is not a stream of events. Final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line did not end in time.
    #[error("a line is longer than {MAX_EVENT_BYTES} bytes")]
    LineTooLong,
    /// The data lines of one event are too long together.
    #[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
    EventTooLong,
}

/// An incremental parser of server-sent events.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The unfinished line of earlier chunks.
    line: Vec<u8>,
    /// The data of the unfinished event.
    data: Vec<u8>,
    /// The name of the unfinished event.
    name: Vec<u8>,
    /// Whether the unfinished event has a data line.
    has_data: bool,
    /// Whether the last byte was a CR, so that an LF that follows belongs to it.
    after_cr: bool,
    /// Whether the first line, which may begin with a byte order mark, is done.
    past_first_line: bool,
}

impl SseParser {
    /// A parser at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and hands on each event they complete, until `on_event` breaks.
    ///
    /// After a break the rest of `chunk` is dropped: the caller has seen what it wanted.
    ///
    /// # Errors
    /// When a line or an event exceeds [`MAX_EVENT_BYTES`]. The parser must not be used further.
    pub fn push(
        &mut self,
        chunk: &[u8],
        mut on_event: impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<(), SseError> {
        let mut rest = chunk;
        // The data of the unfinished event while it is a single line of this chunk.
        let mut inline: Option<&[u8]> = None;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            let (head, tail) = rest.split_at(end);
            rest = &tail[1..];
            if tail[0] == b'\r' {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            let flow = if self.line.is_empty() {
                self.whole_line(head, &mut inline, &mut on_event)?
            } else {
                self.extend_line(head)?;
                self.carried_line(&mut on_event)?
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        if let Some(data) = inline {
            self.append(data)?;
        }
        self.extend_line(rest)
    }

    /// A line that lies in one chunk: its data need not be copied yet.
    fn whole_line<'c>(
        &mut self,
        line: &'c [u8],
        inline: &mut Option<&'c [u8]>,
        on_event: &mut impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SseError> {
        if line.len() > MAX_EVENT_BYTES {
            return Err(SseError::LineTooLong);
        }
        match Line::of(self.without_mark(line)) {
            Line::Empty => return Ok(self.dispatch(inline.take(), on_event)),
            Line::Data(value) if !self.has_data => {
                self.has_data = true;
                *inline = Some(value);
            }
            Line::Data(value) => {
                if let Some(first) = inline.take() {
                    self.append(first)?;
                }
                self.append(b"\n")?;
                self.append(value)?;
            }
            Line::Name(value) => self.rename(value),
            Line::Ignored => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A line that began in an earlier chunk and is complete now.
    fn carried_line(
        &mut self,
        on_event: &mut impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SseError> {
        // Taken out, so that it can be read while the event's buffers are written.
        let line = std::mem::take(&mut self.line);
        let mut flow = ControlFlow::Continue(());
        match Line::of(self.without_mark(&line)) {
            Line::Empty => flow = self.dispatch(None, on_event),
            Line::Data(value) => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.append(b"\n")?;
                }
                self.append(value)?;
            }
            Line::Name(value) => self.rename(value),
            Line::Ignored => {}
        }
        self.line = emptied(line);
        Ok(flow)
    }

    /// Ends the event. `inline` is its data if that was not copied into the buffer.
    fn dispatch(
        &mut self,
        inline: Option<&[u8]>,
        on_event: &mut impl FnMut(SseEvent<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let flow = if self.has_data {
            on_event(SseEvent {
                name: &self.name,
                data: inline.unwrap_or(&self.data),
            })
        } else {
            ControlFlow::Continue(())
        };
        self.has_data = false;
        self.data = emptied(std::mem::take(&mut self.data));
        self.name = emptied(std::mem::take(&mut self.name));
        flow
    }

    fn rename(&mut self, value: &[u8]) {
        self.name.clear();
        self.name.extend_from_slice(value);
    }

    fn append(&mut self, data: &[u8]) -> Result<(), SseError> {
        if self.data.len() + data.len() > MAX_EVENT_BYTES {
            return Err(SseError::EventTooLong);
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), SseError> {
        if self.line.len() + part.len() > MAX_EVENT_BYTES {
            return Err(SseError::LineTooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn without_mark<'l>(&mut self, line: &'l [u8]) -> &'l [u8] {
        if std::mem::replace(&mut self.past_first_line, true) {
            line
        } else {
            line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
        }
    }
}

/// What a line means.
enum Line<'l> {
    Empty,
    Data(&'l [u8]),
    Name(&'l [u8]),
    Ignored,
}

impl<'l> Line<'l> {
    fn of(line: &'l [u8]) -> Self {
        if line.is_empty() {
            Self::Empty
        } else if let Some(value) = field(line, b"data") {
            Self::Data(value)
        } else if let Some(value) = field(line, b"event") {
            Self::Name(value)
        } else {
            Self::Ignored
        }
    }
}

/// The value of the field `name`, if the line is of that field: `name`, `name:value` or `name: value`.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The buffer without content, and without capacity that only an unusual event needed.
fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > KEPT_CAPACITY {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All events of the chunks, as text.
    fn events(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = SseParser::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            parser
                .push(chunk, |event| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    seen.push((text(event.name), text(event.data)));
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        seen
    }

    fn check(stream: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, d)| ((*n).to_owned(), (*d).to_owned()))
            .collect();
        let bytes = stream.as_bytes();
        assert_eq!(events(&[bytes]), expected, "whole: {stream:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&single), expected, "byte by byte: {stream:?}");
        for cut in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(events(&[head, tail]), expected, "cut at {cut}: {stream:?}");
        }
    }

    #[test]
    fn every_legal_form_is_read() {
        check("data: a\n\n", &[("", "a")]);
        check("data:a\n\n", &[("", "a")]);
        check("data:  a\n\n", &[("", " a")]);
        check("event: x\ndata: a\n\n", &[("x", "a")]);
        check("data: a\nevent: x\n\n", &[("x", "a")]);
        check("event: x\nevent: y\ndata: a\n\n", &[("y", "a")]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &[("", "a"), ("", "b")]);
        check("data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]);
        check("data: a\n\r\ndata: b\r\n\n", &[("", "a"), ("", "b")]);
        check("\u{feff}data: a\n\n", &[("", "a")]);
        check("\u{feff}\ndata: a\n\n", &[("", "a")]);
        check("data: a\ndata: b\ndata: c\n\n", &[("", "a\nb\nc")]);
        check("data\ndata: b\n\n", &[("", "\nb")]);
        check(": comment\n\n:data: no\ndata: a\n:\n\n", &[("", "a")]);
        check("id: 1\nretry: 5\ndata: a\nother\n\n", &[("", "a")]);
        check(
            "data: gr\u{fc}\u{df}e \u{1f680}\n\n",
            &[("", "gr\u{fc}\u{df}e \u{1f680}")],
        );
    }

    #[test]
    fn what_is_no_event_is_not_dispatched() {
        check("event: x\n\n", &[]);
        check("\n\n\n", &[]);
        check("data: a\n", &[]);
        check("data: a", &[]);
        check("datas: a\n\n", &[]);
        check("Data: a\n\n", &[]);
        check(" data: a\n\n", &[]);
        check("event: x\n\ndata: a\n\n", &[("", "a")]);
    }

    #[test]
    fn an_empty_data_line_is_an_event_with_empty_data() {
        check("data\n\n", &[("", "")]);
        check("data:\n\n", &[("", "")]);
    }

    #[test]
    fn a_break_drops_the_rest() {
        let mut parser = SseParser::new();
        let mut count = 0;
        parser
            .push(b"data: a\n\ndata: b\n\n", |_| {
                count += 1;
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(count, 1);
    }

    #[test]
    fn lines_and_events_are_capped_however_they_arrive() {
        let too_long = vec![b'a'; MAX_EVENT_BYTES + 1];
        let ignore = |_: SseEvent<'_>| ControlFlow::Continue(());
        assert_eq!(
            SseParser::new().push(&too_long, ignore),
            Err(SseError::LineTooLong)
        );

        let mut ended = too_long.clone();
        ended.push(b'\n');
        assert_eq!(
            SseParser::new().push(&ended, ignore),
            Err(SseError::LineTooLong)
        );

        let mut parser = SseParser::new();
        let mut line = b"data: ".to_vec();
        line.resize(MAX_EVENT_BYTES / 2 + 64, b'a');
        line.push(b'\n');
        assert_eq!(parser.push(&line, ignore), Ok(()));
        assert_eq!(parser.push(&line, ignore), Err(SseError::EventTooLong));
    }

    #[test]
    fn big_buffers_are_given_back() {
        let mut parser = SseParser::new();
        let mut stream = b"data: ".to_vec();
        stream.resize(1024 * 1024, b'a');
        parser.push(&stream, |_| ControlFlow::Continue(())).unwrap();
        parser
            .push(b"a\n\n", |_| ControlFlow::Continue(()))
            .unwrap();
        assert!(parser.line.capacity() <= KEPT_CAPACITY && parser.data.capacity() <= KEPT_CAPACITY);
    }
}
