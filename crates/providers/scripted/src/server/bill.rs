//! What was billed: the truth against which a client's ledger is checked.
//!
//! A call is on the bill from the moment it is accepted. It is settled when its answer is out, or when the
//! client leaves or a fault strikes: then with the whole prompt and with what was produced until then. The
//! vendor does not document what an aborted stream costs; this is the reading third parties agree on.
//!
//! Invariant: every accepted call is billed exactly once; `cost` is the exact price of `usage`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use otto_core::Money;
use otto_core::model::{ModelSpec, Usage};
use tokio::sync::{Notify, watch};

use super::State;
use crate::digest::Digest;
use crate::limits;
use crate::script::Bill;

/// Everything billed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Billed {
    /// The sum of all usage.
    pub usage: Usage,
    /// The sum of all costs, capped at [`Money::MAX`].
    pub cost: Money,
    /// How many calls were billed.
    pub calls: u64,
    /// The latest calls, oldest first; at most 100,000.
    pub requests: Vec<BilledRequest>,
}

/// What one call was billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BilledRequest {
    /// The id the request was answered with.
    pub request_id: String,
    /// The model, as the price table names it.
    pub model: String,
    /// `metadata.user_id` of the request.
    pub user_id: Option<String>,
    /// What was used.
    pub usage: Usage,
    /// What that costs; capped at [`Money::MAX`].
    pub cost: Money,
    /// How the answer ended.
    pub ending: BilledEnding,
}

/// How the answer to a billed call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BilledEnding {
    /// It went out whole.
    Complete,
    /// The client left before its end.
    Aborted,
    /// The script broke it.
    Faulted,
}

pub(super) struct BillBook {
    book: Mutex<Book>,
    open: AtomicU64,
    /// How many calls were ever accepted.
    accepted: watch::Sender<u64>,
    settled: Notify,
}

#[derive(Default)]
struct Book {
    usage: Usage,
    cost: Money,
    calls: u64,
    requests: VecDeque<BilledRequest>,
}

impl BillBook {
    pub(super) fn new() -> Self {
        Self {
            book: Mutex::new(Book::default()),
            open: AtomicU64::new(0),
            accepted: watch::Sender::new(0),
            settled: Notify::new(),
        }
    }

    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn billed(&self) -> Billed {
        let book = self.lock();
        Billed {
            usage: book.usage,
            cost: book.cost,
            calls: book.calls,
            requests: book.requests.iter().cloned().collect(),
        }
    }

    pub(super) async fn accepted(&self, calls: u64) {
        let mut accepted = self.accepted.subscribe();
        // The sender is in here, so it is there as long as somebody waits.
        let _ = accepted.wait_for(|count| *count >= calls).await;
    }

    pub(super) async fn idle(&self) {
        loop {
            // Registered before the count is read, so that no settlement in between is missed.
            let settled = self.settled.notified();
            if self.open() == 0 {
                return;
            }
            settled.await;
        }
    }

    fn settle(&self, request: BilledRequest) {
        let mut book = self.lock();
        book.usage = book.usage.plus(&request.usage);
        book.cost = book.cost.saturating_add(request.cost);
        book.calls += 1;
        // BOUND: the sums stay exact when single calls are forgotten.
        if book.requests.len() >= limits::BILLED_REQUESTS {
            book.requests.pop_front();
        }
        book.requests.push_back(request);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        // Nothing in a settlement can panic between its assignments.
        self.book
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The open bill of one call; settled when it is dropped.
pub(super) struct OpenBill {
    state: Arc<State>,
    spec: Arc<ModelSpec>,
    request_id: String,
    user_id: Option<String>,
    /// The usage of the whole answer.
    whole: Usage,
    /// Output tokens handed to the network.
    sent: u64,
    rule: Bill,
    ending: BilledEnding,
    /// The request whose attempts this one ends, if it ends well.
    attempt: Option<Digest>,
}

/// What an [`OpenBill`] begins with.
pub(super) struct BillStart {
    /// The price of the call; see [`price_of`].
    pub(super) spec: Arc<ModelSpec>,
    pub(super) request_id: String,
    pub(super) user_id: Option<String>,
    pub(super) attempt: Option<Digest>,
}

impl OpenBill {
    pub(super) fn new(state: Arc<State>, start: BillStart) -> Self {
        state.bills.open.fetch_add(1, Ordering::AcqRel);
        state.bills.accepted.send_modify(|count| *count += 1);
        let BillStart {
            spec,
            request_id,
            user_id,
            attempt,
        } = start;
        Self {
            state,
            spec,
            request_id,
            user_id,
            whole: Usage::default(),
            sent: 0,
            rule: Bill::Sent,
            ending: BilledEnding::Aborted,
            attempt,
        }
    }

    /// Says what the whole answer will cost, and by which rule a broken one is billed.
    pub(super) fn expect(&mut self, whole: Usage, rule: Bill) {
        self.whole = whole;
        self.rule = rule;
    }

    /// Output up to this many tokens was handed to the network.
    pub(super) fn sent(&mut self, tokens: u64) {
        self.sent = self.sent.max(tokens);
    }

    /// The answer is out as it should be.
    pub(super) fn complete(&mut self) {
        self.ending = BilledEnding::Complete;
        self.sent = self.whole.output_tokens;
    }

    /// The script broke the answer here.
    pub(super) fn faulted(&mut self) {
        self.ending = BilledEnding::Faulted;
    }
}

impl Drop for OpenBill {
    fn drop(&mut self) {
        let usage = match (self.ending, self.rule) {
            (BilledEnding::Complete, _) | (_, Bill::Whole) => self.whole,
            (BilledEnding::Faulted, Bill::Nothing) => Usage::default(),
            (BilledEnding::Aborted | BilledEnding::Faulted, Bill::Sent | Bill::Nothing) => {
                let output_tokens = self.sent.min(self.whole.output_tokens);
                Usage {
                    output_tokens,
                    thinking_tokens: self.whole.thinking_tokens.min(output_tokens),
                    ..self.whole
                }
            }
        };
        if let (BilledEnding::Complete, Some(attempt)) = (self.ending, self.attempt) {
            self.state.attempts.forget(attempt);
        }
        self.state.bills.settle(BilledRequest {
            request_id: std::mem::take(&mut self.request_id),
            model: self.spec.id.to_string(),
            user_id: self.user_id.take(),
            cost: self.spec.cost(&usage).unwrap_or(Money::MAX),
            usage,
            ending: self.ending,
        });
        self.state.bills.open.fetch_sub(1, Ordering::AcqRel);
        self.state.bills.settled.notify_waiters();
    }
}

/// The specification by which a call is priced: with the factors its settings bring.
pub(super) fn price_of(spec: &Arc<ModelSpec>, fast: bool, geo: Option<&str>) -> Arc<ModelSpec> {
    const FAST: u32 = 2;
    const UNITED_STATES_PERCENT: u32 = 110;
    let base = match geo {
        Some("us") => spec.surcharge_percent.max(UNITED_STATES_PERCENT),
        // Asked for by name, the surcharge of the account's default does not apply.
        Some("global") => 100,
        _ => spec.surcharge_percent,
    };
    let percent = if fast {
        base.saturating_mul(FAST)
    } else {
        base
    };
    if percent == spec.surcharge_percent {
        return Arc::clone(spec);
    }
    Arc::new(ModelSpec {
        surcharge_percent: percent,
        ..ModelSpec::clone(spec)
    })
}
