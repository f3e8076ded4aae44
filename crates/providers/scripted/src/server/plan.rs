//! What to answer: everything that is decided about a request, in one pass and without awaiting.
//!
//! Invariant: a plan is a function of the request, the script, the options, the cache, the number of the
//! attempt, and a counter for ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::HeaderMap;
use otto_core::model::Usage;
use serde_json::Value as Json;

use super::State;
use super::accept::{Accepted, accept};
use super::bill::{BillStart, OpenBill, price_of};
use crate::cache::{Position, PromptCache, Split};
use crate::compose::{Composer, Reply};
use crate::digest::Digest;
use crate::error::ApiError;
use crate::expr::{Failure, Scope, Work};
use crate::history::History;
use crate::ids::mix;
use crate::locate::locate;
use crate::models::Fast;
use crate::prompt::Prompt;
use crate::render::{Envelope, Playback, Wire, apply_faults, message, raw_stream, stream};
use crate::request::Endpoint;
use crate::script::{
    Answer, Attempts, Bill, CERTAIN, Content, Fault, FaultKind, Point, Stop, StreamFault, Turn,
    UsageChange, WireUsage,
};

/// What to answer to `POST /v1/messages`.
pub(super) struct Plan {
    /// Wait before anything is sent.
    pub(super) delay: Duration,
    pub(super) outcome: Outcome,
    pub(super) bill: OpenBill,
    /// What the answer writes to the cache when it begins.
    pub(super) cache: CacheWrites,
}

/// Cache entries to be written.
pub(super) struct CacheWrites {
    pub(super) positions: Vec<Position>,
    pub(super) min_tokens: u64,
}

/// The kinds of answers.
pub(super) enum Outcome {
    /// A stream of events.
    Stream {
        playback: Playback,
        content_type: Option<String>,
        headers: Vec<(String, String)>,
    },
    /// A message, whose head says this length.
    Message { playback: Playback, length: usize },
    /// An answer that a fault put in place.
    Answer(Answer),
    /// The connection is reset.
    Reset,
    /// Nothing is ever sent.
    Stall,
    /// These bytes instead of HTTP.
    Wire(String),
}

/// Plans the answer to `POST /v1/messages`.
///
/// # Errors
/// The answer of the vendor to a request that it refuses.
pub(super) fn plan(
    state: &Arc<State>,
    headers: &HeaderMap,
    body: &Json,
    request_id: &str,
) -> Result<Plan, ApiError> {
    let accepted = accept(state, headers, body, Endpoint::Messages)?;
    let digest = state.script.has_faults() || state.script.has_thinking();
    let Prompt {
        tokens,
        positions,
        chain,
    } = accepted.measure(state, digest).of(&accepted.request)?;
    let min_tokens = accepted.traits.min_cacheable_tokens;
    let read = state
        .cache
        .look_up(&positions, min_tokens, state.options.clock.now());
    let split = PromptCache::split(&positions, tokens, read, min_tokens);
    let fast = accepted.request.fast && accepted.traits.fast == Fast::Accepted;
    let planner = Planner {
        state,
        accepted: &accepted,
        split,
        fast,
        request_id,
    };
    let planned = if accepted.request.max_tokens == 0 {
        planner.warmed()
    } else {
        planner.answered(Prompt {
            tokens,
            positions: Vec::new(),
            chain,
        })?
    };
    let start = BillStart {
        spec: price_of(&accepted.spec, fast, accepted.request.geo),
        request_id: request_id.to_owned(),
        user_id: accepted.request.user_id.map(str::to_owned),
        attempt: planned.attempt,
    };
    let mut bill = OpenBill::new(Arc::clone(state), start);
    bill.expect(planned.usage, planned.rule);
    // What never answers writes nothing.
    let writes = matches!(
        planned.outcome,
        Outcome::Stream { .. } | Outcome::Message { .. }
    );
    let cache = CacheWrites {
        positions: if writes { positions } else { Vec::new() },
        min_tokens,
    };
    Ok(Plan {
        delay: planned.delay,
        outcome: planned.outcome,
        bill,
        cache,
    })
}

/// An answer before it is on the bill.
struct Planned {
    delay: Duration,
    outcome: Outcome,
    /// The usage of the whole answer.
    usage: Usage,
    rule: Bill,
    /// The count of attempts that this answer ends, if it goes out whole.
    attempt: Option<Digest>,
}

