//! How a reply arrives: its events in time, and what can happen to them on the way.

use std::time::Duration;

use otto_core::ModelId;
use otto_core::id::EffectId;
use otto_core::invocation::{
    Billing, Event, InvocationSpec, ModelFailure, ModelFailureKind, ModelFinish, StopReason,
};
use otto_core::model::Usage;

use crate::chance::Draw;
use crate::faults::{FaultKind, Faults};
use crate::provider::reply::Reply;

/// An event on its way.
#[derive(Debug, Clone)]
pub(crate) struct Timed {
    /// After the call was made.
    pub(crate) after: Duration,
    pub(crate) event: Event,
    /// Arrives also when nobody listens any more.
    pub(crate) is_stray: bool,
}

/// How a stream ended, as far as the provider's invoice is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All of it was sent, with this usage record.
    Whole,
    /// It broke: nobody knows what is billed.
    Broken,
}

/// How long a client waits for the next event.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

pub(crate) struct Stream<'a> {
    pub(crate) effect: EffectId,
    pub(crate) spec: &'a InvocationSpec,
    pub(crate) reply: &'a Reply,
    pub(crate) usage: Usage,
}

impl Stream<'_> {
    pub(crate) fn events(&self, draw: &mut Draw, faults: &mut Faults) -> (Vec<Timed>, Ending) {
        let mut after = draw.delay(20, 3_000);
        let mut events = Vec::new();
        let mut push = |draw: &mut Draw, event: Event| {
            after += draw.delay(1, 400);
            events.push(Timed {
                after,
                event,
                is_stray: false,
            });
        };
        for event in self.blocks(draw, faults) {
            push(draw, event);
        }
        let finish = self.finish(draw, faults);
        push(
            draw,
            Event::ModelFinished {
                effect: self.effect,
                finish,
            },
        );
        let mut ending = Ending::Whole;
        if faults.strikes(FaultKind::StreamCut, draw) {
            ending = self.cut(&mut events, draw);
        } else if faults.strikes(FaultKind::Stall, draw) {
            let kept = usize::try_from(draw.below(events.len() as u64)).unwrap_or(0);
            let last = events[kept].after;
            events.truncate(kept);
            let failure = failure(ModelFailureKind::Timeout, Billing::Unknown);
            let event = Event::ModelFailed {
                effect: self.effect,
                failure,
            };
            events.push(Timed {
                after: last + IDLE_TIMEOUT,
                event,
                is_stray: false,
            });
            ending = Ending::Broken;
        }
        add_strays(self.effect, &mut events, draw, faults);
        (events, ending)
    }

    fn blocks(&self, draw: &mut Draw, faults: &mut Faults) -> Vec<Event> {
        let effect = self.effect;
        let mut events = Vec::new();
        let mut unproven = None;
        for (index, part) in (0..).zip(&self.reply.parts) {
            // The begin of a block proves the call before it whole.
            if let Some(index) = unproven.take() {
                events.push(Event::ToolCallReceived { effect, index });
            }
            events.push(Event::BlockReceived {
                effect,
                index,
                block: part.block.clone(),
            });
            if part.call.is_some() {
                unproven = Some(index);
            }
        }
        if let Some(index) = unproven
            && self.reply.stop == StopReason::ToolUse
            && draw.happens(500)
        {
            events.push(Event::ToolCallReceived { effect, index });
        }
        if faults.strikes(FaultKind::ShuffledBlocks, draw) {
            shuffle(&mut events, draw);
        }
        events
    }

    fn finish(&self, draw: &mut Draw, faults: &mut Faults) -> ModelFinish {
        let mut usage = Some(self.usage);
        if faults.strikes(FaultKind::ImpossibleUsage, draw) && !self.reply.parts.is_empty() {
            usage = Some(Usage {
                output_tokens: 0,
                ..self.usage
            });
        }
        if faults.strikes(FaultKind::MissingUsage, draw) {
            usage = None;
        }
        let id = self.spec.model.id.as_str();
        let name = match draw.below(4) {
            0 => None,
            1 => Some(format!("{id}-latest")),
            2 => Some(format!("{id}-20260930")),
            _ => Some(id.to_owned()),
        };
        let other = *draw.pick(&["other-2", "-5", "-20260930-fast", "0"]);
        let name = match faults.strikes(FaultKind::OtherModel, draw) {
            true if other.starts_with("other") => Some(other.to_owned()),
            true => Some(format!("{id}{other}")),
            false => name,
        };
        let served_by = name.and_then(|name| ModelId::new(&name).ok());
        ModelFinish {
            stop: self.reply.stop.clone(),
            usage,
            served_by,
        }
    }

    /// Breaks the stream off somewhere.
    fn cut(&self, events: &mut Vec<Timed>, draw: &mut Draw) -> Ending {
        let kept = usize::try_from(draw.below(events.len() as u64)).unwrap_or(0);
        let is_complete = kept + 1 == events.len();
        let after = events[kept].after;
        events.truncate(kept);
        let kind = *draw.pick(&[
            ModelFailureKind::CutStream,
            ModelFailureKind::Overloaded,
            ModelFailureKind::Server,
            ModelFailureKind::Protocol,
            ModelFailureKind::RateLimited,
        ]);
        // The usage record comes with the stop reason, shortly before the end.
        let (billing, ending) = if is_complete && draw.happens(300) {
            (Billing::Known(self.usage), Ending::Whole)
        } else {
            (Billing::Unknown, Ending::Broken)
        };
        let mut failure = failure(kind, billing);
        failure.retry_after = draw.happens(200).then(|| draw.delay(0, 30_000));
        let event = Event::ModelFailed {
            effect: self.effect,
            failure,
        };
        events.push(Timed {
            after,
            event,
            is_stray: false,
        });
        ending
    }
}

