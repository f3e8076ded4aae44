//! Several processes on one state directory, processes that die at any time, and disks that fail.
//!
//! A child is this test binary again with a role in its environment. Failing disks are made with a system
//! call filter, so it is the real store on real files that gets the error.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use otto_core::ledger::{ReserveOutcome, Scope};
use otto_core::port::store::*;
use otto_sim::conformance::block_on;
use otto_store_embedded::EmbeddedStore;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use crate::fixture::*;

const ROLE: &str = "OTTO_TEST_ROLE";
const STATE: &str = "OTTO_TEST_STATE";
const NODE: &str = "OTTO_TEST_NODE";

/// BOUND: entries a child appends before it gives up waiting for its end.
const ENTRIES_MAX: u64 = 20_000;

fn command(program: &[&str], role: &str, state: &Path, node: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut words = program
        .iter()
        .map(std::ffi::OsString::from)
        .chain([exe.into_os_string()]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args([
            "--exact",
            "processes::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
        .env(STATE, state)
        .env(NODE, node)
        .stdout(Stdio::piped());
    command
}

fn spawn(role: &str, state: &Path, node: &str) -> Child {
    command(&[], role, state, node).spawn().unwrap()
}

/// What a child says: lines that begin with `otto:`.
fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let output = BufReader::new(child.stdout.take().unwrap());
    output
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.split_once("otto:").map(|(_, words)| words.to_owned()))
}

fn say(words: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "otto:{words}").unwrap();
    out.flush().unwrap();
}

/// Runs a child to its end and returns what it said.
fn run(role: &str, state: &Path, node: &str) -> Vec<String> {
    let mut child = spawn(role, state, node);
    let lines: Vec<String> = said(&mut child).collect();
    child.wait().unwrap();
    lines
}

/// The part of a child; nothing in an ordinary test run.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let state = std::env::var_os(STATE).unwrap();
    let node = std::env::var(NODE).unwrap();
    let state = Path::new(&state);
    match role.as_str() {
        "append" => append_until_the_end(&open(state, &node), || {}),
        "spend" => spend(&open(state, &node)),
        "fsync fails" => append_until_the_end(&open(state, &node), || {
            fail(
                &[(libc::SYS_fsync, vec![]), (libc::SYS_fdatasync, vec![])],
                SeccompAction::Errno(5),
            );
        }),
        "disk full" => append_until_the_end(&open(state, &node), || {
            fail(&[(libc::SYS_pwrite64, vec![])], SeccompAction::Errno(28));
        }),
        "dies at sync" => append_until_the_end(&open(state, &node), || {
            fail(
                &[(libc::SYS_fsync, vec![]), (libc::SYS_fdatasync, vec![])],
                SeccompAction::KillProcess,
            );
        }),
        "dies at write" => append_until_the_end(&open(state, &node), || {
            fail(&[(libc::SYS_pwrite64, vec![])], SeccompAction::KillProcess);
        }),
        "read-only" => read_only(state, &node),
        "file size" => file_size(&open(state, &node)),
        other => panic!("unknown role {other}"),
    }
}

/// Makes system calls fail from now on, for all threads.
fn fail(calls: &[(i64, Vec<SeccompRule>)], action: SeccompAction) {
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().cloned().collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
}

/// Appends entries and says each that was acknowledged. After ten, `then` happens; after an error it stops.
fn append_until_the_end(store: &EmbeddedStore, then: impl Fn()) {
    let lease = submit(store, 1);
    for sequence in 1..=ENTRIES_MAX {
        if sequence == 11 {
            then();
        }
        match append(store, &lease, 1, sequence) {
            Ok(outcome) => say(format!("{outcome:?} {sequence}")),
            Err(error) => {
                say(format!("error {error:?}"));
                // What failed once is not believed: the next call is refused or fails by itself.
                if let Ok(outcome) = append(store, &lease, 1, sequence) {
                    say(format!("{outcome:?} {sequence}"));
                }
                std::process::exit(0);
            }
        }
    }
}

fn acknowledged(lines: &[String]) -> u64 {
    lines
        .iter()
        .filter(|line| line.starts_with("Done "))
        .count() as u64
}

