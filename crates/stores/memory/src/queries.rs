//! Questions: lists of invocations and sums of usage.

use std::collections::BTreeMap;
use std::sync::Arc;

use otto_core::Money;
use otto_core::id::ReservationId;
use otto_core::model::Usage;
use otto_core::port::store::{
    InvocationQuery, InvocationRecord, StoreError, UsageGroup, UsageQuery, UsageSum,
};
use otto_core::store_rules::Charge;
use otto_core::{EffectId, InvocationId, Timestamp, UtcDay};

use crate::rows::{Invocation, MemoryRows};

/// BOUND: rows of a list, unless asked for fewer or more.
const LIST_MAX: u32 = 1_000;

/// Invocations, newest first.
pub(crate) fn invocations(
    rows: &MemoryRows,
    query: &InvocationQuery,
    now: Timestamp,
) -> Result<Vec<InvocationRecord>, StoreError> {
    let mut found: Vec<(InvocationId, &Invocation)> = all(rows)
        .filter(|(id, invocation)| {
            query.invocation.is_none_or(|asked| asked == *id)
                && query.session.is_none_or(|id| id == invocation.session)
                && query
                    .agent
                    .as_ref()
                    .is_none_or(|agent| *agent == invocation.agent)
        })
        .collect();
    found.sort_by_key(|(id, invocation)| std::cmp::Reverse((invocation.submitted_at, *id)));
    let limit = usize::try_from(query.limit.unwrap_or(LIST_MAX)).unwrap_or(usize::MAX);
    found
        .into_iter()
        .take(limit)
        .map(|(id, invocation)| record(rows, id, invocation, now))
        .collect()
}

/// Invocations without an end, oldest first.
pub(crate) fn unfinished(
    rows: &MemoryRows,
    now: Timestamp,
) -> Result<Vec<InvocationRecord>, StoreError> {
    let mut found: Vec<(InvocationId, &Invocation)> = all(rows)
        .filter(|(_, invocation)| invocation.finish.is_none())
        .collect();
    found.sort_by_key(|(id, invocation)| (invocation.submitted_at, *id));
    found
        .into_iter()
        .map(|(id, invocation)| record(rows, id, invocation, now))
        .collect()
}

fn all(rows: &MemoryRows) -> impl Iterator<Item = (InvocationId, &Invocation)> {
    rows.invocations
        .iter()
        .map(|(id, invocation)| (*id, &**invocation))
}

fn record(
    rows: &MemoryRows,
    id: InvocationId,
    invocation: &Invocation,
    now: Timestamp,
) -> Result<InvocationRecord, StoreError> {
    let finish = invocation.finish.as_ref();
    let mut sum = Sum::default();
    for (_, charge) in charges_of(rows, id) {
        sum.add(charge)?;
    }
    Ok(InvocationRecord {
        invocation: id,
        session: invocation.session,
        agent: invocation.agent.clone(),
        model: invocation.model.clone(),
        workflow: invocation.workflow,
        title: invocation.title.clone(),
        started_at: invocation.submitted_at,
        finished_at: finish.map(|finish| finish.at),
        outcome: finish.map(|finish| finish.outcome),
        summary: finish.map_or_else(|| Arc::from(""), |finish| finish.summary.clone()),
        result: finish.map_or_else(|| Arc::from(""), |finish| finish.result.clone()),
        resumable: finish.is_some_and(|finish| finish.resumable),
        driven: finish.is_none()
            && rows
                .sessions
                .get(&invocation.session)
                .is_some_and(|lease| lease.is_live(now)),
        cost: sum.cost,
        tokens: sum.usage.total_tokens(),
    })
}

fn charges_of(rows: &MemoryRows, id: InvocationId) -> impl Iterator<Item = (UtcDay, &Charge)> {
    let first = ReservationId {
        invocation: id,
        effect: EffectId(0),
    };
    let last = ReservationId {
        invocation: id,
        effect: EffectId(u64::MAX),
    };
    rows.charges
        .range(first..=last)
        .map(|(_, (day, charge))| (*day, charge))
}

/// Sums of usage, grouped as asked, in the order of their keys.
pub(crate) fn usage(rows: &MemoryRows, query: &UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
    let mut groups: Vec<UsageGroup> = Vec::new();
    for group in &query.group_by {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let mut sums: BTreeMap<Vec<String>, Sum> = BTreeMap::new();
    if groups.is_empty() {
        sums.insert(Vec::new(), Sum::default());
    }
    for (id, (day, charge)) in &rows.charges {
        let attribution = &charge.attribution;
        let asked = query.from.is_none_or(|from| attribution.at >= from)
            && query.to.is_none_or(|to| attribution.at < to)
            && query
                .agent
                .as_ref()
                .is_none_or(|agent| *agent == attribution.agent)
            && query
                .session
                .is_none_or(|session| session == attribution.session)
            && query
                .workflow
                .is_none_or(|workflow| Some(workflow) == attribution.workflow)
            && query
                .invocation
                .is_none_or(|invocation| invocation == id.invocation);
        if asked {
            let key = groups
                .iter()
                .map(|group| value(*group, *day, id, charge))
                .collect();
            sums.entry(key).or_default().add(charge)?;
        }
    }
    Ok(sums
        .into_iter()
        .map(|(values, sum)| sum.under(groups.iter().copied().zip(values).collect()))
        .collect())
}

fn value(group: UsageGroup, day: UtcDay, id: &ReservationId, charge: &Charge) -> String {
    let attribution = &charge.attribution;
    match group {
        UsageGroup::Day => day.to_string(),
        UsageGroup::Agent => attribution.agent.to_string(),
        UsageGroup::Model => attribution.model.to_string(),
        UsageGroup::Session => attribution.session.to_string(),
        UsageGroup::Workflow => attribution
            .workflow
            .map(|id| id.to_string())
            .unwrap_or_default(),
        UsageGroup::Invocation => id.invocation.to_string(),
    }
}

#[derive(Default)]
struct Sum {
    calls: u64,
    unconfirmed_calls: u64,
    usage: Usage,
    cost: Money,
    unconfirmed_cost: Money,
}

impl Sum {
    fn add(&mut self, charge: &Charge) -> Result<(), StoreError> {
        self.calls += 1;
        match &charge.usage {
            Some(usage) => self.usage = self.usage.plus(usage),
            None => {
                self.unconfirmed_calls += 1;
                // A part of `cost`, which is checked below.
                self.unconfirmed_cost = self.unconfirmed_cost.saturating_add(charge.cost);
            }
        }
        let largest = [
            self.usage.input_tokens,
            self.usage.output_tokens,
            self.usage.cache_read_tokens,
            self.usage.cache_write_5m_tokens,
            self.usage.cache_write_1h_tokens,
            self.usage.thinking_tokens,
        ]
        .into_iter()
        .fold(0, u64::max);
        match self.cost.checked_add(charge.cost) {
            Some(cost) if i64::try_from(largest).is_ok() => self.cost = cost,
            _ => {
                let detail =
                    "sum usage: the sum does not fit 64 bits; ask for a shorter time range";
                return Err(StoreError::Invalid {
                    detail: Arc::from(detail),
                });
            }
        }
        Ok(())
    }

    fn under(self, key: BTreeMap<UsageGroup, String>) -> UsageSum {
        UsageSum {
            key,
            calls: self.calls,
            unconfirmed_calls: self.unconfirmed_calls,
            usage: self.usage,
            cost: self.cost,
            unconfirmed_cost: self.unconfirmed_cost,
        }
    }
}
