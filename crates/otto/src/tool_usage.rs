//! What model calls cost, by the tools whose results they were made to answer.
//!
//! A tool costs nothing itself; what costs is the call that reads its results. The cost of a model call is
//! therefore given to the tools of the turn before it, in equal parts, and the first call of an invocation to
//! none. Everything comes from the journal.
//!
//! Invariant: the parts add up to the whole, to the picodollar.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::Money;
use otto_core::invocation::{Billing, Event, InvocationSpec};
use otto_core::journal;
use otto_core::message::BlockView;
use otto_core::model::Usage;

/// What was used in answer to a tool's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolUsage {
    /// Calls of the tool that the model asked for.
    pub tool_calls: u64,
    /// Money charged for model calls that answered its results; its part where several tools were answered.
    pub cost: Money,
}

/// Stands for model calls that answered no tool.
pub const NO_TOOL: &str = "(none)";

/// Adds what one invocation used to `sums`, by tool. `charged` is what the ledger charged it: calls without a
/// usage record stand in no journal with their price, so what they cost is the difference.
///
/// Lines that cannot be read are passed over; what they cost counts as [`NO_TOOL`].
pub fn add_invocation(sums: &mut BTreeMap<String, ToolUsage>, lines: &[Arc<str>], charged: Money) {
    let mut spec: Option<Arc<InvocationSpec>> = None;
    let mut asked: Vec<String> = Vec::new();
    let mut answered: Vec<String> = Vec::new();
    let mut given = Money::ZERO;
    for line in lines {
        let Ok((_, event)) = journal::decode(line) else {
            continue;
        };
        match event {
            Event::Started(started) => spec = Some(started),
            Event::ReservationGranted { .. } if !asked.is_empty() => {
                answered = std::mem::take(&mut asked);
            }
            Event::BlockReceived { block, .. } => {
                if let BlockView::ToolCall(call) = &block.view {
                    asked.push(call.tool.as_str().to_owned());
                    let sum = sums.entry(call.tool.as_str().to_owned()).or_default();
                    sum.tool_calls += 1;
                }
            }
            Event::ModelFinished { finish, .. } => {
                given = given.saturating_add(give(sums, &answered, &spec, finish.usage.as_ref()));
            }
            Event::ModelFailed { failure, .. } => {
                if let Billing::Known(usage) = &failure.billing {
                    given = given.saturating_add(give(sums, &answered, &spec, Some(usage)));
                }
            }
            _ => {}
        }
    }
    let rest = charged.saturating_sub(given);
    if rest > Money::ZERO {
        let sum = sums.entry(NO_TOOL.to_owned()).or_default();
        sum.cost = sum.cost.saturating_add(rest);
    }
}

/// Gives the cost of one call to the tools it answered. Returns what was given.
fn give(
    sums: &mut BTreeMap<String, ToolUsage>,
    tools: &[String],
    spec: &Option<Arc<InvocationSpec>>,
    usage: Option<&Usage>,
) -> Money {
    let cost = spec
        .as_ref()
        .zip(usage)
        .and_then(|(spec, usage)| spec.model.cost(usage))
        .unwrap_or(Money::ZERO);
    if tools.is_empty() {
        let sum = sums.entry(NO_TOOL.to_owned()).or_default();
        sum.cost = sum.cost.saturating_add(cost);
        return cost;
    }
    let count = tools.len() as u64;
    let (part, mut left) = (cost.picodollars() / count, cost.picodollars() % count);
    for tool in tools {
        // The first ones carry what does not divide.
        let own = part + u64::from(left > 0);
        left = left.saturating_sub(1);
        let sum = sums.entry(tool.clone()).or_default();
        let own = Money::from_picodollars(own).unwrap_or(Money::ZERO);
        sum.cost = sum.cost.saturating_add(own);
    }
    cost
}