/// Whatever was acknowledged is there, in order, and the file is whole.
#[track_caller]
fn check_recovered(state: &Path, acknowledged: u64) -> EmbeddedStore {
    let store = open(state, "successor");
    let entries = block_on(store.read(invocation(1))).unwrap();
    let count = entries.len() as u64;
    assert!(
        count >= acknowledged,
        "{acknowledged} entries were acknowledged, {count} are there"
    );
    assert!(
        count <= acknowledged + 1,
        "at most the one call that was not answered is there as well"
    );
    assert_eq!(entries, (1..=count).map(entry).collect::<Vec<_>>());
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
    store
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_and_its_session_is_free_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..8_usize {
        let state = dir.path().join(format!("state {round}"));
        let mut child = spawn("append", &state, "victim");
        let mut lines = said(&mut child);
        let before: Vec<String> = lines.by_ref().take(1 + round * 7).collect();
        child.kill().unwrap();
        let acknowledged = acknowledged(&before) + acknowledged(&lines.collect::<Vec<_>>());
        child.wait().unwrap();
        let store = check_recovered(&state, acknowledged);
        // The clock of both stands still, so the lease of the dead process has not run out by itself.
        match block_on(store.claim(session(1), store.node().clone(), TTL)).unwrap() {
            ClaimOutcome::Claimed(lease) => assert_eq!(lease.epoch, 2),
            other => panic!("expected the lease of the dead process, got {other:?}"),
        }
    }
}

#[test]
fn a_living_process_keeps_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut child = spawn("append", &state, "rival");
    let mut lines = said(&mut child);
    assert_eq!(lines.next().as_deref(), Some("Done 1"));
    let store = open(&state, "other");
    let outcome = block_on(store.claim(session(1), store.node().clone(), TTL)).unwrap();
    assert_eq!(
        outcome,
        ClaimOutcome::Held {
            node: "rival".into()
        }
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Reserves as long as there is money, and says how often it got some.
fn spend(store: &EmbeddedStore) {
    let number = if &**store.node() == "a" { 1 } else { 2 };
    let lease = submit(store, number);
    let mut granted = 0;
    for effect in 1..=ENTRIES_MAX {
        let mut call = reserve_call(&lease, number, effect);
        for limits in &mut call.request.scopes {
            limits.cost = Some(otto_core::agent::Limit::new(
                otto_core::Money::from_picodollars(FIT * HOLD).unwrap(),
                "a test",
            ));
        }
        match block_on(store.reserve(call)).unwrap() {
            ReserveReply::Ledger(ReserveOutcome::Granted(_)) => granted += 1,
            ReserveReply::Ledger(ReserveOutcome::OverLimit(_)) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    say(granted);
}

/// How many holds fit under the limit of the day.
const FIT: u64 = 120;

#[test]
fn two_processes_share_one_limit_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut children = [spawn("spend", &state, "a"), spawn("spend", &state, "b")];
    let granted: u64 = children
        .iter_mut()
        .map(|child| {
            let lines: Vec<String> = said(child).collect();
            child.wait().unwrap();
            lines[0].parse::<u64>().unwrap()
        })
        .sum();
    assert_eq!(granted, FIT);
    let store = open(&state, "auditor");
    let day = block_on(store.today()).unwrap();
    assert_eq!(
        block_on(store.account(Scope::Day(day)))
            .unwrap()
            .held_cost
            .picodollars(),
        FIT * HOLD
    );
    assert_eq!(block_on(store.verify(None)).unwrap().findings, []);
}

#[test]
fn a_failed_sync_is_never_taken_for_success() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let lines = run("fsync fails", &state, "a");
    assert_eq!(acknowledged(&lines), 10, "{lines:?}");
    assert!(
        lines[10].starts_with("error Unavailable") && lines[10].contains("otto.db"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 11, "the next call fails, too: {lines:?}");
    check_recovered(&state, 10);
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let lines = run("disk full", &state, "a");
    assert_eq!(acknowledged(&lines), 10, "{lines:?}");
    assert!(
        lines[10].starts_with("error Full") && lines[10].contains("free space"),
        "{lines:?}"
    );
    check_recovered(&state, 10);
}

#[test]
fn a_process_that_dies_between_write_and_sync_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for role in ["dies at sync", "dies at write"] {
        let state = dir.path().join(role);
        let lines = run(role, &state, "a");
        assert_eq!(
            (acknowledged(&lines), lines.len()),
            (10, 10),
            "{role}: {lines:?}"
        );
        check_recovered(&state, 10);
    }
}

/// Opens a store where every opening for writing fails.
fn read_only(state: &Path, node: &str) {
    let for_writing = |flags: u64| {
        let condition =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(3), flags)
                .unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    };
    let rules = vec![for_writing(1), for_writing(2)];
    fail(
        &[
            (libc::SYS_openat, rules),
            (libc::SYS_mkdirat, vec![]),
            (libc::SYS_mkdir, vec![]),
        ],
        SeccompAction::Errno(30),
    );
    say(format!(
        "{:?}",
        EmbeddedStore::open(config(state, node)).map(drop)
    ));
}

