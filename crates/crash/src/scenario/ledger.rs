//! Money and journal: reserve, call, settle; two processes under one limit; a limit that is raised; the kill
//! switch; a restart that crashes itself.
//!
//! The provider is the file of facts: a call is billed by the line `billed`, said after the hold was granted.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use otto::core::agent::Limit;
use otto::core::id::ReservationId;
use otto::core::ledger::{
    LookAhead, Quote, ReserveOutcome, ReserveRequest, ScopeKey, ScopeLimits, Settlement,
};
use otto::core::model::Usage;
use otto::core::port::store::*;
use otto::core::{AgentName, EffectId, InvocationId, ModelId, Money, SessionId};
use otto_store_embedded::EmbeddedStore;

use super::{
    Aftermath, NOON, SAYS_IT, Scenario, block_on, empty_store, is_whole, journal, no_environment,
    nothing, open, reopen, told,
};
use crate::said::{Facts, Mouth, say};

/// What each call holds: a prompt of 1,000 picodollars and 100 tokens of output at 10.
const HOLD: u64 = 2_000;
/// What each call costs in truth.
const COST: u64 = 1_300;
/// Limit of everything on one day where nothing else is said.
const PLENTY: u64 = 1_000_000;
/// Limit of the two processes: some calls of each fit, not all.
const SHARED: u64 = 7 * HOLD;
/// Limit before and after it is raised.
const LOW: u64 = 5 * HOLD;
const RAISED: u64 = 12 * HOLD;

/// The invocations of a crowd.
const CROWD: std::ops::RangeInclusive<u8> = 1..=24;

const TTL: Duration = Duration::from_secs(30);

pub(super) fn scenarios() -> Vec<Scenario> {
    let scenario = |name, drive, check| Scenario {
        name,
        prepare: empty_store,
        drive,
        check,
        environment: no_environment,
        stride: 1,
        loses_power: true,
        reports: SAYS_IT,
    };
    vec![
        Scenario {
            prepare: nothing,
            ..scenario("reserve-call-settle", drive_calls, |dir, after| {
                check_money(dir, after, &[1], PLENTY)
            })
        },
        Scenario {
            loses_power: true,
            ..scenario("two-processes", drive_two, |dir, after| {
                check_money(dir, after, &[1, 2], SHARED)
            })
        },
        scenario("crowd", drive_crowd, |dir, after| {
            check_money(dir, after, &CROWD.collect::<Vec<u8>>(), PLENTY)
        }),
        scenario("budget-raise", drive_raise, |dir, after| {
            let limit = if after.facts.has("raising") {
                RAISED
            } else {
                LOW
            };
            check_money(dir, after, &[1], limit)
        }),
        scenario("kill-switch", drive_kill, check_kill),
        Scenario {
            prepare: prepare_recovery,
            ..scenario("restart-in-recovery", drive_recovery, |dir, after| {
                let mut facts = Facts::of(BEFORE_THE_CRASH);
                facts.extend(&after.facts);
                let after = Aftermath {
                    facts,
                    said: after.said.clone(),
                    boot: after.boot,
                };
                check_money(dir, &after, &[1], PLENTY)
            })
        },
    ]
}

pub(super) fn session(n: u8) -> SessionId {
    SessionId::from_parts(NOON, [0, 1, 0, 0, 0, 0, 0, 0, n, 1])
}

pub(super) fn invocation(n: u8) -> InvocationId {
    InvocationId::from_parts(NOON, [0, 2, 0, 0, 0, 0, 0, 0, n, 2])
}

fn money(picodollars: u64) -> Money {
    Money::from_picodollars(picodollars).expect("a small amount")
}

fn entry(sequence: u64) -> Entry {
    // As long as a short reply: several of them do not fit one page.
    let padding = "x".repeat(700);
    Entry {
        sequence,
        payload: Arc::from(format!("{{\"entry\":{sequence},\"text\":\"{padding}\"}}")),
    }
}

/// Submits invocation `n` of session `n`.
pub(super) fn submit(store: &EmbeddedStore, n: u8) -> Result<Lease, StoreError> {
    let submission = Submission {
        invocation: invocation(n),
        session: session(n),
        node: store.node().clone(),
        ttl: TTL,
        agent: AgentName::new("worker").expect("a valid name"),
        model: ModelId::new("model-1").expect("a valid id"),
        workflow: None,
        title: Arc::from("Review src/"),
        idempotency_key: None,
        fingerprint: None,
        entries: Vec::new(),
        durability: Durability::Relaxed,
        at: NOON,
    };
    match block_on(store.submit(submission))? {
        SubmitOutcome::Accepted(lease) => Ok(lease),
        other => panic!("expected the lease, got {other:?}"),
    }
}

