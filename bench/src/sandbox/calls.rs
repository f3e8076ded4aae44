//! Calls of a tool in a worker: one alone, large ones, starts, and a thousand workers at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otto::core::policy::{Permission, Permissions};
use otto::core::port::BoxFuture;
use otto::core::port::tool::Cancellation;
use otto::core::port::tool_host::{HostGrant, HostRequest, ToolHost};
use otto::{AgentName, ToolName};
use otto_sandbox::{Booted, LevelChoice, WorkerHost};

use super::Place;
use super::table::{Series, Table, Target, ms, number};

struct Never;

impl Cancellation for Never {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// One `fs.read`.
async fn read(host: &WorkerHost, agent: &str, work: &Path, file: &str) -> Result<usize> {
    let request = HostRequest {
        agent: AgentName::new(agent)?,
        tool: ToolName::new("fs.read")?,
        input: format!("{{\"path\":\"{file}\"}}").into(),
        grant: HostGrant {
            permissions: Permissions::of(&[Permission::Read]),
            working_dir: Some(work.to_owned()),
            ..HostGrant::default()
        },
        settings: None,
        time_left: Duration::from_secs(30),
        cancellation: Arc::new(Never),
        audit: None,
    };
    Ok(host.run(request).await?.content.len())
}

pub(super) async fn measure(booted: &Booted, place: &Place, table: &mut Table) -> Result<()> {
    let l1 = place.host(booted, LevelChoice::ForcedL1).await?;
    let l2 = place.host(booted, LevelChoice::ForcedL2).await?;
    sizes(&l2, place, table).await?;
    for (name, host, target) in [("L1", &l1, 4.0), ("L2", &l2, 8.0)] {
        starts(name, host, place, target, table).await?;
    }
    many(&l2, place, table).await
}

/// Small and large files, beside the runtime's own read.
async fn sizes(host: &WorkerHost, place: &Place, table: &mut Table) -> Result<()> {
    let work = place.work();
    for (file, bytes, count) in [("small", 1024, 4000), ("large", 2 * 1024 * 1024, 300)] {
        let path = work.join(file);
        let (mut floor, mut otto) = (Series::default(), Series::default());
        for round in 0..place.effort.of(count) {
            let began = Instant::now();
            let direct = tokio::fs::read(&path).await?;
            let plain = began.elapsed();
            let began = Instant::now();
            let through = read(host, "reader", &work, file).await?;
            let sandboxed = began.elapsed();
            anyhow::ensure!(
                direct.len() == bytes && through == bytes,
                "the file came whole"
            );
            // The first calls warm the caches and start the worker.
            if round > 2 || place.effort == super::Effort::Brief {
                floor.push(plain);
                otto.push(sandboxed);
            }
        }
        if file == "small" {
            let row = |table: &mut Table, what: &str, floor: f64, otto: f64, target| {
                let added = (otto - floor).max(0.0);
                table.add(
                    what,
                    &ms(floor),
                    &ms(otto),
                    (added, " ms"),
                    Target::AtMost(target),
                );
            };
            row(
                table,
                "`fs.read` of 1 KiB through a worker, added, p50",
                floor.p50(),
                otto.p50(),
                0.15,
            );
            row(table, "the same, p99", floor.p99(), otto.p99(), 1.0);
        } else {
            table.add(
                "`fs.read` of 2 MiB over the runtime's own read, p50",
                &ms(floor.p50()),
                &ms(otto.p50()),
                (otto.p50() / floor.p50(), "x"),
                Target::AtMost(3.0),
            );
        }
    }
    Ok(())
}

/// A worker that has to be started, with its first call.
async fn starts(
    level: &str,
    host: &WorkerHost,
    place: &Place,
    target: f64,
    table: &mut Table,
) -> Result<()> {
    let (mut cold, mut warm) = (Series::default(), Series::default());
    for number in 0..place.effort.of(150) {
        let agent = format!("start-{number}");
        for series in [&mut cold, &mut warm] {
            let began = Instant::now();
            read(host, &agent, &place.work(), "small").await?;
            series.push(began.elapsed());
        }
        host.end_idle_workers(&AgentName::new(&agent)?);
    }
    table.add(
        &format!("start of a worker at {level} with its first call, p50"),
        &format!("{} (warm)", ms(warm.p50())),
        &ms(cold.p50()),
        (cold.p50(), " ms"),
        Target::AtMost(target),
    );
    Ok(())
}

/// A thousand workers alive, sixty-four callers.
async fn many(host: &WorkerHost, place: &Place, table: &mut Table) -> Result<()> {
    const CALLERS: usize = 64;
    let agents = match place.effort {
        super::Effort::Brief => 50,
        super::Effort::Full => 1000,
    };
    let calls = place.effort.of(400);
    let work: Arc<Path> = place.work().into();
    let before = available_kib()?;
    for number in 0..agents {
        read(host, &format!("agent-{number}"), &work, "small").await?;
    }
    let taken = before.saturating_sub(available_kib()?);
    let path: Arc<Path> = work.join("small").into();
    let (floor, _) = callers(CALLERS, calls, move |_| {
        let path = Arc::clone(&path);
        async move { Ok(tokio::fs::read(path).await?.len()) }
    })
    .await?;
    let work_of_rate = Arc::clone(&work);
    let asking = host.clone();
    let (otto, times) = callers(CALLERS, calls, move |number| {
        let (host, work) = (asking.clone(), Arc::clone(&work));
        async move { read(&host, &format!("agent-{}", number % agents), &work, "small").await }
    })
    .await?;
    let asking = host.clone();
    let offered = at_rate(CALLERS, calls, move |number| {
        let (host, work) = (asking.clone(), Arc::clone(&work_of_rate));
        async move { read(&host, &format!("agent-{}", number % agents), &work, "small").await }
    })
    .await?;
    for number in 0..agents {
        host.end_idle_workers(&AgentName::new(&format!("agent-{number}"))?);
    }
    let what = format!("{agents} workers, {CALLERS} callers");
    let per_second = |rate: f64| format!("{}/s", number(rate));
    table.add(
        &format!("{what}: calls per second"),
        &per_second(floor),
        &per_second(otto),
        (otto, "/s"),
        Target::AtLeast(10_000.0),
    );
    for (load, times) in [
        ("as fast as they can", &times),
        ("10,000/s together", &offered),
    ] {
        table.add(
            &format!("{what}, {load}: p99"),
            &format!("{} at p50", ms(times.p50())),
            &ms(times.p99()),
            (times.p99(), " ms"),
            Target::AtMost(10.0),
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a few gibibytes at most")]
    let each = taken as f64 / agents as f64 / 1024.0;
    table.add(
        "an idle worker, all memory of the machine that it takes",
        "",
        &format!("{} MiB", number(each)),
        (each, " MiB"),
        Target::AtMost(1.0),
    );
    Ok(())
}

/// Runs `count` calls of each of `callers` tasks; the rate and the time of each.
async fn callers<F, R>(callers: usize, count: usize, call: F) -> Result<(f64, Series)>
where
    F: Fn(usize) -> R + Send + Sync + 'static,
    R: Future<Output = Result<usize>> + Send,
{
    let call = Arc::new(call);
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let call = Arc::clone(&call);
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(count);
                for number in 0..count {
                    let began = Instant::now();
                    // Both numbers are primes, so that callers do not follow each other.
                    call(caller * 7919 + number * 104_729).await?;
                    times.push(began.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Series::default();
    for task in tasks {
        times.extend(task.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand calls")]
    let rate = (callers * count) as f64 / began.elapsed().as_secs_f64();
    Ok((rate, times))
}

/// The time of each call when ten thousand fall due in every second, each counted from the moment it was due: a
/// call that waits because the ones before it are late is late as well.
async fn at_rate<F, R>(callers: usize, count: usize, call: F) -> Result<Series>
where
    F: Fn(usize) -> R + Send + Sync + 'static,
    R: Future<Output = Result<usize>> + Send,
{
    const APART: Duration = Duration::from_micros(100);
    let call = Arc::new(call);
    let next = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let total = u32::try_from(callers * count)?;
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (call, next) = (Arc::clone(&call), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::with_capacity(count);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return anyhow::Ok(times);
                    }
                    let due = began + APART * number;
                    tokio::time::sleep_until(due.into()).await;
                    call(number as usize * 7919).await?;
                    times.push(due.elapsed());
                }
            })
        })
        .collect();
    let mut times = Series::default();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(times)
}

/// What the kernel could still give out.
fn available_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .context("read MemAvailable of /proc/meminfo")
}
