//! What to answer: everything that is decided about a request, in one pass and without awaiting.
//!
//! Invariant: a plan is a function of the request, the script, the options, the cache, the number of the
//! attempt, and a counter for ids.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::HeaderMap;
use otto_core::ModelId;
use otto_core::model::{ModelSpec, Usage};
use serde_json::Value as Json;

use super::State;
use super::bill::{BillStart, OpenBill, price_of};
use super::caller::Caller;
use super::options::UnknownModels;
use crate::cache::{Position, PromptCache, Split};
use crate::compose::{Composer, Reply};
use crate::digest::{Digest, short_hash};
use crate::error::ApiError;
use crate::expr::{Scope, Work};
use crate::history::History;
use crate::ids::mix;
use crate::locate::{Located, locate};
use crate::models::{Fast, Traits};
use crate::prompt::{Measure, Prompt};
use crate::render::{Envelope, Playback, apply_faults, message, raw_stream, stream};
use crate::request::{Endpoint, Request, check_model, read};
use crate::script::{
    Answer, Attempts, Bill, Block, CERTAIN, Content, Fault, FaultKind, Point, Stop, StreamFault,
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
#[derive(Default)]
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

/// A request that passed all checks.
struct Accepted<'a> {
    request: Request<'a>,
    spec: Arc<ModelSpec>,
    traits: &'static Traits,
    caller: Caller,
}

fn accept<'a>(
    state: &State,
    headers: &HeaderMap,
    body: &'a Json,
    endpoint: Endpoint,
) -> Result<Accepted<'a>, ApiError> {
    let caller = Caller::read(headers, &state.options.keys)?;
    let request = read(body, endpoint, caller.version)?;
    let not_found = || {
        ApiError::not_found(format!(
            "model: {}",
            request.model.chars().take(128).collect::<String>()
        ))
    };
    let known = ModelId::new(request.model)
        .ok()
        .and_then(|id| state.options.prices.find(&id).cloned());
    let spec = match (known, &state.options.unknown_models) {
        (Some(spec), _) => spec,
        (None, UnknownModels::As(spec)) => Arc::clone(spec),
        (None, UnknownModels::Refuse) => return Err(not_found()),
    };
    let traits = Traits::of(&spec);
    check_model(&request, &spec, traits, caller.version)?;
    Ok(Accepted {
        request,
        spec,
        traits,
        caller,
    })
}

/// Parses a body.
pub(super) fn parse(body: &[u8]) -> Result<Json, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let before: usize = body
            .split_inclusive(|byte| *byte == b'\n')
            .take(line.saturating_sub(1))
            .map(<[u8]>::len)
            .sum();
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        ApiError::invalid(format!(
            "The request body is not valid JSON: {reason}: line {line} column {column} (char {})",
            before + column.saturating_sub(1)
        ))
    })
}

/// Answers `POST /v1/messages/count_tokens`.
pub(super) fn count(state: &State, headers: &HeaderMap, body: &Json) -> Result<u64, ApiError> {
    let accepted = accept(state, headers, body, Endpoint::CountTokens)?;
    let prompt = accepted.measure(state, false).of(&accepted.request)?;
    Ok(prompt.tokens)
}

/// Plans the answer to `POST /v1/messages`.
pub(super) fn plan(
    state: &Arc<State>,
    headers: &HeaderMap,
    body: &Json,
    request_id: &str,
) -> Result<Plan, ApiError> {
    let accepted = accept(state, headers, body, Endpoint::Messages)?;
    let counts_attempts = state.script.has_faults();
    let digest = counts_attempts || state.script.has_thinking();
    let prompt = accepted.measure(state, digest).of(&accepted.request)?;
    let min_tokens = accepted.traits.min_cacheable_tokens;
    let read = state
        .cache
        .look_up(&prompt.positions, min_tokens, state.options.clock.now());
    let split = PromptCache::split(&prompt.positions, prompt.tokens, read, min_tokens);
    let attempt = counts_attempts.then(|| accepted.attempt_key(prompt.chain.digest()));
    let request = &accepted.request;
    let fast = request.fast && accepted.traits.fast == Fast::Accepted;
    let planner = Planner {
        state,
        accepted: &accepted,
        split,
        fast,
        request_id,
    };
    let (delay, outcome, whole, rule) = planner.outcome(prompt, attempt)?;
    let price = price_of(&accepted.spec, fast, request.geo);
    let user_id = request.user_id.map(str::to_owned);
    let mut bill = OpenBill::new(
        Arc::clone(state),
        BillStart {
            spec: price,
            request_id: request_id.to_owned(),
            user_id,
            attempt,
        },
    );
    bill.expect(whole, rule);
    // What never answers writes nothing.
    let writes = matches!(outcome.0, Outcome::Stream { .. } | Outcome::Message { .. });
    let cache = if writes {
        CacheWrites {
            positions: outcome.1,
            min_tokens,
        }
    } else {
        CacheWrites::default()
    };
    Ok(Plan {
        delay,
        outcome: outcome.0,
        bill,
        cache,
    })
}

