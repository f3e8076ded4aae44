//! The numbers of this process: counters, gauges and histograms, with one owner and several readers.
//!
//! `telemetry.rs` is the only writer. Readers (the server's text format, the OTLP exporter) take
//! [`Metrics::families`] and know nothing else.
//!
//! Invariant: labels come from configuration and closed sets, never from a task or a model, and a family has
//! at most [`MAX_SERIES`] series; what comes behind is counted under `other`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A family of numbers: one name, one meaning, one value for each set of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The name, with its unit, without `_total`.
    pub name: &'static str,
    /// What it counts, in a line.
    pub help: &'static str,
    /// What kind of number it is.
    pub kind: FamilyKind,
    /// The values.
    pub samples: Vec<Sample>,
}

/// What kind of number a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows, from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations or sizes by class.
    Histogram,
}

/// One value of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Label names and values.
    pub labels: Vec<(&'static str, Label)>,
    /// The value.
    pub value: SampleValue,
}

/// The value of a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleValue {
    /// Of a counter or a gauge.
    Number(u64),
    /// Of a histogram.
    Classes(Classes),
}

/// The value of a label. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Label {
    /// Of a closed set.
    Word(&'static str),
    /// Of the configuration.
    Name(Arc<str>),
}

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Name(text) => text,
        }
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Label {}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Label {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl From<&'static str> for Label {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<&Arc<str>> for Label {
    fn from(name: &Arc<str>) -> Self {
        Self::Name(name.clone())
    }
}

/// BOUND: series of one family. A configuration with more agents than this still has its sums right.
pub const MAX_SERIES: usize = 1_000;

/// Upper bounds of the classes of short durations (store calls, tool calls), in microseconds.
const SHORT_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Upper bounds of the classes of long durations (model calls, invocations), in microseconds.
const LONG_US: &[u64] = &[
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
];

/// Upper bounds of the classes of tokens of one call, as the GenAI semantic conventions advise.
const TOKENS: &[u64] = &[
    1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    67_108_864,
];

/// What a histogram counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, told as seconds.
    Microseconds,
    /// Tokens.
    Tokens,
}

/// Durations or sizes by class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// What is counted.
    pub unit: Unit,
    /// Upper bounds of the classes; one more class has none.
    pub bounds: &'static [u64],
    /// How many fell into each class (not cumulative); one longer than the bounds.
    pub counts: Vec<u64>,
    /// The sum of all.
    pub sum: u64,
}

impl Classes {
    fn new(unit: Unit, bounds: &'static [u64]) -> Self {
        Self {
            unit,
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0,
        }
    }