fn reserve(
    store: &EmbeddedStore,
    lease: &Lease,
    (n, effect): (u8, u64),
    limit: u64,
    entries: Vec<Entry>,
) -> Result<ReserveReply, StoreError> {
    let limits = |scope, cost| ScopeLimits {
        scope,
        cost: Some(Limit::new(money(cost), "a scenario")),
        tokens: None,
    };
    let request = ReserveRequest {
        id: id(n, effect),
        scopes: vec![
            limits(ScopeKey::Invocation(invocation(n)), PLENTY),
            limits(ScopeKey::Session(session(n)), PLENTY),
            limits(ScopeKey::Day, limit),
        ],
        quote: Quote {
            prompt_tokens: 50,
            prompt_cost: money(1_000),
            output_price: money(10),
            output_wanted: 100,
            output_floor: 100,
        },
    };
    block_on(store.reserve(ReserveCall {
        lease: lease.clone(),
        request,
        look_ahead: LookAhead::None,
        after: 0,
        entries,
    }))
}

fn id(n: u8, effect: u64) -> ReservationId {
    ReservationId {
        invocation: invocation(n),
        effect: EffectId(effect),
    }
}

fn settle(
    store: &EmbeddedStore,
    lease: &Lease,
    (n, effect): (u8, u64),
    entries: Vec<Entry>,
    durability: Durability,
) -> Result<SettleReply, StoreError> {
    let usage = Usage {
        input_tokens: 50,
        output_tokens: 30,
        ..Usage::default()
    };
    block_on(store.settle(SettleCall {
        lease: lease.clone(),
        reservation: id(n, effect),
        settlement: Settlement::Used {
            usage,
            cost: money(COST),
        },
        attribution: Attribution {
            session: session(n),
            agent: AgentName::new("worker").expect("a valid name"),
            workflow: None,
            model: ModelId::new("model-1").expect("a valid id"),
            at: NOON,
        },
        entries,
        durability,
    }))
}

/// Calls until there is no money or `effects` are done. Each call leaves two entries. Says whether all were
/// granted.
fn call(
    store: &EmbeddedStore,
    mouth: &Mouth,
    lease: &Lease,
    n: u8,
    effects: std::ops::RangeInclusive<u64>,
    limit: u64,
) -> Result<bool, StoreError> {
    for effect in effects {
        let (first, second) = (2 * effect - 1, 2 * effect);
        match reserve(store, lease, (n, effect), limit, vec![entry(first)])? {
            ReserveReply::Ledger(ReserveOutcome::Granted(_)) => {}
            ReserveReply::Ledger(ReserveOutcome::OverLimit(_)) => {
                say!(mouth, "entry {first} {n}");
                return Ok(false);
            }
            other => panic!("expected money or a limit, got {other:?}"),
        }
        say!(mouth, "entry {first} {n}");
        // From here on the request is out, and the provider has it on its bill.
        say!(mouth, "billed {COST} {n} {effect}");
        // Every second answer rides along with the next sync.
        let durability = if effect % 2 == 0 {
            Durability::Relaxed
        } else {
            Durability::Synced
        };
        settle(store, lease, (n, effect), vec![entry(second)], durability)?;
        if durability == Durability::Synced {
            say!(mouth, "entry {second} {n}");
            say!(mouth, "settled {effect} {n}");
        }
    }
    Ok(true)
}

fn finish(store: &EmbeddedStore, mouth: &Mouth, lease: &Lease, n: u8) -> Result<(), StoreError> {
    let outcome = block_on(store.finish(Finish {
        lease: lease.clone(),
        invocation: invocation(n),
        outcome: otto::OutcomeKind::Completed,
        summary: Arc::from("completed"),
        result: Arc::from("fine"),
        after: 0,
        entries: Vec::new(),
        artifacts: Vec::new(),
        resumable: false,
        at: NOON,
    }))?;
    assert_eq!(outcome.outcome, Outcome::Done);
    say!(mouth, "finished {n}");
    Ok(())
}

fn drive_calls(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let lease = submit(&store, 1)?;
            call(&store, mouth, &lease, 1, 1..=12, PLENTY)?;
            finish(&store, mouth, &lease, 1)
        })
    })
}

/// So many callers at once that some are written while others are being synced.
fn drive_crowd(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(
        mouth,
        open(dir, "victim").and_then(|store| {
            let store = &store;
            let one = |n| {
                let lease = submit(store, n)?;
                call(store, mouth, &lease, n, 1..=1, PLENTY).map(drop)
            };
            std::thread::scope(|scope| {
                let callers: Vec<_> = CROWD.map(|n| scope.spawn(move || one(n))).collect();
                callers
                    .into_iter()
                    .map(|caller| caller.join().expect("a caller does not panic"))
                    .collect::<Vec<Result<(), StoreError>>>()
                    .into_iter()
                    .collect()
            })
        }),
    )
}

