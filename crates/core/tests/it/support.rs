//! What the property tests share: how many cases, from which seed, and how a failure is reported.

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// The seed used where the environment names none (`PROPTEST_RNG_SEED`); night runs name another.
const SEED: u64 = 20_261_123;

/// What the library runs where nothing is named.
const LIBRARY_CASES: u32 = 256;

/// Runs `test` on `cases` values and says whether one failed; the smallest failing value is printed.
pub(crate) fn search<S: proptest::strategy::Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    let named = Config::default();
    // The environment (`PROPTEST_CASES`) may name another number than the library's own default.
    let cases = if named.cases == LIBRARY_CASES {
        cases
    } else {
        named.cases
    };
    let mut config = Config {
        cases,
        failure_persistence: None,
        ..named
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

/// Like [`search`], for a property that must hold.
#[track_caller]
pub(crate) fn check<S: proptest::strategy::Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    if let Err(report) = search(cases, strategy, test) {
        panic!("{report}");
    }
}