/// Swaps neighbors; a proof stays behind its block.
fn shuffle(events: &mut [Event], draw: &mut Draw) {
    for _ in 0..events.len() {
        let Some(last) = events.len().checked_sub(2) else {
            return;
        };
        let at = usize::try_from(draw.between(0, last as u64)).unwrap_or(0);
        let is_pair = match (&events[at], &events[at + 1]) {
            (
                Event::BlockReceived { index: block, .. },
                Event::ToolCallReceived { index: proof, .. },
            ) => block == proof,
            _ => false,
        };
        if !is_pair {
            events.swap(at, at + 1);
        }
    }
}

/// Repeats events, and makes some name an effect that is not open.
fn add_strays(effect: EffectId, events: &mut Vec<Timed>, draw: &mut Draw, faults: &mut Faults) {
    let mut strays = Vec::new();
    for timed in events.iter() {
        if faults.strikes(FaultKind::RepeatedAnswer, draw) {
            let after = timed.after + draw.delay(0, 500);
            strays.push(Timed {
                after,
                event: timed.event.clone(),
                is_stray: true,
            });
        }
        if faults.strikes(FaultKind::WrongEffect, draw) {
            // Before the first effect, long closed, or not yet made.
            let wrong = *draw.pick(&[EffectId(0), EffectId(effect.0 - 1), EffectId(u64::MAX)]);
            let event = redirected(timed.event.clone(), wrong);
            strays.push(Timed {
                after: timed.after,
                event,
                is_stray: true,
            });
        }
    }
    events.extend(strays);
    events.sort_by_key(|timed| timed.after);
}

fn redirected(event: Event, to: EffectId) -> Event {
    match event {
        Event::BlockReceived { index, block, .. } => Event::BlockReceived {
            effect: to,
            index,
            block,
        },
        Event::ToolCallReceived { index, .. } => Event::ToolCallReceived { effect: to, index },
        Event::ModelFinished { finish, .. } => Event::ModelFinished { effect: to, finish },
        Event::ModelFailed { failure, .. } => Event::ModelFailed {
            effect: to,
            failure,
        },
        other => other,
    }
}

pub(crate) fn failure(kind: ModelFailureKind, billing: Billing) -> ModelFailure {
    ModelFailure {
        kind,
        message: format!("simulated {kind:?}").into(),
        billing,
        retry_after: None,
        should_retry: None,
        status: None,
        request_id: None,
    }
}
