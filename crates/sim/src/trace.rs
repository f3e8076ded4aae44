//! What happened last, for people; and a fingerprint of all that happened, for the check of determinism.

use std::collections::VecDeque;
use std::fmt;

use otto_core::Timestamp;
use otto_core::id::EffectId;
use otto_core::invocation::{Effect, Event};

/// BOUND: how many lines a report shows.
const KEPT: usize = 200;

/// The end of the story so far.
#[derive(Debug)]
pub(crate) struct Trace {
    lines: VecDeque<(Timestamp, usize, What)>,
    fingerprint: u64,
    steps: u64,
}

#[derive(Debug)]
enum What {
    Event(Event),
    Effect(Effect),
    Call {
        id: EffectId,
        messages: usize,
        max_output_tokens: u64,
    },
    Note(String),
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            lines: VecDeque::with_capacity(KEPT),
            fingerprint: 0xCBF2_9CE4_8422_2325,
            steps: 0,
        }
    }

    pub(crate) fn event(&mut self, at: Timestamp, who: usize, line: &str, event: &Event) {
        self.steps += 1;
        self.mix(who as u64);
        for chunk in line.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(bytes));
        }
        self.push(at, who, What::Event(event.clone()));
    }

    pub(crate) fn effect(&mut self, at: Timestamp, who: usize, effect: &Effect) {
        let what = match effect {
            Effect::CallModel { id, request } => {
                self.mix(request.history.len() as u64 ^ request.max_output_tokens << 8);
                What::Call {
                    id: *id,
                    messages: request.history.len(),
                    max_output_tokens: request.max_output_tokens,
                }
            }
            Effect::SetTimer { at, .. } => {
                self.mix(at.micros());
                What::Effect(effect.clone())
            }
            Effect::Reserve { quote, .. } => {
                self.mix(quote.prompt_tokens);
                What::Effect(effect.clone())
            }
            Effect::Settle { .. }
            | Effect::StopModel { .. }
            | Effect::RunTool { .. }
            | Effect::StopTool { .. }
            | Effect::Persist
            | Effect::Finish { .. } => What::Effect(effect.clone()),
        };
        self.push(at, who, what);
    }

    pub(crate) fn note(&mut self, at: Timestamp, who: usize, note: impl Into<String>) {
        self.mix(at.micros());
        self.push(at, who, What::Note(note.into()));
    }

    fn push(&mut self, at: Timestamp, who: usize, what: What) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back((at, who, what));
    }

    fn mix(&mut self, value: u64) {
        self.fingerprint = (self.fingerprint ^ value)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(29);
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Events fed so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|(at, who, what)| format!("{:>16} #{who:<3} {what}", at.micros()))
            .collect()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // BOUND: a specification or a block can be long; its beginning says enough.
        const SHOWN: usize = 260;
        let text = match self {
            Self::Event(event) => format!("-> {event:?}"),
            Self::Effect(effect) => format!("   <- {effect:?}"),
            Self::Call {
                id,
                messages,
                max_output_tokens,
            } => {
                format!(
                    "   <- CallModel {{ id: {id}, messages: {messages}, max: {max_output_tokens} }}"
                )
            }
            Self::Note(note) => format!("** {note}"),
        };
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}...", &text[..end]),
            None => f.write_str(&text),
        }
    }
}
