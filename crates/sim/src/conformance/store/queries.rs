//! Lists and sums.

use std::time::Duration;

use otto_core::ModelId;
use otto_core::ledger::Settlement;
use otto_core::port::store::{InvocationQuery, UsageGroup, UsageQuery};

use super::fixture::*;
use super::{Entry, World};
use crate::conformance::block_on;

pub(super) const CASES: &[Entry] = &[
    ("lists are newest first, filtered and limited", lists),
    ("unfinished invocations are oldest first", unfinished_order),
    (
        "usage is summed by any columns, in the order of their keys",
        usage_groups,
    ),
    ("usage is filtered by time and owner", usage_filters),
];

fn listed(node: &Node, query: InvocationQuery) -> Vec<otto_core::InvocationId> {
    block_on(node.store.invocations(query))
        .expect("invocations")
        .iter()
        .map(|record| record.invocation)
        .collect()
}

fn lists(world: &dyn World) {
    let node = open(world, "a");
    for (session_number, number, name) in [
        (1, 1, "reviewer"),
        (2, 2, "writer"),
        (1, 3, "writer"),
        (3, 4, "reviewer"),
    ] {
        let mut submission = submission(&node, session_number, number);
        submission.agent = agent(name);
        submission.workflow = (number == 2).then(|| workflow(7));
        node.drive_as(submission);
    }
    let all = InvocationQuery::default;
    assert_eq!(listed(&node, all()), [4, 3, 2, 1].map(invocation));
    assert_eq!(
        listed(
            &node,
            InvocationQuery {
                session: Some(session(1)),
                ..all()
            }
        ),
        [3, 1].map(invocation)
    );
    assert_eq!(
        listed(
            &node,
            InvocationQuery {
                agent: Some(agent("writer")),
                ..all()
            }
        ),
        [3, 2].map(invocation)
    );
    assert_eq!(
        listed(
            &node,
            InvocationQuery {
                limit: Some(2),
                ..all()
            }
        ),
        [4, 3].map(invocation)
    );
    assert_eq!(
        listed(
            &node,
            InvocationQuery {
                limit: Some(0),
                ..all()
            }
        ),
        []
    );
    assert_eq!(
        listed(
            &node,
            InvocationQuery {
                invocation: Some(invocation(9)),
                ..all()
            }
        ),
        []
    );
    let both = InvocationQuery {
        session: Some(session(1)),
        agent: Some(agent("reviewer")),
        ..all()
    };
    assert_eq!(listed(&node, both), [invocation(1)]);
    let record = node.record(2);
    assert_eq!(
        (record.session, record.workflow, record.started_at),
        (
            session(2),
            Some(workflow(7)),
            NOON.after(Duration::from_millis(2))
        )
    );
    assert_eq!(
        (&*record.title, record.agent, record.outcome),
        ("Review src/", agent("writer"), None)
    );
}

fn unfinished_order(world: &dyn World) {
    let node = open(world, "a");
    let driven: Vec<Driven> = [3, 1, 2].map(|number| node.drive(number, number)).into();
    assert_eq!(node.unfinished(), [1, 2, 3].map(invocation));
    driven[1].finish(Vec::new(), false);
    assert_eq!(node.unfinished(), [2, 3].map(invocation));
}

/// Two agents, two models, three sessions, a workflow, two days, five calls.
fn some_usage(world: &dyn World) -> Node {
    let node = open(world, "a");
    let call = |number: u8,
                name: &str,
                model: &str,
                with_workflow: bool,
                effects: &[(u64, Settlement)]| {
        let mut submission = submission(&node, number, number);
        submission.agent = agent(name);
        submission.model = ModelId::new(model).expect("a valid id");
        submission.workflow = with_workflow.then(|| workflow(1));
        let driven = node.drive_as(submission);
        for (effect, settlement) in effects {
            driven.hold(*effect);
            let mut call = driven.settle_call(*effect, settlement.clone(), Vec::new());
            call.attribution.at = NOON.after(Duration::from_secs(u64::from(number)));
            block_on(node.store.settle(call)).expect("settle");
        }
    };
    call(
        1,
        "reviewer",
        "model-1",
        false,
        &[(1, used()), (2, Settlement::Forfeited)],
    );
    call(2, "writer", "model-2", true, &[(1, used())]);
    world.clock().set(NOON.after(DAY));
    call(
        3,
        "reviewer",
        "model-2",
        true,
        &[(1, used()), (2, Settlement::Released), (3, used())],
    );
    node
}