#[test]
fn a_read_only_file_system_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let lines = run("read-only", &state, "a");
    assert!(
        lines[0].starts_with("Err(ReadOnly") && lines[0].contains("writable"),
        "{lines:?}"
    );
    drop(open(&state, "b"));
    let lines = run("read-only", &state, "a");
    assert!(lines[0].starts_with("Err(ReadOnly"), "{lines:?}");
}

/// Fills the log up to the largest file allowed, then allows more again.
fn file_size(store: &EmbeddedStore) {
    let lease = submit(store, 1);
    append(store, &lease, 1, 1).unwrap();
    let before = getrlimit(Resource::Fsize);
    let log = store.path().with_file_name("otto.db-wal");
    let current = std::fs::metadata(log).unwrap().len() + 6_000;
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(current),
            maximum: before.maximum,
        },
    )
    .unwrap();
    let mut sequence = 2;
    let error = loop {
        match append(store, &lease, 1, sequence) {
            Ok(_) if sequence < 1_000 => sequence += 1,
            Ok(_) => panic!("the limit on the file size had no effect"),
            Err(error) => break error,
        }
    };
    setrlimit(Resource::Fsize, before).unwrap();
    say(format!("{error:?}"));
    // The first call may still be told that the store is being opened again.
    let healed = (0..3).find_map(|_| append(store, &lease, 1, sequence).ok());
    say(format!("{healed:?}"));
    append(store, &lease, 1, sequence + 1).unwrap();
    say(sequence + 1);
}

#[test]
fn a_store_heals_when_the_error_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // The signal that goes with the limit is ignored, which a program can only inherit.
    let shell = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let mut child = command(&shell, "file size", &state, "a").spawn().unwrap();
    let lines: Vec<String> = said(&mut child).collect();
    child.wait().unwrap();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("Unavailable") || lines[0].starts_with("Full"),
        "{lines:?}"
    );
    assert_eq!(lines[1], "Some(Done)", "{lines:?}");
    let store = check_recovered(&state, lines[2].parse().unwrap());
    drop(store);
}

#[test]
fn a_store_that_is_being_opened_waits_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let stores: Vec<EmbeddedStore> = std::thread::scope(|scope| {
        let openers: Vec<_> = (0..8)
            .map(|number| {
                let state = &state;
                scope.spawn(move || open(state, &format!("node {number}")))
            })
            .collect();
        openers
            .into_iter()
            .map(|opener| opener.join().unwrap())
            .collect()
    });
    for (n, store) in (1..).zip(&stores) {
        submit(store, n);
    }
    assert_eq!(block_on(stores[0].unfinished()).unwrap().len(), 8);
}

/// A power loss takes the file that shows whose process is dead: found by the power losses of `otto-crash`.
#[test]
fn a_session_is_free_at_once_after_a_power_loss() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let store = open(&live, "victim");
    let lease = submit(&store, 1);
    append(&store, &lease, 1, 1).unwrap();
    // What the loss leaves: the database with its log, and no file of the node.
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    for name in ["otto.db", "otto.db-wal"] {
        std::fs::copy(live.join(name), state.join(name)).unwrap();
    }
    let successor = |boot: &str, node| {
        let mut config = config(&state, node);
        config.boot = boot.into();
        EmbeddedStore::open(config).unwrap()
    };
    let claim = |store: &EmbeddedStore| {
        block_on(store.claim(session(1), store.node().clone(), TTL)).unwrap()
    };
    let unknown = successor("", "second");
    assert!(
        matches!(claim(&unknown), ClaimOutcome::Held { .. }),
        "without a boot id it may be alive"
    );
    let third = successor("another boot", "third");
    assert!(matches!(claim(&third), ClaimOutcome::Claimed(_)));
    let fourth = successor("another boot", "fourth");
    assert!(
        matches!(claim(&fourth), ClaimOutcome::Held { .. }),
        "the living keep their leases"
    );
    let fifth = successor("yet another boot", "fifth");
    assert!(
        matches!(claim(&fifth), ClaimOutcome::Held { .. }),
        "whatever the boot id says"
    );
}
