//! Every defect that is planted between machine and world is found: the judge is awake.

use std::collections::BTreeSet;

use otto_sim::PlantedFault::{
    BlindRerun, BrokenBarrier, CarelessCodec, CheapSettlement, DoubledFinish, DoubledResult,
    DoubledRun, DoubledSettlement, DroppedResult, EditedHistory, FalseOutcome, ForgedResult,
    ForgottenDeadline, ForgottenEntry, ForgottenFinish, ForgottenPersist, ForgottenPins,
    ForgottenTask, ForgottenTurn, GenerousLedger, GreedyRequest, IgnoredDenial, InvalidCall,
    InventedSummary, KeptThinking, LateStart, LostSettlement, LowQuote, NeedlessStop,
    PanickingMachine, PartialSummary, RefundOnGuess, ResentTurn, RunSummary, SettledDenial,
    SkippedSettlement, TextBeforeResults, UngrantedCall, UnprovenCall, UnstableWorld,
};
use otto_sim::{Options, PlantedFault, Rule, run};

/// A planted defect shows within this many seeds.
const SEEDS: u64 = 101;
/// Forgotten pins take a crash during a call, and a compaction of a long history after it.
const SEEDS_FOR_PINS: u64 = 2_000;

/// Looks for the defect, seed after seed, and for the rule that it breaks.
#[track_caller]
fn is_found(fault: PlantedFault, rules: &[Rule]) {
    let options = Options {
        planted: Some(fault),
        ..Options::default()
    };
    let seeds = match fault {
        ForgottenPins => SEEDS_FOR_PINS,
        _ => SEEDS,
    };
    let found = (0..seeds).find_map(|seed| run(seed..seed + 1, &options).violations.pop());
    let Some(violation) = found else {
        panic!("{fault:?} was not found in {seeds} seeds")
    };
    println!(
        "seed {} breaks {}: {}",
        violation.seed, violation.rule, violation.detail
    );
    assert!(
        rules.contains(&violation.rule),
        "{fault:?} was found as something else:\n{violation}"
    );
}

macro_rules! planted_faults {
    ($($test:ident: $fault:ident breaks [$($rule:ident),+],)+) => {
        $(
            #[test]
            fn $test() {
                is_found($fault, &[$(Rule::$rule),+]);
            }
        )+

        #[test]
        fn each_planted_fault_has_its_test() {
            let tested = BTreeSet::from([$($fault),+]);
            let all: BTreeSet<PlantedFault> = PlantedFault::ALL.iter().copied().collect();
            assert_eq!(tested, all);
        }
    };
}

planted_faults! {
    a_skipped_settlement: SkippedSettlement breaks [SettledOnce],
    a_doubled_settlement: DoubledSettlement breaks [SettledOnce],
    a_cheap_settlement: CheapSettlement breaks [TrueSettlement],
    a_refund_on_a_guess: RefundOnGuess breaks [TrueSettlement],
    a_settled_denial: SettledDenial breaks [SettledOnce],
    an_ungranted_call: UngrantedCall breaks [CallIsHeld],
    an_ignored_denial: IgnoredDenial breaks [CallIsHeld],
    a_greedy_request: GreedyRequest breaks [OutputWithinGrant],
    a_low_quote: LowQuote breaks [TruthCovered],
    a_resent_turn: ResentTurn breaks [NeverResent],
    a_dropped_result: DroppedResult breaks [ValidHistory],
    a_doubled_result: DoubledResult breaks [ValidHistory],
    a_forged_result: ForgedResult breaks [TrueResult],
    a_text_before_the_results: TextBeforeResults breaks [ValidHistory],
    an_edited_history: EditedHistory breaks [AppendOnly],
    a_forgotten_task: ForgottenTask breaks [CompactionKeeps],
    an_invented_summary: InventedSummary breaks [CompactionKeeps],
    kept_thinking: KeptThinking breaks [CompactionKeeps],
    a_forgotten_turn: ForgottenTurn breaks [CompactionKeeps],
    forgotten_pins: ForgottenPins breaks [CompactionKeeps],
    a_partial_summary: PartialSummary breaks [AppendOnly],
    a_run_summary: RunSummary breaks [OnlyWholeCalls],
    an_unproven_call: UnprovenCall breaks [OnlyWholeCalls],
    an_invalid_call: InvalidCall breaks [OnlyWholeCalls],
    a_forgotten_persist: ForgottenPersist breaks [DurableIntent],
    a_doubled_run: DoubledRun breaks [Barrier, RunsOnce],
    a_broken_barrier: BrokenBarrier breaks [Barrier, RunsOnce],
    a_blind_rerun: BlindRerun breaks [RunsOnce],
    a_late_start: LateStart breaks [NothingAfterStop],
    a_doubled_finish: DoubledFinish breaks [OneFinish],
    a_forgotten_finish: ForgottenFinish breaks [EndsInTime],
    a_false_outcome: FalseOutcome breaks [TrueOutcome],
    a_forgotten_deadline: ForgottenDeadline breaks [EndsInTime],
    a_forgotten_entry: ForgottenEntry breaks [FoldIsLive],
    a_careless_codec: CarelessCodec breaks [CodecIsExact],
    a_needless_stop: NeedlessStop breaks [CalmCompletes],
    a_panicking_machine: PanickingMachine breaks [NoPanic],
    a_generous_ledger: GenerousLedger breaks [WithinLimit],
    a_lost_settlement: LostSettlement breaks [BooksAgree],
    an_unstable_world: UnstableWorld breaks [Deterministic],
}

#[test]
fn a_violation_names_the_faults_it_takes_and_what_happened_last() {
    let options = Options {
        planted: Some(BlindRerun),
        ..Options::default()
    };
    let found = (0..SEEDS).find_map(|seed| run(seed..seed + 1, &options).violations.pop());
    let violation = found.expect("a blind rerun is found");
    // It takes an interruption and nothing else.
    assert!(
        !violation.faults.is_empty() && violation.faults.len() <= 2,
        "{:?}",
        violation.faults
    );
    assert!(
        violation
            .trace
            .last()
            .is_some_and(|line| line.contains("RunTool")),
        "{:?}",
        violation.trace.last()
    );
    let shown = violation.to_string();
    assert!(
        shown.contains(&format!("seed {} breaks RunsOnce", violation.seed)),
        "{shown}"
    );
}
