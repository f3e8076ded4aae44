//! Series of times, and the table that they end in.

use std::time::Duration;

use crate::table::Row;

/// Times of equal work.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Duration>);

impl Series {
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) fn extend(&mut self, times: impl IntoIterator<Item = Duration>) {
        self.0.extend(times);
    }

    /// The time that this share of all times does not exceed, in milliseconds.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((sorted.len() * percent / 100).min(last))
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    pub(super) fn p50(&self) -> f64 {
        self.percentile_ms(50)
    }

    pub(super) fn p99(&self) -> f64 {
        self.percentile_ms(99)
    }
}

/// A bound that a figure has to keep.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// All figures of one run.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a figure. `floor` and `otto` are what it was made of, for the reader.
    pub(super) fn add(
        &mut self,
        what: &str,
        floor: &str,
        otto: &str,
        (figure, unit): (f64, &'static str),
        target: Target,
    ) {
        if unit == "x"
            && let Target::AtMost(most) = target
        {
            let beside = format!("{floor} without");
            self.rows
                .push(Row::at_most(what, otto.to_owned(), &beside, figure, most));
            return;
        }
        let (word, bound, reached) = match target {
            Target::AtMost(bound) => ("at most", bound, figure <= bound),
            Target::AtLeast(bound) => ("at least", bound, figure >= bound),
        };
        let made_of = if floor.is_empty() {
            String::new()
        } else {
            format!(" ({otto} beside {floor})")
        };
        let shown = format!("{}{unit}{made_of}", number(figure));
        let target = format!("{word} {bound}{unit}");
        self.rows.push(Row::alone(what, shown, &target, reached));
    }

    pub(super) fn print(&self) {
        crate::table::print("The sandbox", &self.rows);
    }
}

/// Three significant digits.
pub(super) fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

pub(super) fn ms(value: f64) -> String {
    format!("{} ms", number(value))
}