struct Planner<'p> {
    state: &'p State,
    accepted: &'p Accepted<'p>,
    split: Split,
    fast: bool,
    request_id: &'p str,
}

impl Planner<'_> {
    /// A request that only fills the cache.
    fn warmed(&self) -> Planned {
        let reply = Reply {
            blocks: Vec::new(),
            stop: Stop::because("max_tokens"),
            output_tokens: 0,
            thinking_tokens: 0,
        };
        let usage = self.usage(&reply, &UsageChange::default());
        let outcome = self.rendered(&reply, usage, None, None);
        Planned {
            delay: self.state.options.latency,
            outcome,
            usage,
            rule: Bill::Sent,
            attempt: None,
        }
    }

    fn answered(&self, prompt: Prompt) -> Result<Planned, ApiError> {
        let script_error = |failure: Failure| ApiError::script(&failure.0);
        let work = Work::new();
        let history = History::of(&self.accepted.request);
        let located = locate(&self.state.script, &history, &work).map_err(script_error)?;
        let turn = located.turn;
        let delay = self.state.options.latency.saturating_add(turn.delay);
        let counted =
            (!turn.faults.is_empty()).then(|| self.accepted.attempt_key(prompt.chain.digest()));
        let fault = counted.and_then(|attempt| self.fault(turn, attempt));
        let (changes, rule) = match fault {
            None => (None, Bill::Sent),
            Some(Fault {
                kind: FaultKind::Stream(changes),
                bill,
                ..
            }) => (Some(changes.as_ref()), *bill),
            Some(Fault { kind, bill, .. }) => return Ok(self.instead(kind, *bill, delay)),
        };
        let (outcome, usage) = match &turn.content {
            Content::Sse(text) => self.raw(text, changes, turn)?,
            Content::Blocks(blocks) => {
                let scope = Scope {
                    conversation: located.conversation,
                    history: &history,
                    turn: history.assistant_messages,
                    played: &located.played,
                    item: None,
                    work: &work,
                };
                let composer = Composer {
                    request: &self.accepted.request,
                    spec: &self.accepted.spec,
                    traits: self.accepted.traits,
                    tokenizer: self.state.options.tokenizer,
                    ids: &self.state.ids,
                    prompt_tokens: prompt.tokens,
                };
                let reply = composer
                    .reply(turn, blocks, &scope, prompt.chain)
                    .map_err(script_error)?;
                let usage = self.usage(&reply, &turn.usage);
                (self.rendered(&reply, usage, changes, turn.packet), usage)
            }
        };
        // Only an answer with nothing wrong in it ends the count.
        let attempt = counted.filter(|_| fault.is_none());
        Ok(Planned {
            delay,
            outcome,
            usage,
            rule,
            attempt,
        })
    }

    /// The fault that befalls this attempt: the first that applies.
    fn fault<'t>(&self, turn: &'t Turn, attempt: Digest) -> Option<&'t Fault> {
        let number = self.state.attempts.next(attempt);
        let [a, b, c, d, e, f, g, h, ..] = attempt;
        let key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let befalls = |(index, fault): (usize, &'t Fault)| {
            let due = match &fault.attempts {
                Attempts::All => true,
                Attempts::These(numbers) => numbers.contains(&number),
            };
            let place = u64::from(number) << 32 | index as u64;
            let draw = mix(self.state.options.seed ^ mix(key ^ mix(place)));
            let struck = draw % u64::from(CERTAIN) < u64::from(fault.chance);
            (due && struck).then_some(fault)
        };
        let fault = turn.faults.iter().enumerate().find_map(befalls)?;
        self.state.counts.faults.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    /// An answer in place of the turn.
    fn instead(&self, kind: &FaultKind, rule: Bill, delay: Duration) -> Planned {
        let outcome = match kind {
            FaultKind::Answer(answer) => Outcome::Answer(answer.clone()),
            FaultKind::Wire(bytes) => Outcome::Wire(bytes.clone()),
            FaultKind::ResetBefore => Outcome::Reset,
            FaultKind::StallBefore | FaultKind::Stream(_) => Outcome::Stall,
        };
        // An error answer costs nothing. Where the connection broke the prompt was accepted.
        let usage = match outcome {
            Outcome::Answer(_) => Usage::default(),
            Outcome::Stream { .. }
            | Outcome::Message { .. }
            | Outcome::Reset
            | Outcome::Stall
            | Outcome::Wire(_) => self.prompt_usage(),
        };
        Planned {
            delay,
            outcome,
            usage,
            rule,
            attempt: None,
        }
    }

    fn prompt_usage(&self) -> Usage {
        Usage {
            input_tokens: self.split.uncached,
            cache_read_tokens: self.split.read,
            cache_write_5m_tokens: self.split.write_5m,
            cache_write_1h_tokens: self.split.write_1h,
            ..Usage::default()
        }
    }

    /// What a reply costs.
    fn usage(&self, reply: &Reply<'_>, change: &UsageChange) -> Usage {
        let counted = if reply.is_unbilled() {
            Usage::default()
        } else {
            self.prompt_usage()
        };
        Usage {
            input_tokens: change.input_tokens.unwrap_or(counted.input_tokens),
            output_tokens: change.output_tokens.unwrap_or(reply.output_tokens),
            cache_read_tokens: change
                .cache_read_tokens
                .unwrap_or(counted.cache_read_tokens),
            cache_write_5m_tokens: change
                .cache_write_5m_tokens
                .unwrap_or(counted.cache_write_5m_tokens),
            cache_write_1h_tokens: change
                .cache_write_1h_tokens
                .unwrap_or(counted.cache_write_1h_tokens),
            thinking_tokens: reply.thinking_tokens,
        }
    }

    fn rendered(
        &self,
        reply: &Reply<'_>,
        usage: Usage,
        fault: Option<&StreamFault>,
        packet: Option<(usize, Duration)>,
    ) -> Outcome {
        let request = &self.accepted.request;
        let message_id = self.state.ids.message();
        let envelope = Envelope {
            message_id: &message_id,
            model: fault
                .and_then(|fault| fault.model.as_deref())
                .unwrap_or(request.model),
            // What is not billed is shown all the same.
            usage: if reply.is_unbilled() {
                self.prompt_usage()
            } else {
                usage
            },
            geo: request.geo.unwrap_or("global"),
            fast: self.fast,
            wire_usage: fault.map_or(&WireUsage::True, |fault| &fault.usage),
            message_deltas: fault.map_or(1, |fault| fault.message_deltas),
        };
        if request.stream {
            return self.streamed(stream(reply, &envelope), fault, packet);
        }
        let bytes = message(reply, &envelope);
        let length = bytes.len();
        let mut playback = Playback::at_once(bytes, usage.output_tokens);
        if let Some((Point::Byte(at), how)) = fault.and_then(|fault| fault.ending) {
            playback = playback.cut(at, how.into());
        }
        Outcome::Message { playback, length }
    }

    fn streamed(
        &self,
        wire: Wire,
        fault: Option<&StreamFault>,
        packet: Option<(usize, Duration)>,
    ) -> Outcome {
        let mut playback = match fault {
            None => Playback::of(wire),
            Some(fault) => apply_faults(&wire, fault, self.request_id),
        };
        if let Some((size, every)) = packet {
            playback = playback.in_packets(size, every);
        }
        Outcome::Stream {
            playback,
            content_type: fault.and_then(|fault| fault.content_type.clone()),
            headers: fault.map(|fault| fault.headers.clone()).unwrap_or_default(),
        }
    }

    /// A stream that the script holds byte by byte.
    fn raw(
        &self,
        text: &str,
        fault: Option<&StreamFault>,
        turn: &Turn,
    ) -> Result<(Outcome, Usage), ApiError> {
        if !self.accepted.request.stream {
            return Err(ApiError::script(
                "this turn is an `sse` stream: the request must have `\"stream\": true`",
            ));
        }
        let (wire, usage) = raw_stream(text);
        Ok((
            self.streamed(wire, fault, turn.packet),
            usage.unwrap_or_else(|| self.prompt_usage()),
        ))
    }
}

impl Reply<'_> {
    /// A refusal before any output is not billed.
    fn is_unbilled(&self) -> bool {
        self.stop.reason == "refusal" && self.blocks.is_empty()
    }
}
