//! Otto, or its launcher, is killed at random moments while workers and whole trees of programs run: nothing of
//! it may be left.
//!
//! Three processes take part. The *collector* is who inherits every process whose parent has died
//! (`PR_SET_CHILD_SUBREAPER`), so nothing can hide from it, whatever session or group it went to; it kills only
//! what descends from itself. Below it, *Otto at work* keeps its sandbox busy until it is killed.

#![allow(unsafe_code, reason = "the collector asks the kernel for orphans")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every call here takes numbers only"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otto_core::port::tool::ToolErrorKind;
use otto_sandbox::{ExecRequest, HostConfig, WorkerHost, boot};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::attacks;
use crate::calls::join_all;
use crate::programs::VICTIMS;
use crate::world::{Call, NET, READ, READ_WRITE, Tree, block_on};

const ROUNDS: u32 = 12;
// BOUND: from the start of Otto: the start of its launcher, the self-test, and some time at work.
const LATEST_KILL_MS: u64 = 500;
// BOUND: what is not gone by then is left.
const GONE_WITHIN: Duration = Duration::from_secs(20);
// BOUND: Otto at work ends by itself, should its collector be gone.
const WORKING_TIME: Duration = Duration::from_secs(120);

pub fn nothing_is_left_whenever_otto_or_its_launcher_is_killed() {
    let seed = std::env::var("OTTO_TEST_SEED").map_or_else(
        |_| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(1, |now| u64::from(now.subsec_nanos()))
        },
        |text| text.parse().expect("OTTO_TEST_SEED is a number"),
    );
    println!("seed {seed} (OTTO_TEST_SEED={seed} repeats it)");
    let output = Command::new("/proc/self/exe")
        .args(["--as-collector", &seed.to_string()])
        .output()
        .expect("the test can be started once more");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "seed {seed}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Somebody was orphaned, or the kills came to nobody.
    let orphans = text
        .lines()
        .filter_map(|line| line.strip_prefix("orphans "));
    let orphans: u32 = orphans.filter_map(|count| count.parse::<u32>().ok()).sum();
    assert!(orphans >= ROUNDS, "seed {seed}: {orphans} orphans\n{text}");
}

/// The other sides of the test above. `false` when `mode` is none of them.
pub fn run_mode(mode: &str, args: &[String]) -> bool {
    match (mode, args) {
        ("--as-collector", [seed]) => collect(seed.parse().expect("a number")),
        ("--as-otto-at-work", [work, scratch]) => be_otto_at_work(Path::new(work), scratch.into()),
        _ => return false,
    }
    true
}

fn collect(seed: u64) {
    let on: libc::c_ulong = 1;
    let asked = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, on, 0, 0, 0) };
    assert_eq!(asked, 0, "every kernel since 3.4 gives orphans to who asks");
    let own_list = format!("/proc/self/task/{}/children", current().as_raw_nonzero());
    assert!(
        Path::new(&own_list).exists(),
        "this kernel lists the children of a process"
    );
    let mut random = seed | 1;
    for round in 0..ROUNDS {
        // Xorshift: spread well enough to find moments.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let delay = Duration::from_millis(random % LATEST_KILL_MS);
        let is_launcher = random >> 40 & 1 == 1;
        println!(
            "round {round}: {} after {} ms",
            if is_launcher { "the launcher" } else { "otto" },
            delay.as_millis()
        );
        println!("orphans {}", one_round(delay, is_launcher));
    }
}