fn usage_groups(world: &dyn World) {
    let node = some_usage(world);
    let total = node.total();
    assert_eq!(
        (total.calls, total.unconfirmed_calls, total.cost),
        (5, 1, money(4 * COST + HOLD))
    );
    assert_eq!(total.usage.thinking_tokens, 4 * usage().thinking_tokens);
    let grouped = |group_by: &[UsageGroup]| -> Vec<(Vec<String>, u64, u64)> {
        node.usage(UsageQuery {
            group_by: group_by.to_vec(),
            ..UsageQuery::default()
        })
        .into_iter()
        .map(|sum| {
            let key = group_by
                .iter()
                .map(|group| sum.key.get(group).cloned().unwrap_or_default())
                .collect();
            (key, sum.calls, sum.cost.picodollars())
        })
        .collect()
    };
    let row = |key: &[&str], calls: u64, cost: u64| {
        (
            key.iter()
                .map(|part| (*part).to_owned())
                .collect::<Vec<_>>(),
            calls,
            cost,
        )
    };
    assert_eq!(
        grouped(&[UsageGroup::Agent]),
        [
            row(&["reviewer"], 4, 3 * COST + HOLD),
            row(&["writer"], 1, COST)
        ]
    );
    assert_eq!(
        grouped(&[UsageGroup::Model, UsageGroup::Agent]),
        [
            row(&["model-1", "reviewer"], 2, COST + HOLD),
            row(&["model-2", "reviewer"], 2, 2 * COST),
            row(&["model-2", "writer"], 1, COST),
        ]
    );
    assert_eq!(
        grouped(&[UsageGroup::Day]),
        [
            row(&["2026-11-23"], 3, 2 * COST + HOLD),
            row(&["2026-11-24"], 2, 2 * COST)
        ]
    );
    let workflow = workflow(1).to_string();
    assert_eq!(
        grouped(&[UsageGroup::Workflow]),
        [row(&[""], 2, COST + HOLD), row(&[&workflow], 3, 3 * COST)]
    );
    let sessions = grouped(&[UsageGroup::Session]);
    assert_eq!(
        sessions
            .iter()
            .map(|(_, calls, _)| *calls)
            .collect::<Vec<_>>(),
        [2, 1, 2]
    );
    assert_eq!(sessions[0].0, [session(1).to_string()]);
    assert_eq!(
        grouped(&[UsageGroup::Invocation, UsageGroup::Invocation]).len(),
        3,
        "a column named twice counts once"
    );
}

fn usage_filters(world: &dyn World) {
    let node = some_usage(world);
    let at = |seconds| Some(NOON.after(Duration::from_secs(seconds)));
    let all = UsageQuery::default;
    for (query, calls) in [
        (
            UsageQuery {
                from: at(2),
                ..all()
            },
            3,
        ),
        (UsageQuery { to: at(2), ..all() }, 2),
        (
            UsageQuery {
                from: at(2),
                to: at(3),
                ..all()
            },
            1,
        ),
        (
            UsageQuery {
                from: at(3),
                to: at(3),
                ..all()
            },
            0,
        ),
        (
            UsageQuery {
                agent: Some(agent("writer")),
                ..all()
            },
            1,
        ),
        (
            UsageQuery {
                session: Some(session(1)),
                ..all()
            },
            2,
        ),
        (
            UsageQuery {
                workflow: Some(workflow(1)),
                ..all()
            },
            3,
        ),
        (
            UsageQuery {
                invocation: Some(invocation(3)),
                ..all()
            },
            2,
        ),
        (
            UsageQuery {
                agent: Some(agent("reviewer")),
                workflow: Some(workflow(1)),
                ..all()
            },
            2,
        ),
    ] {
        assert_eq!(node.usage(query.clone())[0].calls, calls, "{query:?}");
    }
    let none = UsageQuery {
        agent: Some(agent("nobody")),
        group_by: vec![UsageGroup::Agent],
        ..all()
    };
    assert_eq!(node.usage(none), [], "a group without rows is not listed");
}
