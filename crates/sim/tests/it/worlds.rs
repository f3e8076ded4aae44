//! The worlds of many seeds keep their rules.

use otto_sim::{Options, Summary, run};

/// The test command simulates at least this many invocations.
const INVOCATIONS: u64 = 20_000;
/// Seeds per round.
const ROUND: u64 = 200;
/// Seeds of the round that begins at `OTTO_SIM_SEED`.
const EXTRA_SEEDS: u64 = 200;

#[track_caller]
fn must_hold(summary: &Summary) {
    for violation in &summary.violations {
        println!("{violation}\n");
    }
    let seeds: Vec<u64> = summary
        .violations
        .iter()
        .map(|violation| violation.seed)
        .collect();
    assert!(seeds.is_empty(), "seeds that break a rule: {seeds:?}");
}

#[test]
fn thousands_of_invocations_keep_all_rules() {
    let mut total = Summary::default();
    let mut next = 0;
    while total.invocations < INVOCATIONS {
        total.merge(run(next..next + ROUND, &Options::default()));
        next += ROUND;
    }
    println!("seeds 0 to {next}: {total}");
    must_hold(&total);
    let never: Vec<_> = total
        .faults
        .iter()
        .filter(|(_, count)| **count == 0)
        .collect();
    assert!(never.is_empty(), "faults that never happened: {never:?}");
    assert_eq!(
        total.outcomes.len(),
        7,
        "outcomes that never happened: {:?}",
        total.outcomes
    );
}

#[test]
fn seeds_named_by_the_environment_keep_all_rules() {
    let Ok(text) = std::env::var("OTTO_SIM_SEED") else {
        return;
    };
    let start: u64 = text.parse().expect("OTTO_SIM_SEED is a number");
    let summary = run(
        start..start.saturating_add(EXTRA_SEEDS),
        &Options::default(),
    );
    println!("seeds from {start}: {summary}");
    must_hold(&summary);
}

#[test]
fn one_large_world_keeps_all_rules() {
    let options = Options {
        invocations: Some(1_000),
        ..Options::default()
    };
    let summary = run(7..9, &options);
    println!("{summary}");
    must_hold(&summary);
}
