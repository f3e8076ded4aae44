//! A fake provider behind the real port: replies with calls, delays and broken streams; it keeps its bills.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use otto_core::invocation::{Billing, ModelFailure, ModelFailureKind, ModelFinish, StopReason};
use otto_core::message::{Block, BlockView, ToolCallBlock, ToolCallName, ToolInput};
use otto_core::model::{ModelSpec, PriceTable, TokenPrices, Usage};
use otto_core::port::llm_client::{LlmClient, ModelCall, ModelEvent, ModelStream};
use otto_core::{InvocationId, ModelId, Money, ToolCallId, ToolName};
use tokio::time::{Sleep, sleep};

use super::{Chance, tools};

pub(crate) const MODEL: &str = "fake-1";
/// System prompt, tools and envelope.
const PREFIX_TOKENS: u64 = 400;
/// Each message of the history; less than the least output of a reply.
const MESSAGE_TOKENS: u64 = 12;

/// The provider of a world.
pub(crate) struct FakeModel {
    chance: Arc<Chance>,
    prices: Arc<PriceTable>,
    calls: AtomicU64,
    acts_once: AtomicBool,
    talks_on: AtomicBool,
    bills: Mutex<BTreeMap<InvocationId, Money>>,
}

impl FakeModel {
    pub(crate) fn new(chance: Arc<Chance>) -> Self {
        let price = |dollars: u64| Money::from_picodollars(dollars * 1_000_000).unwrap();
        let spec = ModelSpec {
            id: ModelId::new(MODEL).unwrap(),
            aliases: Vec::new(),
            context_window: 200_000,
            max_output_tokens: 8_000,
            prices: TokenPrices {
                input: price(3),
                output: price(15),
                cache_write_5m: price(4),
                cache_write_1h: price(6),
                cache_read: price(1),
            },
            long_context: None,
            surcharge_percent: 100,
            hidden_prompt_tokens: 300,
        };
        Self {
            chance,
            prices: Arc::new(PriceTable::new("fake", [spec])),
            calls: AtomicU64::new(0),
            acts_once: AtomicBool::new(false),
            talks_on: AtomicBool::new(false),
            bills: Mutex::default(),
        }
    }

    /// From here on: one call with side effects, proven by the stop reason alone, then the end.
    pub(crate) fn answers_with_one_act(&self) {
        self.acts_once.store(true, Ordering::Relaxed);
    }

    /// From here on: one call with side effects, proven at once, in a reply that never ends.
    pub(crate) fn acts_and_talks_on(&self) {
        self.answers_with_one_act();
        self.talks_on.store(true, Ordering::Relaxed);
    }

    /// What an invocation costs in truth.
    pub(crate) fn billed(&self, invocation: InvocationId) -> Money {
        self.bills
            .lock()
            .unwrap()
            .get(&invocation)
            .copied()
            .unwrap_or(Money::ZERO)
    }

    fn bill(&self, invocation: InvocationId, model: &ModelSpec, usage: &Usage) {
        let mut bills = self.bills.lock().unwrap();
        let bill = bills.entry(invocation).or_insert(Money::ZERO);
        *bill = bill.saturating_add(model.cost(usage).unwrap());
    }

