//! Streams with something wrong in them.
//!
//! Invariant: without a fault nothing here runs; with one, events not concerned keep their bytes.

use std::time::Duration;

use super::{Ending, PlayStep, Playback, Wire};
use crate::error::error_body;
use crate::script::{BadEnding, ErrorEvent, Insertion, LineEnds, Point, StreamFault};

impl From<BadEnding> for Ending {
    fn from(ending: BadEnding) -> Self {
        match ending {
            BadEnding::Close => Self::Close,
            BadEnding::Clean => Self::Clean,
            BadEnding::Reset => Self::Reset,
            BadEnding::Stall => Self::Stall,
        }
    }
}

/// Applies a fault to a stream.
pub(crate) fn apply(wire: &Wire, fault: &StreamFault, request_id: &str) -> Playback {
    let mut writer = Writer {
        fault,
        bytes: Vec::with_capacity(wire.bytes.len() * 2),
        steps: Vec::new(),
        tokens: 0,
    };
    let mut cut_at = None;
    let mut ending = Ending::Whole;
    if fault.bom {
        writer.bytes.extend_from_slice("\u{FEFF}".as_bytes());
    }
    let mut start = 0;
    for (index, event) in wire.events.iter().enumerate() {
        if let Some((Point::Event(at), _)) = fault.ending
            && at == index
        {
            cut_at = Some(writer.bytes.len());
        }
        writer.insert(index);
        if let Some(error) = fault.error_event.as_ref().filter(|error| error.at == index) {
            ending = writer.error(error, request_id);
            break;
        }
        let bytes = &wire.bytes[start..event.end];
        start = event.end;
        writer.tokens = event.tokens;
        if fault.drop.iter().any(|name| name == event.name) {
            continue;
        }
        if fault.comments {
            writer.event(b": keep-alive\n\n", Duration::ZERO);
        }
        writer.event(bytes, event.wait);
        if fault
            .duplicate
            .iter()
            .any(|name| name == event.name || name == "all")
        {
            writer.event(bytes, Duration::ZERO);
        }
        for _ in 0..fault.pings {
            writer.event(
                b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
                Duration::ZERO,
            );
        }
    }
    if ending == Ending::Whole {
        writer.insert(wire.events.len());
    }
    let mut playback = Playback {
        bytes: writer.bytes.into(),
        steps: writer.steps,
        ending,
    };
    if let Some((point, how)) = fault.ending {
        let at = match point {
            Point::Byte(at) => Some(at),
            Point::Event(_) => cut_at,
        };
        // A place behind the end is the end: the fault is that the body does not end well.
        playback = playback.cut(at.unwrap_or(usize::MAX), how.into());
    }
    playback
}

struct Writer<'f> {
    fault: &'f StreamFault,
    bytes: Vec<u8>,
    steps: Vec<PlayStep>,
    tokens: u64,
}

impl Writer<'_> {
    /// Appends an event in the framing of the fault.
    fn event(&mut self, bytes: &[u8], wait: Duration) {
        if self.fault.multiline {
            self.spread(bytes);
        } else {
            self.framed(bytes);
        }
        self.step(wait);
    }

    /// Each event is a step of its own here, so that a cut knows what was produced before it.
    fn step(&mut self, wait: Duration) {
        self.steps.push(PlayStep {
            end: self.bytes.len(),
            wait,
            tokens: self.tokens,
            alone: false,
        });
    }

    fn framed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match (byte, self.fault.line_ends) {
                (b'\n', LineEnds::CrLf) => self.bytes.extend_from_slice(b"\r\n"),
                (b'\n', LineEnds::Cr) => self.bytes.push(b'\r'),
                _ => self.bytes.push(*byte),
            }
        }
    }

    /// Spreads the data over several lines, at commas outside of texts, where a line break is a blank in JSON.
    fn spread(&mut self, bytes: &[u8]) {
        let mut in_text = false;
        let mut escaped = false;
        let mut in_data = false;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            in_data = in_data || line.starts_with(b"data:");
            for byte in line {
                self.framed(&[*byte]);
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' if in_data => in_text = !in_text,
                    b',' if in_data && !in_text => self.framed(b"\ndata: "),
                    _ => {}
                }
            }
        }
    }

    fn insert(&mut self, index: usize) {
        let fault = self.fault;
        for (_, insertion) in fault.insert.iter().filter(|(at, _)| *at == index) {
            match insertion {
                Insertion::Wait(wait) => self.step(*wait),
                Insertion::Text(text) => {
                    self.bytes.extend_from_slice(text.as_bytes());
                    self.step(Duration::ZERO);
                }
                Insertion::Event { name, data } => {
                    let mut event = String::new();
                    if let Some(name) = name {
                        event.push_str("event: ");
                        event.push_str(name);
                        event.push('\n');
                    }
                    for line in data.lines() {
                        event.push_str("data: ");
                        event.push_str(line);
                        event.push('\n');
                    }
                    event.push('\n');
                    self.event(event.as_bytes(), Duration::ZERO);
                }
            }
        }
    }

    fn error(&mut self, error: &ErrorEvent, request_id: &str) -> Ending {
        let body = error_body(&error.kind, &error.message, None, request_id);
        self.event(
            format!("event: error\ndata: {body}\n\n").as_bytes(),
            Duration::ZERO,
        );
        if error.stays_open {
            Ending::Stall
        } else {
            Ending::Clean
        }
    }
}
