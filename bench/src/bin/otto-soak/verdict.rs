//! The verdict: memory by regression, everything else by counting.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::process::Life;

/// One look at the worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    seconds: f64,
    rss_kib: f64,
    fds: u64,
}

impl Sample {
    pub(crate) fn of(line: &Value) -> Option<Self> {
        let sample = line.get("sample")?;
        Some(Self {
            seconds: sample["seconds"].as_f64()?,
            rss_kib: sample["rss_kib"].as_f64()?,
            fds: sample["fds"].as_u64()?,
        })
    }
}

/// What was found, a line for each.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    rows: Vec<(&'static str, String, bool)>,
}

/// Growth that counts as none, as a share of the resident memory over the whole time: allocators and caches
/// settle for longer than a soak lasts.
const NOISE_SHARE: f64 = 0.10;
/// BOUND: seconds below which growth says nothing: caches and connections still fill.
const SHORTEST_SPAN: f64 = 30.0;
/// Tasks that may be left for a while: the tool host's reaper sleeps for its idle time before it sees that
/// its host is gone.
const TASKS_LEFT: u64 = 1;
/// Standard errors within which a slope is noise.
const NOISE_ERRORS: f64 = 3.0;

impl Verdict {
    /// Judges the samples of one life, without its first third: caches fill and connections open.
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut verdict = Self::default();
        let steady = samples.get(samples.len() / 3..).unwrap_or_default();
        match regression(steady) {
            None => verdict.row("memory", "too few samples".to_owned(), false),
            Some(line) => {
                let span = steady.last().map_or(0.0, |last| last.seconds)
                    - steady.first().map_or(0.0, |first| first.seconds);
                let growth = line.slope * span;
                let is_short = span < SHORTEST_SPAN;
                let is_noise = is_short
                    || line.slope <= NOISE_ERRORS * line.standard_error
                    || growth <= NOISE_SHARE * line.mean;
                let remark = if is_short { "; too short to judge" } else { "" };
                let text = format!(
                    "{:.0} KiB, slope {:+.1} ± {:.1} KiB/s over {span:.0} s ({} samples){remark}",
                    line.mean,
                    line.slope,
                    line.standard_error,
                    steady.len()
                );
                verdict.row("memory", text, is_noise);
            }
        }
        let (first, last) = halves(steady, |sample| sample.fds);
        // Connections come and go with the load; a leak grows with the invocations.
        let text = format!("{first} at most in the first half, {last} in the second");
        verdict.row("descriptors at work", text, last <= first + first / 4 + 8);
        verdict
    }

    /// Judges what the worker said when it ended.
    pub(crate) fn ended(&mut self, life: &Life) {
        let last = life.lines.last().and_then(|line| line.get("ended"));
        let Some(ended) = last.filter(|_| life.succeeded) else {
            return self.row(
                "graceful end",
                "the worker did not end as told".to_owned(),
                false,
            );
        };
        let number = |key: &str| ended[key].as_u64().unwrap_or(u64::MAX);
        self.row(
            "Tokio tasks at the end",
            number("tasks").to_string(),
            number("tasks") <= TASKS_LEFT,
        );
        let text = format!(
            "{} before, {} after",
            number("fds_before"),
            number("fds_after")
        );
        let is_same = number("fds_after") <= number("fds_before");
        self.row("descriptors at the end", text, is_same);
        let text = format!("{} picodollars held", number("held"));
        self.row("money", text, number("held") == 0);
        let text = format!(
            "{} unfinished, {} named for resume",
            number("unfinished"),
            number("left")
        );
        self.row("invocations", text, number("unfinished") == 0);
    }

    pub(crate) fn orphans(&mut self, pids: &[String]) {
        let text = if pids.is_empty() {
            "none".to_owned()
        } else {
            pids.join(", ")
        };
        self.row("processes left", text, pids.is_empty());
    }

    /// Looks for temporary files.
    pub(crate) fn files(&mut self, temp: &Path, state: &Path) -> Result<()> {
        let mut left = Vec::new();
        for entry in std::fs::read_dir(temp)? {
            left.push(entry?.path());
        }
        let mut folders = vec![state.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name.contains(".tmp") || name.contains(".new-") {
                    left.push(path);
                }
            }
        }
        let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
        let text = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        self.row("temporary files left", text, names.is_empty());
        Ok(())
    }

    fn row(&mut self, what: &'static str, found: String, is_good: bool) {
        self.rows.push((what, found, is_good));
    }

    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|(_, _, is_good)| *is_good)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = "| what | found | verdict |\n|---|---|---|\n".to_owned();
        for (what, found, is_good) in &self.rows {
            let verdict = if *is_good { "good" } else { "BAD" };
            text.push_str(&format!("| {what} | {found} | {verdict} |\n"));
        }
        text
    }
}

/// The largest value of each half.
fn halves(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> (u64, u64) {
    let (first, second) = samples.split_at(samples.len() / 2);
    let most = |half: &[Sample]| half.iter().map(&value).max().unwrap_or(0);
    (most(first), most(second))
}

/// A straight line through samples.
struct Line {
    mean: f64,
    slope: f64,
    standard_error: f64,
}

/// Ordinary least squares of memory over time; `None` for fewer than five samples.
fn regression(samples: &[Sample]) -> Option<Line> {
    if samples.len() < 5 {
        return None;
    }
    let count = samples.len() as f64;
    let mean_of = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean_of(|s| s.seconds), mean_of(|s| s.rss_kib));
    let spread: f64 = samples.iter().map(|s| (s.seconds - mean_x).powi(2)).sum();
    let product: f64 = samples
        .iter()
        .map(|s| (s.seconds - mean_x) * (s.rss_kib - mean_y))
        .sum();
    let slope = if spread > 0.0 { product / spread } else { 0.0 };
    let residual: f64 = samples
        .iter()
        .map(|s| (s.rss_kib - mean_y - slope * (s.seconds - mean_x)).powi(2))
        .sum();
    let standard_error = if spread > 0.0 {
        (residual / (count - 2.0) / spread).sqrt()
    } else {
        0.0
    };
    Some(Line {
        mean: mean_y,
        slope,
        standard_error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..120)
            .map(|step| {
                let seconds = f64::from(step) / 2.0;
                Sample {
                    seconds,
                    rss_kib: rss(seconds),
                    fds: 20,
                }
            })
            .collect()
    }

    #[test]
    fn noise_is_good_and_a_leak_is_bad() {
        let wave = |seconds: f64| 50_000.0 + 900.0 * (seconds * 3.0).sin();
        assert!(Verdict::of(&samples(wave)).is_good());
        let leak = |seconds: f64| wave(seconds) + 300.0 * seconds;
        assert!(!Verdict::of(&samples(leak)).is_good());
        assert!(
            !Verdict::of(&samples(wave)[..4]).is_good(),
            "too few samples say nothing"
        );
    }
}