    /// The blocks of a reply, and how it ends.
    fn reply(&self, call: &ModelCall, number: u64) -> (Vec<ModelEvent>, StopReason) {
        let chance = &self.chance;
        let acts_once = self.acts_once.load(Ordering::Relaxed);
        let turns = call
            .request
            .history
            .iter()
            .filter(|message| message.tool_calls().next().is_some())
            .count();
        let is_over = if acts_once {
            turns > 0
        } else {
            turns >= 5 || chance.happens(20)
        };
        let block = |index: u32, view: BlockView| {
            let raw = Arc::from(format!(r#"{{"call":{number},"index":{index}}}"#));
            ModelEvent::BlockFinished {
                index,
                block: Arc::new(Block { raw, view }),
            }
        };
        if is_over {
            return (
                vec![block(0, BlockView::Text(Arc::from("Done.")))],
                StopReason::EndTurn,
            );
        }
        let count = if acts_once {
            1
        } else {
            u32::try_from(1 + chance.below(3)).unwrap()
        };
        let mut events = Vec::new();
        for index in 0..count {
            if index > 0 {
                events.push(ModelEvent::ToolCallConfirmed { index: index - 1 });
            }
            let tool = if acts_once {
                "act"
            } else {
                tools::NAMES[usize::try_from(chance.below(3)).unwrap()]
            };
            let call = ToolCallBlock {
                id: ToolCallId(Arc::from(format!("call_{number}_{index}"))),
                tool: ToolCallName::Known(ToolName::new(tool).unwrap()),
                input: ToolInput::Object(Arc::from(format!(r#"{{"n":{number}}}"#))),
            };
            events.push(block(index, BlockView::ToolCall(call)));
        }
        (events, StopReason::ToolUse)
    }
}

impl LlmClient for FakeModel {
    fn prices(&self) -> Arc<PriceTable> {
        self.prices.clone()
    }

    fn call(&self, call: ModelCall) -> ModelStream {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let chance = &self.chance;
        let invocation = call.request.reservation.invocation;
        let model = call.conversation.model.clone();
        let is_steady = self.acts_once.load(Ordering::Relaxed);
        // The same prefix always counts the same, as at a real provider: the next estimate builds on it.
        let prompt = PREFIX_TOKENS + MESSAGE_TOKENS * call.request.history.len() as u64;
        let usage = |output| Usage {
            input_tokens: prompt,
            output_tokens: output,
            ..Usage::default()
        };
        let failed = |kind, billing| {
            ModelEvent::Failed(ModelFailure {
                kind,
                message: Arc::from("planted"),
                billing,
                retry_after: None,
                should_retry: None,
                status: None,
                request_id: None,
            })
        };
        if !is_steady && chance.happens(10) {
            let events = vec![failed(ModelFailureKind::Overloaded, Billing::NotBilled)];
            return Box::pin(Slow::new(chance.clone(), events));
        }
        let (mut events, stop) = self.reply(&call, number);
        if self.talks_on.load(Ordering::Relaxed) {
            events.push(ModelEvent::ToolCallConfirmed { index: 0 });
            return Box::pin(Slow {
                ends: false,
                ..Slow::new(chance.clone(), events)
            });
        }
        let used = usage(20 + chance.below(80));
        if !is_steady && chance.happens(15) {
            let kept = usize::try_from(chance.below(events.len() as u64 + 1)).unwrap();
            events.truncate(kept);
            events.push(failed(ModelFailureKind::CutStream, Billing::Unknown));
            self.bill(invocation, &model, &usage(call.request.max_output_tokens));
        } else {
            let usage = (is_steady || !chance.happens(10)).then_some(used);
            events.push(ModelEvent::Finished(ModelFinish {
                stop,
                usage,
                served_by: None,
            }));
            self.bill(invocation, &model, &used);
        }
        Box::pin(Slow::new(chance.clone(), events))
    }
}

/// Events with pauses between them.
struct Slow {
    chance: Arc<Chance>,
    events: std::vec::IntoIter<ModelEvent>,
    pause: Pin<Box<Sleep>>,
    /// Whether the stream ends behind its last event; otherwise it stays open in silence.
    ends: bool,
}

impl Slow {
    fn new(chance: Arc<Chance>, events: Vec<ModelEvent>) -> Self {
        let pause = Box::pin(sleep(chance.delay(800)));
        Self {
            chance,
            events: events.into_iter(),
            pause,
            ends: true,
        }
    }
}

impl Stream for Slow {
    type Item = ModelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ModelEvent>> {
        let is_silent = !self.ends && self.events.len() == 0;
        if is_silent || self.pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let pause = Duration::from_millis(1) + self.chance.delay(400);
        self.pause = Box::pin(sleep(pause));
        Poll::Ready(self.events.next())
    }
}