impl Accepted<'_> {
    fn measure(&self, state: &State, digest: bool) -> Measure<'_> {
        Measure {
            spec: &self.spec,
            traits: self.traits,
            tokenizer: state.options.tokenizer,
            account: self.caller.account,
            digest,
        }
    }

    /// What the attempts of a request are counted by.
    fn attempt_key(&self, prompt: Digest) -> Digest {
        let user = self.request.user_id.unwrap_or_default();
        let mut key = prompt.to_vec();
        key.extend_from_slice(&self.caller.account.to_le_bytes());
        key.extend_from_slice(
            format!("{} {user} {}", self.request.model, self.request.stream).as_bytes(),
        );
        short_hash(&key)
    }
}

type Planned = (Duration, (Outcome, Vec<Position>), Usage, Bill);

struct Planner<'p> {
    state: &'p State,
    accepted: &'p Accepted<'p>,
    split: Split,
    fast: bool,
    request_id: &'p str,
}

impl Planner<'_> {
    fn outcome(&self, prompt: Prompt, attempt: Option<Digest>) -> Result<Planned, ApiError> {
        let request = &self.accepted.request;
        if request.max_tokens == 0 {
            return Ok(self.warmed(prompt.positions));
        }
        let script_error = |failure: crate::expr::Failure| ApiError::script(&failure.0);
        let work = Work::new();
        let history = History::of(request);
        let located = locate(&self.state.script, &history, &work).map_err(script_error)?;
        let delay = self
            .state
            .options
            .latency
            .saturating_add(located.turn.delay);
        let fault = attempt.and_then(|attempt| self.fault(&located, attempt));
        let fault = match fault.map(|fault| (&fault.kind, fault.bill)) {
            None => None,
            Some((FaultKind::Stream(stream), bill)) => Some((stream.as_ref(), bill)),
            Some((kind, bill)) => return Ok(self.instead(kind, bill, delay)),
        };
        let scope = Scope {
            conversation: located.conversation,
            history: &history,
            turn: history.assistant_messages,
            played: &located.played,
            item: None,
            work: &work,
        };
        let positions = prompt.positions.clone();
        let (outcome, usage) = match &located.turn.content {
            Content::Sse(text) => {
                self.raw(text, fault.map(|(fault, _)| fault), located.turn.packet)?
            }
            Content::Blocks(blocks) => {
                let reply = self
                    .reply(&located, blocks, &scope, prompt)
                    .map_err(script_error)?;
                self.played(&reply, &located, fault.map(|(fault, _)| fault))
            }
        };
        Ok((
            delay,
            (outcome, positions),
            usage,
            fault.map_or(Bill::Sent, |(_, bill)| bill),
        ))
    }

    /// A request that only fills the cache.
    fn warmed(&self, positions: Vec<Position>) -> Planned {
        let reply = Reply {
            blocks: Vec::new(),
            stop: Stop::because("max_tokens"),
            output_tokens: 0,
            thinking_tokens: 0,
        };
        let usage = self.usage(&reply, &UsageChange::default());
        let (outcome, usage) = self.rendered(&reply, usage, None, None);
        (
            self.state.options.latency,
            (outcome, positions),
            usage,
            Bill::Sent,
        )
    }

    /// The fault that befalls this attempt: the first that applies.
    fn fault<'s>(&self, located: &Located<'s>, attempt: Digest) -> Option<&'s Fault> {
        if located.turn.faults.is_empty() {
            return None;
        }
        let number = self.state.attempts.next(attempt);
        let [a, b, c, d, e, f, g, h, ..] = attempt;
        let key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let befalls = |(index, fault): (usize, &'s Fault)| {
            let due = match &fault.attempts {
                Attempts::All => true,
                Attempts::These(numbers) => numbers.contains(&number),
            };
            let draw =
                mix(self.state.options.seed
                    ^ mix(key ^ mix(u64::from(number) << 32 | index as u64)));
            let struck = draw % u64::from(CERTAIN) < u64::from(fault.chance);
            (due && struck).then_some(fault)
        };
        let fault = located.turn.faults.iter().enumerate().find_map(befalls)?;
        self.state.counts.faults.fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }

    /// An answer in place of the turn.
    fn instead(&self, kind: &FaultKind, bill: Bill, delay: Duration) -> Planned {
        let outcome = match kind {
            FaultKind::Answer(answer) => Outcome::Answer(answer.clone()),
            FaultKind::Wire(bytes) => Outcome::Wire(bytes.clone()),
            FaultKind::ResetBefore => Outcome::Reset,
            FaultKind::StallBefore | FaultKind::Stream(_) => Outcome::Stall,
        };
        // An error answer costs nothing. Where the connection broke the prompt was accepted.
        let usage = if matches!(outcome, Outcome::Answer(_)) {
            Usage::default()
        } else {
            self.prompt_usage()
        };
        (delay, (outcome, Vec::new()), usage, bill)
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

    fn reply<'s>(
        &self,
        located: &Located<'s>,
        blocks: &'s [Block],
        scope: &Scope<'_>,
        prompt: Prompt,
    ) -> Result<Reply<'s>, crate::expr::Failure> {
        let composer = Composer {
            request: &self.accepted.request,
            spec: &self.accepted.spec,
            traits: self.accepted.traits,
            tokenizer: self.state.options.tokenizer,
            ids: &self.state.ids,
            prompt_tokens: prompt.tokens,
        };
        composer.reply(located.turn, blocks, scope, prompt.chain)
    }

    fn usage(&self, reply: &Reply<'_>, change: &UsageChange) -> Usage {
        // A refusal before any output is not billed.
        let refused = reply.stop.reason == "refusal" && reply.blocks.is_empty();
        let counted = if refused {
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

    fn played(
        &self,
        reply: &Reply<'_>,
        located: &Located<'_>,
        fault: Option<&StreamFault>,
    ) -> (Outcome, Usage) {
        let usage = self.usage(reply, &located.turn.usage);
        self.rendered(reply, usage, fault, located.turn.packet)
    }

    fn rendered(
        &self,
        reply: &Reply<'_>,
        usage: Usage,
        fault: Option<&StreamFault>,
        packet: Option<(usize, Duration)>,
    ) -> (Outcome, Usage) {
        let request = &self.accepted.request;
        // On the wire a refused request still shows its input; only the bill leaves it out.
        let shown = Usage {
            output_tokens: usage.output_tokens,
            thinking_tokens: usage.thinking_tokens,
            ..self.shown(usage)
        };
        let message_id = self.state.ids.message();
        let envelope = Envelope {
            message_id: &message_id,
            model: fault
                .and_then(|fault| fault.model.as_deref())
                .unwrap_or(request.model),
            usage: shown,
            geo: request.geo.unwrap_or("global"),
            fast: self.fast,
            wire_usage: fault.map_or(&WireUsage::True, |fault| &fault.usage),
            message_deltas: fault.map_or(1, |fault| fault.message_deltas),
        };
        let outcome = if request.stream {
            let wire = stream(reply, &envelope);
            self.streamed(wire, fault, packet)
        } else {
            let bytes = message(reply, &envelope);
            let length = bytes.len();
            let mut playback = Playback::at_once(bytes, usage.output_tokens);
            if let Some((Point::Byte(at), how)) = fault.and_then(|fault| fault.ending) {
                playback = playback.cut(at, how.into());
            }
            Outcome::Message { playback, length }
        };
        (outcome, usage)
    }

    fn shown(&self, usage: Usage) -> Usage {
        if usage.prompt_tokens() == 0 {
            self.prompt_usage()
        } else {
            usage
        }
    }

    fn streamed(
        &self,
        wire: crate::render::Wire,
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
        packet: Option<(usize, Duration)>,
    ) -> Result<(Outcome, Usage), ApiError> {
        if !self.accepted.request.stream {
            return Err(ApiError::script(
                "this turn is an `sse` stream: the request must have `\"stream\": true`",
            ));
        }
        let (wire, usage) = raw_stream(text);
        Ok((
            self.streamed(wire, fault, packet),
            usage.unwrap_or_else(|| self.prompt_usage()),
        ))
    }
}