/// Lets Otto work for `delay`, kills one of the two, and waits until nothing is left. The number of orphans.
#[expect(
    clippy::zombie_processes,
    reason = "everybody is collected by `collect_ended`"
)]
fn one_round(delay: Duration, is_launcher: bool) -> u32 {
    let tree = Tree::new();
    let otto = Command::new("/proc/self/exe")
        .args([
            "--as-otto-at-work",
            &tree.text("work"),
            &tree.text("scratch"),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the test can be started once more");
    let otto = Pid::from_raw(otto.id().cast_signed()).expect("a process has a number");
    // The moment itself is what is random here; nothing waits for it.
    std::thread::sleep(delay);
    let mut orphans = 0;
    let launcher = children_of(otto).first().copied();
    if let (true, Some(launcher)) = (is_launcher, launcher) {
        kill_process(launcher, Signal::KILL).expect("it is not collected yet");
        // Otto lives on and can be asked nothing; what its launcher made is gone all the same.
        until("the launcher has been killed", || {
            orphans += collect_ended();
            let rest = children_of(current());
            let of_launcher = children_of(launcher);
            rest == [otto] && of_launcher.is_empty()
        });
    }
    kill_process(otto, Signal::KILL).expect("it is not collected yet");
    until("otto has been killed", || {
        orphans += collect_ended();
        children_of(current()).is_empty()
    });
    // Otto itself was no orphan.
    orphans - 1
}

fn current() -> Pid {
    rustix::process::getpid()
}

/// Collects everybody who has ended, and says how many.
fn collect_ended() -> u32 {
    let mut ended = 0;
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {
        ended += 1;
    }
    ended
}

/// Waits for `is_done`, or ends what is left and fails.
fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_done() {
        if began.elapsed() > GONE_WITHIN {
            let left = descendants();
            let shown: Vec<String> = left.iter().map(|pid| shown(*pid)).collect();
            for pid in &left {
                let _ = kill_process(*pid, Signal::KILL);
            }
            panic!("after {what} there are left:\n{}", shown.join("\n"));
        }
        std::thread::yield_now();
    }
}

/// What the kernel says about a process that is left: its state, its parent, its numbers in namespaces.
fn shown(pid: Pid) -> String {
    let pid = pid.as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let wanted = ["State:", "PPid:", "NSpid:", "Seccomp:", "Threads:"];
    let lines = status
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let shown: Vec<String> = lines.map(|line| line.replace('\t', " ")).collect();
    format!("{pid} ({})", shown.join(", "))
}

/// Everybody below this process.
fn descendants() -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut open = vec![current()];
    while let Some(parent) = open.pop() {
        for child in children_of(parent) {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// The children of a process with one thread, those that have ended and are not collected among them.
fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children"));
    let threads = fs::read_dir(format!("/proc/{parent}/task"));
    let children: Vec<String> = threads
        .into_iter()
        .flatten()
        .filter_map(|thread| of_thread(thread.ok()?).ok())
        .collect();
    let numbers = children.iter().flat_map(|list| list.split_whitespace());
    numbers
        .filter_map(|number| Pid::from_raw(number.parse().ok()?))
        .collect()
}

fn be_otto_at_work(work: &Path, scratch: PathBuf) {
    let booted = boot(attacks::dispatch);
    let own_path = std::env::current_exe().expect("this program is a file");
    let mut config = HostConfig::new(scratch);
    let own_dir = own_path.parent().expect("a file is in a directory");
    config.exec.read_only.push(own_dir.to_owned());
    let host = booted.host(config);
    let begun = Instant::now();
    block_on(async {
        let workers = join_all((0..6).map(|number| keep_a_worker_busy(&host, work, number, begun)));
        let programs = join_all(VICTIMS.map(|victim| run_victim(&host, work, &own_path, victim)));
        let _ = tokio::time::timeout(WORKING_TIME, async { tokio::join!(workers, programs) }).await;
        // Without its launcher Otto lives on until it is killed.
        tokio::time::sleep_until((begun + WORKING_TIME).into()).await;
    });
}

/// Short calls, calls that never end, and workers that have an egress process beside them.
async fn keep_a_worker_busy(host: &WorkerHost, work: &Path, number: u32, begun: Instant) {
    let agent = format!("agent-{number}");
    while begun.elapsed() < WORKING_TIME {
        let mut call = match number % 3 {
            0 => Call::new("echo", "x", READ, work),
            1 => Call::new("hang", "", READ_WRITE, work).within(Duration::from_millis(50)),
            _ => Call::new("echo", "x", NET, work),
        };
        if number % 3 == 2 {
            call.grant.working_dir = None;
            call.grant.allowed_hosts = vec!["localhost:1".into()];
        }
        let ended = call.of(&agent).run(host).await;
        if ended.is_err_and(|error| error.kind != ToolErrorKind::TimedOut) {
            return;
        }
    }
}

async fn run_victim(host: &WorkerHost, work: &Path, own_path: &Path, victim: &str) {
    let lock = work.join(format!("lock-{victim}"));
    let request = ExecRequest {
        program: own_path.display().to_string(),
        args: ["--victim", victim, &lock.display().to_string()]
            .map(str::to_owned)
            .to_vec(),
        env: Vec::new(),
        dir: String::new(),
        time_limit: WORKING_TIME,
        max_output_bytes: 1024,
    };
    let _ = host
        .exec_until(work, request, Instant::now() + WORKING_TIME)
        .await;
}