/// This process and a child of it spend from one limit.
fn drive_two(dir: &Path, mouth: &Mouth) -> Result<()> {
    let is_child = std::env::var_os("OTTO_CRASH_CHILD").is_some();
    let n = if is_child { 2 } else { 1 };
    let child = if is_child {
        None
    } else {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(std::env::args_os().skip(1))
            .env("OTTO_CRASH_CHILD", "1")
            // It is traced already, and its filter is inherited.
            .env_remove(crate::tracer::TRACED);
        Some(command.spawn().context("start the second process")?)
    };
    told(
        mouth,
        open(dir, &format!("process {n}")).and_then(|store| {
            let lease = submit(&store, n)?;
            call(&store, mouth, &lease, n, 1..=7, SHARED)?;
            finish(&store, mouth, &lease, n)
        }),
    )?;
    if let Some(mut child) = child {
        child.wait().context("wait for the second process")?;
    }
    Ok(())
}

fn drive_raise(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let lease = submit(&store, 1)?;
            let all = call(&store, mouth, &lease, 1, 1..=20, LOW)?;
            assert!(!all, "the low limit had no effect");
            let done = u64::try_from(block_on(store.read(invocation(1)))?.len()).unwrap_or(0) / 2;
            say!(mouth, "raising");
            call(&store, mouth, &lease, 1, done + 1..=done + 4, RAISED)?;
            finish(&store, mouth, &lease, 1)
        })
    })
}

/// After any crash: what was acknowledged is there, no limit is passed, the bill is covered, nothing is held
/// for ever, and the next process goes on.
fn check_money(dir: &Path, after: &Aftermath, numbers: &[u8], limit: u64) -> Result<()> {
    let store = reopen(dir, after)?;
    let facts = &after.facts;
    let day = block_on(store.today())?;
    for n in numbers {
        let entries = journal(&store, invocation(*n))?;
        let count = entries.len() as u64;
        let expected: Vec<Entry> = (1..=count).map(entry).collect();
        ensure!(entries == expected, "the journal of {n} has other entries");
        let said = of(facts, "entry", *n).max().unwrap_or(0);
        ensure!(
            said <= count,
            "{n}: entry {said} was acknowledged, {count} are there"
        );
        let record = block_on(store.invocations(InvocationQuery {
            invocation: Some(invocation(*n)),
            ..InvocationQuery::default()
        }))?;
        if facts.has(&format!("finished {n}")) {
            ensure!(
                record.iter().any(|record| record.outcome.is_some()),
                "{n}: its end was acknowledged and is not there"
            );
        }
    }
    let account = block_on(store.account(otto::core::ledger::Scope::Day(day)))?;
    let billed: u64 = facts.numbers("billed").iter().sum();
    let (spent, held) = (
        account.spent_cost.picodollars(),
        account.held_cost.picodollars(),
    );
    ensure!(
        billed <= limit,
        "billed were {billed}, the limit is {limit}"
    );
    ensure!(
        spent + held <= limit,
        "{spent} spent and {held} held pass the limit of {limit}"
    );
    ensure!(
        spent + held >= billed,
        "billed were {billed}, the ledger knows of {spent} spent and {held} held"
    );
    is_whole(&store)?;
    // The dead are known to be dead: their sessions can be claimed at once.
    for n in numbers {
        if journal(&store, invocation(*n))?.is_empty() {
            continue;
        }
        let claimed = block_on(store.claim(session(*n), store.node().clone(), TTL))?;
        ensure!(
            matches!(claimed, ClaimOutcome::Claimed(_)),
            "session {n} is not free: {claimed:?}"
        );
    }
    forfeit_what_is_open(&store, facts, numbers, billed)
}

/// Ends what the dead left open, as a resumption does, and adds up.
fn forfeit_what_is_open(
    store: &EmbeddedStore,
    facts: &Facts,
    numbers: &[u8],
    billed: u64,
) -> Result<()> {
    for n in numbers {
        if journal(store, invocation(*n))?.is_empty() {
            continue;
        }
        let ClaimOutcome::Claimed(lease) =
            block_on(store.claim(session(*n), store.node().clone(), TTL))?
        else {
            unreachable!("claimed above")
        };
        // Its next call is the one that was not billed yet: nothing that is settled is asked for again.
        let settled = of(facts, "settled", *n).max().unwrap_or(0);
        for effect in 1..=settled {
            let again = reserve(store, &lease, (*n, effect), PLENTY, Vec::new())?;
            ensure!(
                matches!(again, ReserveReply::Ledger(ReserveOutcome::AlreadySettled)),
                "{n}: the settled call {effect} could be made again: {again:?}"
            );
        }
        block_on(store.release(lease))?;
    }
    block_on(store.sweep())?;
    let day = block_on(store.today())?;
    let account = block_on(store.account(otto::core::ledger::Scope::Day(day)))?;
    ensure!(
        account.held_cost == Money::ZERO && account.spent_cost.picodollars() >= billed,
        "after the sweep: {account:?}, billed were {billed}"
    );
    let usage = block_on(store.usage(UsageQuery::default()))?;
    let sum: u64 = usage.iter().map(|sum| sum.cost.picodollars()).sum();
    ensure!(
        sum == account.spent_cost.picodollars(),
        "usage adds up to {sum}, the account says {account:?}"
    );
    is_whole(store)
}