    fn add(&mut self, amount: u64) {
        let class = self.bounds.partition_point(|bound| *bound < amount);
        self.counts[class] += 1;
        self.sum = self.sum.saturating_add(amount);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a family is called, in one place: `docs/operations.md` and the dashboard are tested against it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Definition {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

/// The series of one family.
#[derive(Debug)]
pub(crate) struct Series<V> {
    definition: Definition,
    values: Mutex<BTreeMap<Box<[Label]>, V>>,
}

impl<V> Series<V> {
    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self {
            definition: Definition { name, help, labels },
            values: Mutex::new(BTreeMap::new()),
        }
    }

    fn change(&self, labels: &[Label], new: impl FnOnce() -> V, change: impl FnOnce(&mut V)) {
        debug_assert_eq!(labels.len(), self.definition.labels.len());
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get_mut(labels) {
            return change(value);
        }
        let labels: Box<[Label]> = if values.len() < MAX_SERIES {
            Box::from(labels)
        } else {
            labels.iter().map(|_| Label::Word("other")).collect()
        };
        change(values.entry(labels).or_insert_with(new));
    }

    fn family(&self, kind: FamilyKind, value: impl Fn(&V) -> SampleValue) -> Family {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = values.iter().map(|(labels, number)| Sample {
            labels: self
                .definition
                .labels
                .iter()
                .copied()
                .zip(labels.iter().cloned())
                .collect(),
            value: value(number),
        });
        Family {
            name: self.definition.name,
            help: self.definition.help,
            kind,
            samples: samples.collect(),
        }
    }
}

impl Series<u64> {
    /// Counts `count` more.
    pub(crate) fn add(&self, labels: &[Label], count: u64) {
        self.change(labels, || 0, |value| *value = value.saturating_add(count));
    }

    /// Sets a gauge.
    pub(crate) fn set(&self, labels: &[Label], level: u64) {
        self.change(labels, || 0, |value| *value = level);
    }
}

impl Series<Classes> {
    pub(crate) fn add_to(&self, bounds: &'static [u64], labels: &[Label], duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.change(
            labels,
            || Classes::new(Unit::Microseconds, bounds),
            |value| value.add(micros),
        );
    }

    fn add_tokens(&self, labels: &[Label], tokens: u64) {
        self.change(
            labels,
            || Classes::new(Unit::Tokens, TOKENS),
            |value| value.add(tokens),
        );
    }
}

/// Declares every family once: the field, its kind, name, meaning and labels.
macro_rules! families {
    ($($field:ident: $kind:ident $name:literal $help:literal [$($label:literal),*];)*) => {
        /// The numbers of this process.
        #[derive(Debug)]
        pub struct Metrics {
            $(pub(crate) $field: families!(@type $kind),)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: Series::new($name, $help, &[$($label),*]),)* }
            }
        }

        impl Metrics {
            /// All families, in the order of the documentation.
            #[must_use]
            pub fn families(&self) -> Vec<Family> {
                vec![$(families!(@family self.$field, $kind),)*]
            }
        }
    };
    (@type Counter) => { Series<u64> };
    (@type Gauge) => { Series<u64> };
    (@type Histogram) => { Series<Classes> };
    (@family $series:expr, Histogram) => {
        $series.family(FamilyKind::Histogram, |value| SampleValue::Classes(value.clone()))
    };
    (@family $series:expr, $kind:ident) => {
        $series.family(FamilyKind::$kind, |value| SampleValue::Number(*value))
    };
}

families! {
    invocations: Counter "otto_invocations" "Invocations that ended, by outcome" ["agent", "outcome"];
    invocation_seconds: Histogram "otto_invocation_duration_seconds" "From admission to outcome" ["agent"];
    invocations_running: Gauge "otto_invocations_running" "Invocations that are admitted and have not ended" [];
    invocations_waiting: Gauge "otto_invocations_waiting" "Invocations that wait for a place" [];
    rejected: Counter "otto_invocations_rejected" "Invocations that did not begin, by reason" ["reason"];
    model_calls: Counter "otto_model_calls" "Model calls that ended: `ok` or the kind of failure" ["agent", "model", "ending"];
    model_seconds: Histogram "otto_model_call_duration_seconds" "From the request to the end of its stream" ["model"];
    tokens: Counter "otto_tokens" "Tokens settled, by class" ["agent", "model", "class"];
    call_tokens: Histogram "otto_model_call_tokens" "Tokens of one model call: input with those of the cache, output" ["model", "type"];
    cost: Counter "otto_cost_picodollars" "Money charged, holds of unconfirmed calls included" ["agent", "model"];
    tool_calls: Counter "otto_tool_calls" "Tool calls that ended, by ending" ["tool", "ending"];
    tool_seconds: Histogram "otto_tool_call_duration_seconds" "From the start of a tool call to its result" ["tool"];
    errors: Counter "otto_errors" "Errors by kind: of the provider, the store, a tool, a panic" ["kind"];
    budget_warnings: Counter "otto_budget_warnings" "Scopes that reached 80 % of a limit" ["scope"];
    forfeited: Counter "otto_holds_forfeited" "Holds charged because their owner died" [];
    restarts: Counter "otto_restarts" "Children started again by their supervisor" ["component"];
    store_seconds: Histogram "otto_store_call_duration_seconds" "Calls to the store, waits for its queue included" ["operation"];
    day_spent: Gauge "otto_day_spent_picodollars" "Money spent on this UTC day, all processes on the store" [];
    day_held: Gauge "otto_day_held_picodollars" "Money held for open model calls, all processes on the store" [];
    day_limit: Gauge "otto_day_limit_picodollars" "The daily ceiling in force" [];
    sandbox_level: Gauge "otto_sandbox_level" "1 for the level of confinement in force: l2, l1 or none" ["level"];
    component_ready: Gauge "otto_component_ready" "Whether a component can do its work: 1 or 0" ["component"];
    kill_switch: Gauge "otto_kill_switch_thrown" "Whether the kill switch is thrown: 1 or 0" [];
    config_reloads: Counter "otto_config_reloads" "Changed configurations: `applied` or `refused`" ["result"];
    build: Gauge "otto_build_info" "Always 1, with the version" ["version"];
}

