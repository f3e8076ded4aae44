//! A fake provider: it answers model calls, breaks in every way it can, and keeps the truth of what it bills.
//!
//! It knows nothing of Otto's machines and estimates; it has its own tokenizer and its own invoice (`bill.rs`).
//!
//! Invariant: unless it is marked as disobedient, what it bills for a call is at most what the request allowed:
//! the tokens of the prompt, and `max_tokens` of output.

mod bill;
mod reply;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::id::{EffectId, ReservationId};
use otto_core::invocation::{
    Billing, CallPurpose, Event, InvocationSpec, ModelFailureKind, ModelRequest,
};
use otto_core::model::Usage;

use crate::chance::Draw;
use crate::faults::{FaultKind, Faults};
use crate::rule::Held;

pub(crate) use bill::{LONG_LETTER, invoice};
pub(crate) use reply::CallFacts;
pub(crate) use stream::Timed;

/// The provider of a world.
#[derive(Debug)]
pub(crate) struct Provider {
    seed: u64,
    tokenizer: bill::Tokenizer,
    bills: BTreeMap<ReservationId, Bill>,
    calls: u64,
}

/// What one call costs in truth.
#[derive(Debug, Clone)]
pub(crate) struct Bill {
    pub(crate) picodollars: u128,
    pub(crate) tokens: u128,
    /// The provider did not keep to `max_tokens`.
    pub(crate) is_disobedient: bool,
    /// The reply can still be dropped, and then costs something else.
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    spec: Arc<InvocationSpec>,
    prompt_tokens: u64,
    max_output_tokens: u64,
}

/// What comes of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) events: Vec<Timed>,
    pub(crate) calls: Vec<CallFacts>,
}