/// The first numbers of the facts of invocation `n`: `WORD number n`.
fn of<'a>(facts: &'a Facts, word: &'a str, n: u8) -> impl Iterator<Item = u64> + 'a {
    facts.after(word).filter_map(move |rest| {
        let (number, whose) = rest.split_once(' ')?;
        (whose.split(' ').next()? == n.to_string()).then(|| number.parse().ok())?
    })
}

fn drive_kill(dir: &Path, mouth: &Mouth) -> Result<()> {
    let row = |reason: &str| KillRow {
        reason: Arc::from(reason),
        at: NOON,
    };
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let lease = submit(&store, 1)?;
            call(&store, mouth, &lease, 1, 1..=1, PLENTY)?;
            say!(mouth, "throwing");
            block_on(store.set_kill(Some(row("a drill"))))?;
            say!(mouth, "thrown");
            let refused = reserve(&store, &lease, (1, 2), PLENTY, vec![entry(3)])?;
            assert!(
                matches!(refused, ReserveReply::Killed(_)),
                "money in spite of the kill switch: {refused:?}"
            );
            say!(mouth, "entry 3 1");
            say!(mouth, "lifting");
            block_on(store.set_kill(None))?;
            say!(mouth, "lifted");
            finish(&store, mouth, &lease, 1)
        })
    })
}

fn check_kill(dir: &Path, after: &Aftermath) -> Result<()> {
    let store = reopen(dir, after)?;
    let is_thrown = block_on(store.kill())?.is_some();
    let facts = &after.facts;
    if facts.has("lifted") || !facts.has("throwing") {
        ensure!(!is_thrown, "the kill switch is thrown and should not be");
    } else if facts.has("thrown") && !facts.has("lifting") {
        ensure!(is_thrown, "the kill switch was thrown and is not");
    }
    // What follows asks for money.
    block_on(store.set_kill(None))?;
    drop(store);
    check_money(dir, after, &[1], PLENTY)
}

/// What the process of [`prepare_recovery`] had said.
const BEFORE_THE_CRASH: &str =
    "entry 1 1\nbilled 1300 1 1\nentry 2 1\nsettled 1 1\nentry 3 1\nbilled 1300 1 2\n";

/// A state that a process left which died in the middle of its second call: its lease is not given back, its
/// hold is open, its log is not moved into the database.
fn prepare_recovery(dir: &Path) -> Result<()> {
    let source = dir.join("source");
    let store = open(&source, "dead")?;
    let lease = submit(&store, 1)?;
    let mouth = Mouth::open(&dir.join("unheard"))?;
    call(&store, &mouth, &lease, 1, 1..=1, PLENTY)?;
    reserve(&store, &lease, (1, 2), PLENTY, vec![entry(3)])?;
    // Copied while it lives: that is what its death would leave.
    crate::campaign::copy_tree(&super::state_dir(&source), &super::state_dir(dir))?;
    drop(store);
    std::fs::remove_dir_all(&source)?;
    std::fs::remove_file(dir.join("unheard"))?;
    Ok(())
}

fn drive_recovery(dir: &Path, mouth: &Mouth) -> Result<()> {
    told(mouth, {
        open(dir, "victim").and_then(|store| {
            let claimed = block_on(store.claim(session(1), store.node().clone(), TTL))?;
            let ClaimOutcome::Claimed(lease) = claimed else {
                panic!("the session of the dead is not free: {claimed:?}")
            };
            // The open call is charged at its hold, and made again under a new one.
            let attribution = Attribution {
                session: session(1),
                agent: AgentName::new("worker").expect("a valid name"),
                workflow: None,
                model: ModelId::new("model-1").expect("a valid id"),
                at: NOON,
            };
            block_on(store.settle(SettleCall {
                lease: lease.clone(),
                reservation: id(1, 2),
                settlement: Settlement::Forfeited,
                attribution,
                entries: vec![entry(4)],
                durability: Durability::Synced,
            }))?;
            say!(mouth, "entry 4 1");
            call(&store, mouth, &lease, 1, 3..=9, PLENTY)?;
            finish(&store, mouth, &lease, 1)
        })
    })
}
