//! Running seeds, and making a failing one small.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use otto_core::invocation::OutcomeKind;

use crate::faults::FaultKind;
use crate::planted::PlantedFault;
use crate::rule::{Broken, Rule};
use crate::world::{Plan, World};

/// How seeds are run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A defect to plant between the machine and the world.
    pub planted: Option<PlantedFault>,
    /// Faults that do not exist.
    pub without: BTreeSet<FaultKind>,
    /// How many invocations each world has; drawn from the seed if absent.
    pub invocations: Option<usize>,
}

/// What came of a range of seeds.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds whose worlds kept all rules.
    pub passed: u64,
    /// Seeds that broke one, with what is needed to look into it.
    pub violations: Vec<Violation>,
    /// Invocations that were simulated.
    pub invocations: u64,
    /// Events that were fed to machines.
    pub steps: u64,
    /// Calls with side effects that were begun.
    pub executions: u64,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Outcomes that were told, by kind.
    pub outcomes: BTreeMap<OutcomeKind, u64>,
}

/// A seed that broke a rule.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// The rule.
    pub rule: Rule,
    /// How it was broken.
    pub detail: String,
    /// The faults without which it does not happen.
    pub faults: BTreeSet<FaultKind>,
    /// The number of invocations with which it happens.
    pub invocations: usize,
    /// The last events and effects, oldest first.
    pub trace: Vec<String>,
}

/// What one world did.
struct Told {
    invocations: usize,
    steps: u64,
    executions: u64,
    fingerprint: u64,
    faults: Vec<(FaultKind, u64)>,
    existing: BTreeSet<FaultKind>,
    outcomes: BTreeMap<OutcomeKind, u64>,
    broken: Option<Broken>,
    trace: Vec<String>,
}

/// One seed in this many is run twice: both times the same must happen.
const TWICE_ONE_IN: u64 = 100;

/// Runs a range of seeds.
#[must_use]
pub fn run(seeds: Range<u64>, options: &Options) -> Summary {
    let plan = Plan {
        planted: options.planted,
        without: options.without.clone(),
        invocations: options.invocations,
    };
    let mut summary = Summary::default();
    for seed in seeds {
        let mut told = tell(seed, &plan);
        if told.broken.is_none() && seed % TWICE_ONE_IN == 0 {
            let again = tell(seed, &plan);
            if (again.fingerprint, again.steps) != (told.fingerprint, told.steps) {
                let detail = "run twice, it was not the same".to_owned();
                told.broken = Some(Broken {
                    rule: Rule::Deterministic,
                    detail,
                });
            }
        }
        summary.add(seed, &plan, told);
    }
    summary
}

/// Runs one seed, with or without a planted fault, and says which rule it breaks, if any.
#[must_use]
pub fn find_violation(seed: u64, planted: Option<PlantedFault>) -> Option<Violation> {
    let plan = Plan {
        planted,
        ..Plan::default()
    };
    let told = tell(seed, &plan);
    violation(seed, &plan, &told)
}

fn tell(seed: u64, plan: &Plan) -> Told {
    let mut world = World::new(seed, plan);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match ended {
        Ok(held) => held.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Broken {
                rule: Rule::NoPanic,
                detail: text.unwrap_or_default(),
            })
        }
    };
    Told {
        invocations: world.invocations(),
        steps: world.trace.steps(),
        executions: world.executions(),
        fingerprint: world.trace.fingerprint(),
        faults: world.faults.counts().collect(),
        existing: world.faults.existing(),
        outcomes: std::mem::take(&mut world.outcomes),
        trace: if broken.is_some() {
            world.trace.lines()
        } else {
            Vec::new()
        },
        broken,
    }
}

/// The violation of a world, with as few faults and invocations as still break the same rule.
fn violation(seed: u64, plan: &Plan, told: &Told) -> Option<Violation> {
    let broken = told.broken.as_ref()?;
    let mut smallest = violation_of(seed, broken, told);
    if broken.rule == Rule::Deterministic {
        return Some(smallest);
    }
    let mut plan = plan.clone();
    let mut try_smaller = |plan: &mut Plan, change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        let told = tell(seed, &smaller);
        if let Some(same) = told
            .broken
            .as_ref()
            .filter(|other| other.rule == broken.rule)
        {
            smallest = violation_of(seed, same, &told);
            *plan = smaller;
        }
    };
    for kind in told.existing.iter().copied() {
        try_smaller(&mut plan, &|plan| {
            plan.without.insert(kind);
        });
    }
    for fewer in [1, 2, 3, 5, 8, 13, 21] {
        if fewer < plan.invocations.unwrap_or(told.invocations) {
            try_smaller(&mut plan, &|plan| plan.invocations = Some(fewer));
        }
    }
    Some(smallest)
}

fn violation_of(seed: u64, broken: &Broken, told: &Told) -> Violation {
    Violation {
        seed,
        rule: broken.rule,
        detail: broken.detail.clone(),
        faults: told.existing.clone(),
        invocations: told.invocations,
        trace: told.trace.clone(),
    }
}

impl Summary {
    fn add(&mut self, seed: u64, plan: &Plan, told: Told) {
        self.invocations += told.invocations as u64;
        self.steps += told.steps;
        self.executions += told.executions;
        for (kind, count) in &told.faults {
            *self.faults.entry(*kind).or_insert(0) += count;
        }
        for (kind, count) in &told.outcomes {
            *self.outcomes.entry(*kind).or_insert(0) += count;
        }
        match violation(seed, plan, &told) {
            None => self.passed += 1,
            Some(violation) => self.violations.push(violation),
        }
    }

    /// Takes in what came of another range.
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.violations.extend(other.violations);
        self.invocations += other.invocations;
        self.steps += other.steps;
        self.executions += other.executions;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_insert(0) += count;
        }
        for (kind, count) in other.outcomes {
            *self.outcomes.entry(kind).or_insert(0) += count;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} invocations, {} steps, {} calls with side effects",
            self.invocations, self.steps, self.executions
        )?;
        let list = |f: &mut fmt::Formatter<'_>, what: &str, counts: &[(String, u64)]| {
            let counts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            writeln!(f, "{what}: {}", counts.join(", "))
        };
        let outcomes: Vec<_> = self
            .outcomes
            .iter()
            .map(|(kind, count)| (kind.to_string(), *count))
            .collect();
        list(f, "outcomes", &outcomes)?;
        let faults: Vec<_> = self
            .faults
            .iter()
            .map(|(kind, count)| (kind.to_string(), *count))
            .collect();
        list(f, "faults", &faults)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "seed {} breaks {} with {} invocations",
            self.seed, self.rule, self.invocations
        )?;
        writeln!(
            f,
            "faults it takes: {}",
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(", ")
            }
        )?;
        write!(f, "{}", self.detail)
    }
}
