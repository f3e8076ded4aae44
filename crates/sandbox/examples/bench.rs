//! Measures what the boundary costs on this host: starts of workers, calls, programs. Each figure is the
//! median and the 99th percentile of its series, in microseconds.
//!
//! `cargo run --release -p otto-sandbox --example bench`

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use otto_core::policy::{Permission, Permissions};
use otto_core::port::BoxFuture;
use otto_core::port::tool::Cancellation;
use otto_core::port::tool_host::{HostGrant, HostRequest, ToolHost};
use otto_core::{AgentName, ToolName};
use otto_sandbox::{
    Booted, ExecRequest, HostConfig, LevelChoice, ToolFailure, WorkerAnswer, WorkerCtx, WorkerHost,
    WorkerRequest, boot,
};

/// One tool: reads a file as a whole.
fn read(ctx: &WorkerCtx, request: &WorkerRequest) -> WorkerAnswer {
    let mut content = String::new();
    let opened = ctx
        .place(&request.input)
        .and_then(|place| place.dir.open_file(place.path));
    match opened.map(|mut open| std::io::Read::read_to_string(&mut open.file, &mut content)) {
        Ok(Ok(_)) => WorkerAnswer::Done { content },
        _ => WorkerAnswer::Failed(ToolFailure::for_model("read the file")),
    }
}

struct Never;

impl Cancellation for Never {
    fn is_cancelled(&self) -> bool {
        false
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let booted = boot(read);
    let root = std::env::temp_dir()
        .canonicalize()?
        .join(format!("otto-bench-{}", std::process::id()));
    std::fs::create_dir_all(root.join("work"))?;
    std::fs::create_dir_all(root.join("scratch"))?;
    std::fs::write(root.join("work/small"), "x".repeat(1024))?;
    std::fs::write(root.join("work/large"), "x".repeat(2 * 1024 * 1024))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let measured = runtime.block_on(measure(&booted, &root));
    std::fs::remove_dir_all(&root)?;
    measured
}

async fn measure(booted: &Booted, root: &Path) -> Result<(), Box<dyn Error>> {
    let work = root.join("work");
    let plain = series(2000, async || {
        tokio::fs::read(work.join("small")).await.map(drop)
    })
    .await?;
    report("the runtime's own read, 1 KiB", &plain);
    let plain_large = series(200, async || {
        tokio::fs::read(work.join("large")).await.map(drop)
    })
    .await?;
    report("the runtime's own read, 2 MiB", &plain_large);
    for (name, level) in [("l1", LevelChoice::ForcedL1), ("l2", LevelChoice::ForcedL2)] {
        let host = booted.host(HostConfig {
            level,
            ..HostConfig::new(root.join("scratch"))
        });
        let started = Instant::now();
        host.prove().await?;
        println!("{name}: self-test {} us", started.elapsed().as_micros());
        let mut number = 0;
        let starts = series(100, async || {
            number += 1;
            call(&host, &format!("start-{number}"), &work, "small").await
        })
        .await?;
        report(
            &format!("{name}: start of a worker and its first call"),
            &starts,
        );
        let small = series(5000, async || call(&host, "warm", &work, "small").await).await?;
        report(&format!("{name}: read 1 KiB through a worker"), &small);
        let large = series(200, async || call(&host, "warm", &work, "large").await).await?;
        report(&format!("{name}: read 2 MiB through a worker"), &large);
    }
    programs(booted, root, &work).await?;
    many(booted, root).await
}

async fn programs(booted: &Booted, root: &Path, work: &Path) -> Result<(), Box<dyn Error>> {
    let host = booted.host(HostConfig::new(root.join("scratch")));
    host.prove().await?;
    let plain = series(100, async || {
        Command::new("/bin/true")
            .env_clear()
            .stdout(Stdio::null())
            .status()
            .map(drop)
    })
    .await?;
    report("plain spawn of /bin/true", &plain);
    let sandboxed = series(100, async || {
        let request = ExecRequest {
            program: "/bin/true".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: String::new(),
            time_limit: Duration::from_secs(10),
            max_output_bytes: 1024,
        };
        host.exec_until(work, request, Instant::now() + Duration::from_secs(10))
            .await
            .map(drop)
    })
    .await?;
    report("l2: /bin/true in its own sandbox", &sandboxed);
    Ok(())
}

/// A thousand workers alive, sixty-four callers.
async fn many(booted: &Booted, root: &Path) -> Result<(), Box<dyn Error>> {
    const AGENTS: usize = 1000;
    const CALLERS: usize = 64;
    const CALLS: usize = 500;
    let host = booted.host(HostConfig::new(root.join("scratch")));
    host.prove().await?;
    let work: Arc<Path> = root.join("work").into();
    let started = Instant::now();
    for number in 0..AGENTS {
        call(&host, &format!("agent-{number}"), &work, "small").await?;
    }
    println!(
        "l2: {AGENTS} workers one after the other, {} us each",
        started.elapsed().as_micros() / AGENTS as u128
    );
    let started = Instant::now();
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (host, work) = (host.clone(), Arc::clone(&work));
        callers.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(CALLS);
            for number in 0..CALLS {
                let agent = format!("agent-{}", (caller * 7919 + number * 104_729) % AGENTS);
                let began = Instant::now();
                let done = call(&host, &agent, &work, "small").await;
                times.push(began.elapsed());
                done.map_err(|error| error.message)?;
            }
            Ok::<_, String>(times)
        }));
    }
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    let per_second = times.len() as u128 * 1_000_000 / started.elapsed().as_micros().max(1);
    times.sort_unstable();
    report(
        &format!("l2: {AGENTS} workers, {CALLERS} callers, {per_second} calls/s"),
        &times,
    );
    Ok(())
}

async fn call(
    host: &WorkerHost,
    agent: &str,
    work: &Path,
    file: &str,
) -> Result<(), otto_core::port::tool::ToolError> {
    let request = HostRequest {
        agent: AgentName::new(agent).expect("a short plain name"),
        tool: ToolName::new("read").expect("a short plain name"),
        input: file.into(),
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
    host.run(request).await.map(drop)
}

/// Times of `count` runs, sorted.
async fn series<E>(
    count: usize,
    mut one: impl AsyncFnMut() -> Result<(), E>,
) -> Result<Vec<Duration>, E> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        one().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn report(what: &str, sorted: &[Duration]) {
    let at =
        |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_micros();
    println!(
        "{what}: p50 {} us, p99 {} us, min {} us",
        at(50),
        at(99),
        at(0)
    );
}
