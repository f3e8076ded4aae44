//! Programs in their sealed sandboxes: launching one, from a large parent too, a test run, and the end of a
//! whole tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use otto_sandbox::{Booted, ExecEnd, ExecRequest, HostConfig, LevelChoice, WorkerHost};

use super::table::{Series, Table, Target, ms};
use super::{Place, own_dir, shown};

pub(super) async fn measure(booted: &Booted, place: &Place, table: &mut Table) -> Result<()> {
    let host = place.host(booted, LevelChoice::ForcedL2).await?;
    let (small_floor, small) = launches(&host, place).await?;
    table.add(
        "launch of a program over a plain spawn, added, p50",
        &ms(small_floor.p50()),
        &ms(small.p50()),
        ((small.p50() - small_floor.p50()).max(0.0), " ms"),
        Target::AtMost(8.0),
    );
    let gibibytes = match place.effort {
        super::Effort::Brief => 0,
        super::Effort::Full => 2,
    };
    // Written to, so that every page is there.
    let ballast = vec![1_u8; gibibytes << 30];
    let (_, large) = launches(&host, place).await?;
    ensure!(ballast.last() != Some(&0), "the ballast is there");
    drop(ballast);
    table.add(
        &format!("the same with {gibibytes} GiB in the parent, p50"),
        &format!("{} (small parent)", ms(small.p50())),
        &ms(large.p50()),
        (large.p50() / small.p50(), "x"),
        Target::AtMost(1.5),
    );
    kill(&host, place, table).await?;
    cargo_test(booted, place, table).await
}

fn request(program: &str, args: &[&str]) -> ExecRequest {
    ExecRequest {
        program: program.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        dir: String::new(),
        time_limit: Duration::from_secs(60),
        max_output_bytes: 64 * 1024,
    }
}

async fn exec(host: &WorkerHost, work: &Path, request: ExecRequest) -> Result<ExecEnd> {
    let deadline = Instant::now() + request.time_limit;
    Ok(host.exec_until(work, request, deadline).await?.end)
}

/// `/bin/true`, plain and sandboxed in turn.
async fn launches(host: &WorkerHost, place: &Place) -> Result<(Series, Series)> {
    let (mut floor, mut otto) = (Series::default(), Series::default());
    for _ in 0..place.effort.of(120) {
        let began = Instant::now();
        let status = Command::new("/bin/true")
            .env_clear()
            .stdout(Stdio::null())
            .status()?;
        floor.push(began.elapsed());
        let began = Instant::now();
        let end = exec(host, &place.work(), request("/bin/true", &[])).await?;
        otto.push(began.elapsed());
        ensure!(status.success() && end == ExecEnd::Exited(0), "{end:?}");
    }
    Ok((floor, otto))
}

/// From the moment a call is dropped to the last sign of life of a daemon that it has left behind.
async fn kill(host: &WorkerHost, place: &Place, table: &mut Table) -> Result<()> {
    // BOUND: a tree that has not stopped by then never does.
    const LONGEST: Duration = Duration::from_secs(2);
    const QUIET: Duration = Duration::from_millis(60);
    let work = own_dir(place, "kill")?;
    let beat = work.join("beat");
    let script =
        "setsid sh -c 'trap : TERM HUP INT; while :; do echo x >> beat; done' & exec sleep 60";
    let mut times = Series::default();
    for _ in 0..place.effort.of(60) {
        let _ = fs::remove_file(&beat);
        let size = || fs::metadata(&beat).map_or(0, |meta| meta.len());
        let mut running = Box::pin(exec(host, &work, request("sh", &["-c", script])));
        while size() == 0 {
            tokio::select! {
                end = &mut running => anyhow::bail!("the tree ended by itself: {:?}", end?),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        let began = Instant::now();
        drop(running);
        let (mut last, mut seen) = (began, size());
        while last.elapsed() < QUIET && began.elapsed() < LONGEST {
            let now = size();
            if now != seen {
                (last, seen) = (Instant::now(), now);
            }
            std::hint::spin_loop();
        }
        times.push(last - began);
    }
    for (share, time) in [("p50", times.p50()), ("p99", times.p99())] {
        table.add(
            &format!("end of a tree with a daemon, from the drop of its call, {share}"),
            "",
            &ms(time),
            (time, " ms"),
            Target::AtMost(50.0),
        );
    }
    Ok(())
}

/// Edit and test of a small project.
async fn cargo_test(booted: &Booted, place: &Place, table: &mut Table) -> Result<()> {
    let Some(toolchain) = toolchain() else {
        eprintln!("notice: no cargo was found beside the compiler; `cargo test` is not measured");
        return Ok(());
    };
    let work = own_dir(place, "project")?;
    fs::create_dir_all(work.join("src"))?;
    fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    )?;
    let home = shown(&work.join("cargo-home"));
    let mut config: HostConfig = place.config(LevelChoice::ForcedL2);
    // A toolchain of the system is where programs look anyway.
    if toolchain != Path::new("/usr") {
        config.exec.read_only.push(toolchain.clone());
    }
    config
        .exec
        .env
        .push(("CARGO_HOME".to_owned(), home.clone()));
    let host = booted.host(config);
    host.prove().await?;
    let path = format!("{}:/usr/bin:/bin", shown(&toolchain.join("bin")));
    let args = ["test", "--offline", "--quiet"];
    let (mut floor, mut otto) = (Series::default(), Series::default());
    for round in 0..place.effort.of(10) {
        edit(&work, round * 2)?;
        let began = Instant::now();
        let output = Command::new(toolchain.join("bin/cargo"))
            .args(args)
            .current_dir(&work)
            .env_clear()
            .env("PATH", &path)
            .env("HOME", "/tmp")
            .env("CARGO_HOME", &home)
            .output()?;
        let plain = began.elapsed();
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        edit(&work, round * 2 + 1)?;
        let began = Instant::now();
        let end = exec(&host, &work, request("cargo", &args)).await?;
        let sandboxed = began.elapsed();
        ensure!(end == ExecEnd::Exited(0), "cargo test: {end:?}");
        // The first one makes the target directory.
        if round > 0 {
            floor.push(plain);
            otto.push(sandboxed);
        }
    }
    table.add(
        "`cargo test` of a small project after an edit, p50",
        &ms(floor.p50()),
        &ms(otto.p50()),
        (otto.p50() / floor.p50(), "x"),
        Target::AtMost(1.15),
    );
    Ok(())
}

fn edit(work: &Path, number: usize) -> Result<()> {
    let text = format!(
        "pub fn number() -> usize {{ {number} }}\n\n#[test]\nfn it_is() {{ assert_eq!(number(), {number}); }}\n"
    );
    fs::write(work.join("src/lib.rs"), text).context("edit the project")
}

/// The toolchain that runs this benchmark. Only the compiler itself knows where it is: what is on the search path
/// may be a shim that chooses one.
fn toolchain() -> Option<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let root = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    root.join("bin/cargo").exists().then_some(root)
}
