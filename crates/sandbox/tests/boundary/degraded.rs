//! Hosts that can do less: a container, a kernel without Landlock, a filter in the way. What must come of
//! each is a lower level or a refusal with a reason, never a silent pass. And Otto's own lock.
//!
//! Each host is emulated in a process of its own by a filter that is installed before the sandbox starts.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use otto_core::port::tool_host::ToolHost;
use otto_sandbox::{ExecRequest, HostConfig, LevelChoice, LockConfig, boot, booted, lock_main};

use crate::attacks;
use crate::world::{Call, INSIDE, READ, Tree, block_on};

/// Starts this program once more with `mode`, and returns what it printed.
fn as_mode(mode: &str, args: &[&str]) -> String {
    let output = Command::new("/proc/self/exe")
        .arg(mode)
        .args(args)
        .output()
        .expect("the test can be started once more");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{mode} {args:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn in_a_container_the_level_is_l1() {
    let text = as_mode("--as-container", &[]);
    assert!(text.contains("level l1"), "{text}");
    assert!(text.contains("read inside"), "{text}");
    assert!(text.contains("outside errno 13"), "{text}");
    assert!(text.contains("programs need level l2"), "{text}");
    assert!(text.contains("namespaces MISSING fix: "), "{text}");
    assert!(text.contains("checks failed 0 of 75"), "{text}");
}

/// User namespaces that the operator has switched off, by the setting itself.
pub fn without_user_namespaces_the_level_is_l1_and_doctor_names_the_setting() {
    let text = as_mode("--as-without-user-namespaces", &[]);
    assert!(text.contains("level l1"), "{text}");
    assert!(text.contains("read inside"), "{text}");
    assert!(text.contains("outside errno 13"), "{text}");
    assert!(
        text.contains("namespaces MISSING fix: set `sysctl user.max_user_namespaces="),
        "{text}"
    );
    assert!(text.contains("checks failed 0 of 75"), "{text}");
    // Programs need more than workers.
    assert!(text.contains("programs need level l2"), "{text}");
    assert!(text.contains("program refused"), "{text}");
    // In the same place without the setting everything is there, so it is the setting that was tested.
    let text = as_mode("--as-in-user-namespace", &[]);
    assert!(text.contains("level l2"), "{text}");
    assert!(text.contains("program Exited(0)"), "{text}");
}

pub fn without_landlock_nothing_runs() {
    for (errno, hint) in [
        (libc::ENOSYS, "CONFIG_SECURITY_LANDLOCK"),
        (libc::EOPNOTSUPP, "`lsm=` boot parameter"),
        (libc::EPERM, "seccomp profile"),
    ] {
        let text = as_mode(
            "--as-host-without",
            &["landlock_create_ruleset", &errno.to_string()],
        );
        assert!(
            text.contains("refused sandbox_unavailable"),
            "{errno}: {text}"
        );
        assert!(text.contains(hint), "{errno}: {text}");
        assert!(text.contains("call refused"), "{errno}: {text}");
    }
}

/// Every call that the confinement is made of, failing in each way that hosts make it fail.
pub fn a_call_that_fails_lowers_the_level_or_refuses() {
    for (call, expected) in [
        ("landlock_add_rule", "refused sandbox_unavailable"),
        ("landlock_restrict_self", "refused sandbox_unavailable"),
        ("seccomp", "refused sandbox_unavailable"),
        ("capset", "refused sandbox_unavailable"),
        ("prctl", "refused sandbox_unavailable"),
        ("openat2", "refused sandbox_unavailable"),
        ("close_range", "refused sandbox_unavailable"),
        ("mount", "level l1"),
        ("open_tree", "level l1"),
        ("move_mount", "level l1"),
        ("mount_setattr", "level l1"),
        ("fsopen", "level l1"),
        ("pivot_root", "level l1"),
        ("umount2", "level l1"),
    ] {
        for errno in [libc::ENOSYS, libc::EPERM, libc::EOPNOTSUPP] {
            let text = as_mode("--as-host-without", &[call, &errno.to_string()]);
            assert!(text.contains(expected), "{call} fails with {errno}: {text}");
            let outcome = if expected.starts_with("level") {
                "call answered"
            } else {
                "call refused"
            };
            assert!(text.contains(outcome), "{call} fails with {errno}: {text}");
        }
    }
}

/// A shortage is not a missing mechanism: the level is not lowered for it.
pub fn a_shortage_refuses_and_lowers_nothing() {
    let text = as_mode("--as-exhausted", &[]);
    assert!(text.contains("refused sandbox_unavailable"), "{text}");
    assert!(text.contains("call refused"), "{text}");
    assert!(!text.contains("level l1"), "{text}");
}

pub fn the_opt_out_is_not_reached_by_environment() {
    let output = Command::new("/proc/self/exe")
        .args(["--as-host-without", "none", "0"])
        .envs(
            [
                "OTTO_SANDBOX",
                "OTTO_SANDBOX_LEVEL",
                "OTTO_NO_SANDBOX",
                "OTTO_LEVEL",
            ]
            .map(|name| (name, "none")),
        )
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("level l2"), "{text}");
    assert!(text.contains("outside errno"), "{text}");
}

/// A tool that forgot its worker and runs in Otto itself.
pub fn a_locked_main_process_reaches_nothing() {
    let text = as_mode("--as-locked", &[]);
    for place in ["main", "task", "blocking", "thread"] {
        for attempt in ["passwd", "file", "list", "create", "run", "signal"] {
            let line = format!("{place} {attempt} ");
            let found = text
                .lines()
                .find(|text| text.starts_with(&line))
                .unwrap_or_default();
            let errno = found.rsplit(' ').next().unwrap_or_default();
            let expected = if attempt == "signal" {
                libc::EPERM
            } else {
                libc::EACCES
            };
            assert_eq!(errno, expected.to_string(), "{line}: {text}");
        }
    }
    // What it keeps.
    assert!(text.contains("state written"), "{text}");
    assert!(text.contains("worker inside"), "{text}");
    assert!(text.contains("program Exited(0)"), "{text}");
    assert!(text.contains("level l2"), "{text}");
    // With the lock off the same attempts work, so the test proves something.
    let text = as_mode("--as-unlocked", &[]);
    for attempt in ["passwd", "file", "list", "create", "run", "signal"] {
        assert!(text.contains(&format!("main {attempt} 0")), "{text}");
    }
}

pub fn a_lock_that_comes_too_late_is_refused() {
    let text = as_mode("--as-locked-late", &[]);
    assert!(text.contains("more than one thread"), "{text}");
    let text = as_mode("--as-locked-unbooted", &[]);
    assert!(text.contains("call `boot` at the first line"), "{text}");
}

/// The suite once more, by a user without privileges.
pub fn a_normal_user_is_confined_as_well() {
    if !crate::world::is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let tree = Tree::new();
    std::fs::create_dir(tree.path("program")).unwrap();
    let program = tree.path("program/boundary");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(tree.path("tmp")).unwrap();
    std::fs::set_permissions(tree.path("tmp"), std::fs::Permissions::from_mode(0o777)).unwrap();
    // A program that shows who runs it, and that belongs to root: for the test of `no_new_privs`.
    let mut set_user_id = None;
    if std::path::Path::new("/usr/bin/id").exists() {
        let id = tree.path("program/id");
        std::fs::copy("/usr/bin/id", &id).unwrap();
        std::fs::set_permissions(&id, std::fs::Permissions::from_mode(0o4755)).unwrap();
        set_user_id = Some(id);
    }
    let output = Command::new(&program)
        .env_clear()
        .envs(set_user_id.map(|id| ("OTTO_TEST_SET_USER_ID", id)))
        .args([
            "--skip",
            "no_race_with_links_is_lost",
            "--skip",
            "a_thousand_agents",
            "--skip",
            "a_normal_user",
        ])
        .env("TMPDIR", tree.path("tmp"))
        .env("SOMETHING", "that no program may see")
        .current_dir(tree.path("tmp"))
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!(
        "{}",
        text.lines()
            .map(|line| format!("  as a normal user: {line}\n"))
            .collect::<String>()
    );
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other sides of the tests above. `None` when `mode` is none of them.
pub fn run_mode(mode: &str, args: &[String]) -> Option<ExitCode> {
    match mode {
        "--as-container" => {
            attacks::refuse_like_a_container();
            report();
        }
        "--as-in-user-namespace" | "--as-without-user-namespaces" => {
            attacks::enter_user_namespace();
            if mode == "--as-without-user-namespaces" {
                attacks::allow_no_more_namespaces();
            }
            report();
        }
        "--as-exhausted" => {
            attacks::refuse_namespaces(libc::EAGAIN);
            report();
        }
        "--as-host-without" => {
            let call = args.first().expect("a call");
            let errno = args
                .get(1)
                .and_then(|text| text.parse().ok())
                .expect("an error number");
            if call != "none" {
                attacks::refuse_calls(&[attacks::call_number(call)], errno);
            }
            report();
        }
        "--as-locked" | "--as-unlocked" => attempt_in_main(mode == "--as-locked"),
        "--as-locked-late" => {
            let _booted = boot(attacks::dispatch);
            std::thread::scope(|scope| {
                let (wait, wake) = std::sync::mpsc::channel::<()>();
                scope.spawn(move || wake.recv());
                println!(
                    "{:?}",
                    lock_main(&LockConfig::default()).map_err(|error| error.to_string())
                );
                drop(wait);
            });
        }
        "--as-locked-unbooted" => {
            println!(
                "{:?}",
                lock_main(&LockConfig::default()).map_err(|error| error.to_string())
            );
        }
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

fn report() {
    let booted = boot(attacks::dispatch);
    let tree = Tree::new();
    let host = booted.host(HostConfig::new(tree.path("scratch")));
    block_on(async {
        match host.prove().await {
            Ok(level) => println!("level {}", level.as_str()),
            Err(error) => println!("refused {error}"),
        }
        if let Ok(report) = host.doctor().await {
            for mechanism in report
                .mechanisms
                .iter()
                .filter(|mechanism| !mechanism.works)
            {
                println!(
                    "{} MISSING fix: {}",
                    mechanism.name,
                    mechanism.fix.as_deref().unwrap_or_default()
                );
            }
            println!("{}", report.exec_refusal.unwrap_or_default());
            let failed = report.checks.iter().filter(|check| !check.passed).count();
            println!("checks failed {failed} of {}", report.checks.len());
        }
        let call = Call::new("dir-read", "file", READ, &tree.path("work"));
        match call.run(&host).await {
            Ok(answer) => println!("call answered; read {answer}"),
            Err(error) => println!("call refused: {error}"),
        }
        let call = Call::new(
            "read",
            tree.text("outside/canary"),
            READ,
            &tree.path("work"),
        );
        println!(
            "outside {}",
            call.run(&host)
                .await
                .unwrap_or_else(|error| error.to_string())
        );
        let deadline = Instant::now() + TIME_OF_A_PROGRAM;
        match host
            .exec_until(&tree.path("work"), true_program(), deadline)
            .await
        {
            Ok(outcome) => println!("program {:?}", outcome.end),
            Err(error) => println!("program refused: {error}"),
        }
    });
}

const TIME_OF_A_PROGRAM: Duration = Duration::from_secs(60);

fn true_program() -> ExecRequest {
    ExecRequest {
        program: "true".to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        dir: String::new(),
        time_limit: TIME_OF_A_PROGRAM,
        max_output_bytes: 1024,
    }
}

/// What a tool that runs in Otto itself attempts, from every kind of thread there is.
fn attempt_in_main(is_locked: bool) {
    let booted = boot(attacks::dispatch);
    let tree = Tree::new();
    let witness = crate::world::Witness::new();
    let pid = witness.pid();
    if is_locked {
        let config = LockConfig {
            read_write: vec![tree.path("scratch")],
            ..LockConfig::default()
        };
        lock_main(&config).expect("this host can lock the main process");
    }
    let work = tree.path("work");
    attempt("main", &work, pid);
    let host = booted.host(HostConfig::new(tree.path("scratch")));
    block_on(async {
        let path = work.clone();
        tokio::spawn(async move { attempt("task", &path, pid) })
            .await
            .expect("it does not panic");
        let path = work.clone();
        tokio::task::spawn_blocking(move || attempt("blocking", &path, pid))
            .await
            .expect("it does not panic");
        let path = work.clone();
        std::thread::spawn(move || attempt("thread", &path, pid))
            .join()
            .expect("it does not panic");
        if std::fs::write(tree.path("scratch/state"), "x").is_ok() {
            println!("state written");
        }
        let answer = Call::new("dir-read", "file", READ, &work)
            .run(&host)
            .await
            .expect("the worker is not locked");
        assert_eq!(answer, INSIDE);
        println!("worker {answer}");
        let deadline = Instant::now() + TIME_OF_A_PROGRAM;
        let outcome = host
            .exec_until(&work, true_program(), deadline)
            .await
            .expect("programs run here");
        println!("program {:?}", outcome.end);
        println!("level {}", host.enforcement().as_str());
    });
}

fn attempt(place: &str, work: &Path, witness: u32) {
    let say = |attempt: &str, result: std::io::Result<()>| {
        println!(
            "{place} {attempt} {}",
            result
                .err()
                .and_then(|error| error.raw_os_error())
                .unwrap_or(0)
        );
    };
    say("passwd", std::fs::read("/etc/passwd").map(drop));
    say("file", std::fs::read(work.join("file")).map(drop));
    say("list", std::fs::read_dir(work).map(drop));
    say(
        "create",
        std::fs::write(work.join(format!("by-{place}")), "x"),
    );
    say("run", Command::new("/bin/true").status().map(drop));
    let pid = rustix::process::Pid::from_raw(i32::try_from(witness).expect("a process number"))
        .expect("not zero");
    say(
        "signal",
        rustix::process::test_kill_process(pid).map_err(Into::into),
    );
}

/// The choice of an operator who opts out is visible in what the host says about itself.
pub fn the_opt_out_is_visible() {
    let tree = Tree::new();
    let host = booted().host(HostConfig {
        level: LevelChoice::OperatorOptOut,
        ..tree.config(LevelChoice::Strongest)
    });
    block_on(async {
        assert_eq!(host.prove().await.unwrap().as_str(), "none");
        assert_eq!(host.doctor().await.unwrap().level.as_str(), "none");
    });
}