impl Metrics {
    pub(crate) fn store_call(&self, operation: &'static str, duration: Duration) {
        self.store_seconds
            .add_to(SHORT_US, &[operation.into()], duration);
    }

    pub(crate) fn tool_call(&self, tool: &Arc<str>, ending: &'static str, duration: Duration) {
        self.tool_calls.add(&[tool.into(), ending.into()], 1);
        self.tool_seconds.add_to(SHORT_US, &[tool.into()], duration);
    }

    pub(crate) fn invocation(&self, agent: Label, outcome: &'static str, duration: Duration) {
        self.invocations.add(&[agent.clone(), outcome.into()], 1);
        self.invocation_seconds.add_to(LONG_US, &[agent], duration);
    }

    /// A model call was paid by these tokens.
    pub(crate) fn call_tokens(&self, model: &Label, input: u64, output: u64) {
        for (kind, tokens) in [("input", input), ("output", output)] {
            self.call_tokens
                .add_tokens(&[model.clone(), kind.into()], tokens);
        }
    }

    pub(crate) fn model_call(
        &self,
        agent: &Label,
        model: &Label,
        ending: &'static str,
        duration: Duration,
    ) {
        let labels = [agent.clone(), model.clone(), ending.into()];
        self.model_calls.add(&labels, 1);
        self.model_seconds
            .add_to(LONG_US, std::slice::from_ref(model), duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_class_that_ends_at_or_behind_them() {
        let mut durations = Classes::new(Unit::Microseconds, &[100, 200]);
        for micros in [0, 100, 101, 200, 201] {
            durations.add(micros);
        }
        assert_eq!(durations.counts, [2, 2, 1]);
        assert_eq!((durations.count(), durations.sum), (5, 602));
    }

    #[test]
    fn a_family_has_a_bounded_number_of_series_and_loses_no_count() {
        let metrics = Metrics::default();
        for number in 0..MAX_SERIES + 50 {
            let agent = Label::Name(Arc::from(number.to_string()));
            metrics.invocation(agent, "completed", Duration::ZERO);
        }
        let families = metrics.families();
        let family = families
            .iter()
            .find(|family| family.name == "otto_invocations")
            .unwrap();
        assert_eq!(family.samples.len(), MAX_SERIES + 1);
        let total: u64 = family
            .samples
            .iter()
            .map(|sample| match &sample.value {
                SampleValue::Number(number) => *number,
                SampleValue::Classes(_) => 0,
            })
            .sum();
        assert_eq!(total, MAX_SERIES as u64 + 50);
    }

    #[test]
    fn names_are_unique_and_end_in_their_unit() {
        let families = Metrics::default().families();
        let mut names: Vec<_> = families.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), families.len());
        for family in families {
            assert!(!family.name.ends_with("_total"), "{}", family.name);
            let unit = ["_seconds", "_call_tokens"]
                .iter()
                .any(|unit| family.name.ends_with(unit));
            assert_eq!(
                family.kind == FamilyKind::Histogram,
                unit,
                "{}",
                family.name
            );
        }
    }

    /// Every word of a text that begins as our names do.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("otto_"))
    }

    /// The family's name without what the text format adds to it.
    fn base_name(name: &str) -> &str {
        ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name)
    }

    #[test]
    fn the_dashboard_and_the_guide_name_what_exists_and_the_guide_names_all() {
        let families = Metrics::default().families();
        let known: Vec<&str> = families.iter().map(|family| family.name).collect();
        let dashboard = include_str!("../../../docs/operations/grafana-dashboard.json");
        let guide = include_str!("../../../docs/operations.md");
        let is_known = |name: &str| {
            // Of the server, which counts its responses itself.
            name.starts_with("otto_http_") || known.contains(&base_name(name))
        };
        for name in names_in(dashboard).chain(names_in(guide)) {
            assert!(is_known(name), "{name} does not exist");
        }
        for family in &families {
            let is_named = names_in(guide).any(|name| base_name(name) == family.name);
            assert!(is_named, "docs/operations.md does not name {}", family.name);
        }
        let count = names_in(dashboard).count();
        assert!(count > 20, "the dashboard names only {count}");
    }
}