impl Provider {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draw = Draw::stream(seed, 4, 0);
        let permille = *draw.pick(&[1_000, 1_000, 700, 250]);
        Self {
            seed,
            tokenizer: bill::Tokenizer::new(permille),
            bills: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Takes a call and plans its answer.
    pub(crate) fn call(
        &mut self,
        who: usize,
        effect: EffectId,
        spec: &Arc<InvocationSpec>,
        turns_wanted: u32,
        request: &ModelRequest,
        faults: &mut Faults,
    ) -> Held<Answer> {
        self.calls += 1;
        // Named by the invocation and its effect, so that others do not change what happens here.
        let mut draw = Draw::stream(self.seed, 5 + who as u64, effect.0);
        let draw = &mut draw;
        let prompt_tokens = self.tokenizer.prompt(spec, &request.history)?;
        if prompt_tokens > spec.model.context_window {
            return Ok(self.refuse(request, effect, ModelFailureKind::PromptTooLong, draw));
        }
        let window_left = spec.model.context_window - prompt_tokens;
        let most_output = request.max_output_tokens.min(window_left);
        if faults.strikes(FaultKind::CallFails, draw) {
            let kind = *draw.pick(FAILURES);
            if let Some(answer) = self.fail(
                kind,
                spec,
                request,
                effect,
                prompt_tokens,
                most_output,
                draw,
            ) {
                return Ok(answer);
            }
        }
        // A summary is a text; now and then the model calls a tool all the same.
        let turns_wanted = match request.purpose {
            CallPurpose::Turn => turns_wanted,
            CallPurpose::Summary if draw.happens(80) => u32::MAX,
            CallPurpose::Summary => 0,
        };
        let asked = reply::Asked {
            history: &request.history,
            turns_wanted,
            max_output_tokens: request.max_output_tokens,
            window_left,
            number: self.calls,
        };
        let reply = reply::compose(&asked, draw, faults);
        for part in &reply.parts {
            self.tokenizer.learn(part.block.raw.clone(), part.tokens);
        }
        let mut usage = bill::usage(draw, spec.cache, prompt_tokens, reply.output_tokens);
        let is_disobedient = faults.strikes(FaultKind::OverBilling, draw);
        if is_disobedient {
            usage.output_tokens = request.max_output_tokens + draw.between(1, 50_000);
        }
        let stream = stream::Stream {
            effect,
            spec,
            reply: &reply,
            usage,
        };
        let (events, ending) = stream.events(draw, faults);
        let open = Open {
            spec: spec.clone(),
            prompt_tokens,
            max_output_tokens: most_output,
        };
        let bill = Bill {
            is_disobedient,
            ..Bill::of(spec, &usage)
        };
        let bill = match ending {
            stream::Ending::Whole => Bill {
                open: Some(open),
                ..bill
            },
            stream::Ending::Broken => Bill {
                is_disobedient,
                ..open.dropped(draw)
            },
        };
        self.bills.insert(request.reservation, bill);
        let calls = reply
            .parts
            .into_iter()
            .filter_map(|part| part.call)
            .collect();
        Ok(Answer { events, calls })
    }

    /// A call that fails before its first byte; `None` if it would fail in the middle.
    #[expect(
        clippy::too_many_arguments,
        reason = "a call and its circumstances; there is one caller"
    )]
    fn fail(
        &mut self,
        kind: ModelFailureKind,
        spec: &Arc<InvocationSpec>,
        request: &ModelRequest,
        effect: EffectId,
        prompt_tokens: u64,
        max_output_tokens: u64,
        draw: &mut Draw,
    ) -> Option<Answer> {
        match kind {
            ModelFailureKind::CutStream
            | ModelFailureKind::Timeout
            | ModelFailureKind::Interrupted
            | ModelFailureKind::Protocol => {
                // The request may have arrived: the provider works for nobody, and bills it.
                let open = Open {
                    spec: spec.clone(),
                    prompt_tokens,
                    max_output_tokens,
                };
                let bill = if draw.happens(300) {
                    Bill::nothing()
                } else {
                    open.dropped(draw)
                };
                self.bills.insert(request.reservation, bill);
                let failure = stream::failure(kind, Billing::Unknown);
                let event = Event::ModelFailed { effect, failure };
                let after = draw.delay(5, 60_000);
                Some(Answer {
                    events: vec![Timed {
                        after,
                        event,
                        is_stray: false,
                    }],
                    calls: Vec::new(),
                })
            }
            ModelFailureKind::PromptTooLong => None,
            refused => Some(self.refuse(request, effect, refused, draw)),
        }
    }

    /// A call that the provider refuses before any work: it costs nothing.
    fn refuse(
        &mut self,
        request: &ModelRequest,
        effect: EffectId,
        kind: ModelFailureKind,
        draw: &mut Draw,
    ) -> Answer {
        self.bills.insert(request.reservation, Bill::nothing());
        let mut failure = stream::failure(kind, Billing::NotBilled);
        failure.retry_after = match draw.below(10) {
            0..3 => Some(draw.delay(0, 20_000)),
            3 => Some(std::time::Duration::from_secs(86_400)),
            _ => None,
        };
        failure.should_retry = match draw.below(20) {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        };
        let event = Event::ModelFailed { effect, failure };
        let after = draw.delay(5, 2_000);
        Answer {
            events: vec![Timed {
                after,
                event,
                is_stray: false,
            }],
            calls: Vec::new(),
        }
    }

    /// The client has closed the connection: what is billed now is anybody's guess, up to what was allowed.
    pub(crate) fn dropped(&mut self, reservation: &ReservationId, draw: &mut Draw) {
        if let Some(bill) = self.bills.get_mut(reservation)
            && let Some(open) = bill.open.take()
        {
            *bill = Bill {
                is_disobedient: bill.is_disobedient,
                ..open.dropped(draw)
            };
        }
    }

    /// The client has read the reply to its end: its usage record is the invoice.
    pub(crate) fn read(&mut self, reservation: &ReservationId) {
        if let Some(bill) = self.bills.get_mut(reservation) {
            bill.open = None;
        }
    }

    pub(crate) fn bill(&self, reservation: &ReservationId) -> Option<&Bill> {
        self.bills.get(reservation)
    }

    pub(crate) fn bills(&self) -> impl Iterator<Item = (&ReservationId, &Bill)> {
        self.bills.iter()
    }
}

impl Bill {
    fn nothing() -> Self {
        Self {
            picodollars: 0,
            tokens: 0,
            is_disobedient: false,
            open: None,
        }
    }

    fn of(spec: &InvocationSpec, usage: &Usage) -> Self {
        Self {
            picodollars: invoice(&spec.model, usage),
            tokens: u128::from(usage.prompt_tokens()) + u128::from(usage.output_tokens),
            ..Self::nothing()
        }
    }
}

impl Open {
    fn dropped(&self, draw: &mut Draw) -> Bill {
        let output = match draw.below(3) {
            0 => self.max_output_tokens,
            _ => draw.between(0, self.max_output_tokens),
        };
        Bill::of(
            &self.spec,
            &bill::usage(draw, self.spec.cache, self.prompt_tokens, output),
        )
    }
}

const FAILURES: &[ModelFailureKind] = &[
    ModelFailureKind::Authentication,
    ModelFailureKind::Permission,
    ModelFailureKind::NotFound,
    ModelFailureKind::InvalidRequest,
    ModelFailureKind::SpendLimit,
    ModelFailureKind::RateLimited,
    ModelFailureKind::RateLimited,
    ModelFailureKind::Overloaded,
    ModelFailureKind::Overloaded,
    ModelFailureKind::Overloaded,
    ModelFailureKind::Server,
    ModelFailureKind::Server,
    ModelFailureKind::Unreachable,
    ModelFailureKind::Timeout,
    ModelFailureKind::CutStream,
    ModelFailureKind::Protocol,
    ModelFailureKind::Interrupted,
    ModelFailureKind::CircuitOpen,
];
