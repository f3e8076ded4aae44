//! What the property tests share: how many cases, from which seed, and how a failure is reported.

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// The seed used where the environment names none (`PROPTEST_RNG_SEED`); night runs name another.
const SEED: u64 = 20_261_123;

/// Runs `test` on `cases` values and says whether one failed; the smallest failing value is printed.
pub(crate) fn search<S: proptest::strategy::Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    let mut config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let seed = config.rng_seed;
    match TestRunner::new(config).run(&strategy, test) {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => Err(format!("seed {seed}: gave up: {reason}")),
        Err(TestError::Fail(reason, value)) => {
            Err(format!("seed {seed}: {reason}\nsmallest case: {value:#?}"))
        }
    }
}

/// An unoptimized run looks at one case in this many; `PROPTEST_CASES` names the number for a long run.
const SHARE: u32 = 10;

/// What the library runs where the environment names no number.
const LIBRARY_CASES: u32 = 256;

/// Like [`search`], for a property that must hold.
#[track_caller]
pub(crate) fn check<S: proptest::strategy::Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let named = Config::default().cases;
    let cases = if named == LIBRARY_CASES {
        cases.div_ceil(SHARE)
    } else {
        named
    };
    if let Err(report) = search(cases, strategy, test) {
        panic!("{report}");
    }
}
