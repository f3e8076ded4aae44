//! Clocks and medians.

use std::time::{Duration, Instant};

/// What a batch of equal work took.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) count: u32,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Latency of each, sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Batch {
    pub(crate) fn new(
        count: u32,
        wall: Duration,
        cpu: Duration,
        mut latencies: Vec<Duration>,
    ) -> Self {
        latencies.sort_unstable();
        Self {
            count,
            wall,
            cpu,
            latencies,
        }
    }

    pub(crate) fn cpu_each_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / f64::from(self.count)
    }

    pub(crate) fn per_second(&self) -> f64 {
        f64::from(self.count) / self.wall.as_secs_f64()
    }

    pub(crate) fn percentile_us(&self, percent: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (self.latencies.len() * percent / 100).min(last);
        self.latencies
            .get(index)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
    }
}

/// Starts a stopwatch of wall and process CPU time.
pub(crate) struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu: process_cpu(),
        }
    }

    pub(crate) fn stop(&self) -> (Duration, Duration) {
        (self.wall.elapsed(), process_cpu().saturating_sub(self.cpu))
    }
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The median; zero of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Resident memory of this process in KiB, from `/proc/self/status`.
pub(crate) fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Nanoseconds that this thread was on a processor: other programs on the machine do not count.
pub(crate) fn thread_cpu_ns() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64
}
