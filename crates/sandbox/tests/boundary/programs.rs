//! Programs in their sealed sandboxes: what they find, what they cannot reach, and that they end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use otto_core::policy::{Permission, RefusedBy};
use otto_core::port::tool::ToolErrorKind;
use otto_sandbox::{
    ExecEnd, ExecNetwork, ExecOutcome, ExecRequest, HostConfig, LevelChoice, WorkerHost, booted,
};

use crate::world::{Call, EXEC, READ, SECRET, Tree, Witness, block_on, is_root};

/// A host whose programs find this test itself.
fn host(tree: &Tree, change: impl FnOnce(&mut HostConfig)) -> WorkerHost {
    let mut config = tree.config(LevelChoice::ForcedL2);
    config.exec.read_only.push(own_dir());
    change(&mut config);
    booted().host(config)
}

fn own_dir() -> PathBuf {
    own_path()
        .parent()
        .expect("a file is in a directory")
        .to_owned()
}

fn own_path() -> PathBuf {
    std::env::current_exe().expect("this program is a file")
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

fn exec(host: &WorkerHost, work: &Path, request: ExecRequest) -> ExecOutcome {
    let deadline = Instant::now() + Duration::from_secs(100);
    block_on(host.exec_until(work, request, deadline)).expect("programs can run here")
}

/// What a script prints, with both streams, and how it ended.
fn sh(host: &WorkerHost, work: &Path, script: &str) -> (ExecEnd, String) {
    let outcome = exec(host, work, request("sh", &["-c", script]));
    let text = [outcome.stdout, outcome.stderr].concat();
    (outcome.end, String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn prints(host: &WorkerHost, tree: &Tree, script: &str, expected: &str) {
    let (end, printed) = sh(host, &tree.path("work"), script);
    assert_eq!(
        (end, printed.trim()),
        (ExecEnd::Exited(0), expected),
        "{script}"
    );
}

pub fn a_program_runs_and_its_end_is_told() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    prints(&host, &tree, "cat file; cat sub/file", "insideinside");
    prints(&host, &tree, "pwd", &tree.text("work"));
    prints(&host, &tree, "echo made > new; cat new", "made");
    assert_eq!(fs::read_to_string(tree.path("work/new")).unwrap(), "made\n");
    let (end, _) = sh(&host, &tree.path("work"), "exit 7");
    assert_eq!(end, ExecEnd::Exited(7));
    let (end, _) = sh(&host, &tree.path("work"), "kill -9 $$");
    assert_eq!(end, ExecEnd::Signaled(9));
    let outcome = exec(
        &host,
        &tree.path("work"),
        ExecRequest {
            dir: "sub".to_owned(),
            ..request("pwd", &[])
        },
    );
    assert_eq!(
        String::from_utf8_lossy(&outcome.stdout).trim(),
        tree.text("work/sub")
    );
}

/// A program that goes to a session of its own, and so out of the group it was started in.
pub fn the_end_of_a_program_in_a_session_of_its_own_is_told() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let run = ExecRequest {
        time_limit: Duration::from_secs(5),
        ..request(
            &own_path().display().to_string(),
            &["--victim", "leave-session"],
        )
    };
    let outcome = exec(&host, &tree.path("work"), run);
    assert_eq!(outcome.end, ExecEnd::Exited(3), "{outcome:?}");
}

pub fn a_program_that_does_not_start_says_why() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let not_started = |request| match exec(&host, &tree.path("work"), request).end {
        ExecEnd::NotStarted(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert!(
        not_started(request("no-such-program", &[])).contains("was not found on the search path")
    );
    assert!(not_started(request("./file", &[])).contains("ermission denied"));
    let missing = ExecRequest {
        dir: "no/such/dir".to_owned(),
        ..request("true", &[])
    };
    assert!(not_started(missing).contains("`no/such/dir` does not exist"));
}

pub fn a_program_gets_a_clean_environment() {
    let tree = Tree::new();
    let host = host(&tree, |config| {
        config
            .exec
            .env
            .push(("FROM_OPERATOR".to_owned(), "yes".to_owned()))
    });
    let with_env = ExecRequest {
        env: vec![("FROM_REQUEST".to_owned(), "yes".to_owned())],
        ..request("env", &[])
    };
    let outcome = exec(&host, &tree.path("work"), with_env);
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "FROM_OPERATOR",
            "FROM_REQUEST",
            "HOME",
            "LANG",
            "PATH",
            "TERM",
            "TMPDIR"
        ]
    );
    // This very process has more than that.
    assert!(std::env::vars_os().count() > 1);
}

pub fn a_program_sees_its_directory_and_the_system_and_nothing_else() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    for path in [
        tree.text("outside/canary"),
        tree.text("work-evil/canary"),
        "/root/.bashrc".into(),
        "/var/log".into(),
    ] {
        prints(
            &host,
            &tree,
            &format!("test -e {path} && echo there; true"),
            "",
        );
    }
    let (_, accounts) = sh(&host, &tree.path("work"), "cat /etc/passwd");
    assert_eq!(accounts.lines().count(), 1, "{accounts}");
    assert_ne!(accounts, fs::read_to_string("/etc/passwd").unwrap());
    // Process 1 is the supervisor and 2 the shell; what the shell itself starts comes after, and nobody else is there.
    let (_, processes) = sh(&host, &tree.path("work"), "ls /proc");
    let mut numbers: Vec<u32> = processes
        .lines()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    assert!(
        numbers.starts_with(&[1, 2]) && numbers.len() <= 4,
        "{numbers:?}"
    );
    assert!(
        !numbers.contains(&std::process::id()),
        "this process is not in there: {numbers:?}"
    );
    prints(
        &host,
        &tree,
        "cat link-out 2>/dev/null; cat /proc/1/environ 2>/dev/null; cat /proc/1/maps 2>/dev/null; true",
        "",
    );
    prints(
        &host,
        &tree,
        "kill -9 1 2>/dev/null; readlink /proc/1/fd/* /proc/1/exe /proc/1/cwd 2>/dev/null; echo lives",
        "lives",
    );
}

pub fn a_program_changes_its_directory_and_nothing_else() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let places = "/ /usr /usr/bin /etc /proc/sys/kernel /dev /var /run";
    prints(
        &host,
        &tree,
        &format!(
            "for d in {places}; do (echo x > $d/otto-boundary) 2>/dev/null && echo $d; done; true"
        ),
        "",
    );
    prints(
        &host,
        &tree,
        "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null || echo refused",
        "refused",
    );
    prints(
        &host,
        &tree,
        "(echo x > /proc/self/oom_score_adj) 2>/dev/null || echo refused",
        "refused",
    );
    prints(
        &host,
        &tree,
        "echo x > /tmp/mine && cat /tmp/mine && echo y > /dev/shm/mine && cat /dev/shm/mine",
        "x\ny",
    );
    assert!(!Path::new("/tmp/mine").exists(), "its /tmp is its own");
    prints(&host, &tree, "cat /tmp/mine 2>/dev/null; echo gone", "gone");
    prints(
        &host,
        &tree,
        "echo x > /dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c",
        "4\n4",
    );
    prints(
        &host,
        &tree,
        "mknod device c 1 3 2>/dev/null || echo refused",
        "refused",
    );
    prints(
        &host,
        &tree,
        "chmod 4755 file; chown 1:1 file 2>/dev/null || echo refused",
        "refused",
    );
}

pub fn protected_paths_stay_as_they_are_for_programs() {
    let tree = Tree::new();
    for dir in ["work/.otto", "work/.git", "work/.git/hooks"] {
        fs::create_dir(tree.path(dir)).unwrap();
    }
    fs::write(tree.path("work/.git/config"), "original").unwrap();
    let host = host(&tree, |_| {});
    for attempt in [
        "echo x > .otto/x",
        "mkdir .otto/agents",
        "rmdir .otto",
        "mv .otto elsewhere",
        "ln -sfn sub .otto/x",
        "echo x > .git/hooks/pre-commit",
        "echo x > .git/config",
        "rm .git/config",
        "mv .git elsewhere",
        "mv .git/hooks .git/other",
        "chmod 777 .git/config",
        "umount .otto",
        "mount -t tmpfs x .otto",
    ] {
        prints(
            &host,
            &tree,
            &format!("({attempt}) 2>/dev/null && echo did; true"),
            "",
        );
    }
    // Git itself works in there.
    prints(&host, &tree, "echo x > .git/index && cat .git/index", "x");
    assert_eq!(
        fs::read_to_string(tree.path("work/.git/config")).unwrap(),
        "original"
    );
    assert_eq!(fs::read_dir(tree.path("work/.otto")).unwrap().count(), 0);
}

pub fn a_program_has_no_network_but_its_own() {
    let tree = Tree::new();
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let socket = std::os::unix::net::UnixListener::bind(tree.path("outside/socket")).unwrap();
    let victim = own_path().display().to_string();
    let connect = format!("{victim} --victim connect {port}");
    for network in [ExecNetwork::None, ExecNetwork::Loopback] {
        let host = host(&tree, |config| config.exec.network = network);
        prints(&host, &tree, &connect, "refused");
        prints(
            &host,
            &tree,
            &format!(
                "{victim} --victim connect-unix {}",
                tree.text("outside/socket")
            ),
            "refused",
        );
        let own = format!("{victim} --victim own-server");
        prints(
            &host,
            &tree,
            &own,
            if network == ExecNetwork::None {
                "refused"
            } else {
                "connected"
            },
        );
    }
    drop(socket);
    // Outside the sandbox the same program connects.
    let output = Command::new(own_path())
        .args(["--victim", "connect", &port.to_string()])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "connected");
}

/// The attacks of [`crate::cases`] that concern programs, made by a program.
pub fn a_program_cannot_reach_into_the_kernel() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let victim = own_path().display().to_string();
    let mut wrong = Vec::new();
    for (tool, input) in [
        ("io-uring", ""),
        ("bpf", ""),
        ("perf", ""),
        ("userfaultfd", ""),
        ("add-key", ""),
        ("unshare", ""),
        ("setns", ""),
        ("mount", ""),
        ("open-tree", "."),
        ("pivot-root", ""),
        ("chroot", "sub"),
        ("open-by-handle", ""),
        ("shared-memory", ""),
        ("message-queue", ""),
        ("x32", ""),
        ("type-on-terminal", ""),
        ("personality", ""),
        ("trace", "1"),
        ("read-memory", "1\n0"),
        ("take-handle", "1"),
        ("limit", "1"),
        ("priority", "1"),
        ("signal", "1"),
        ("socket", "17\n3\n0"),
        ("socket", "40\n1\n0"),
        ("socket", "38\n5\n0"),
        ("socket", "2\n1\n132"),
        ("connect-mptcp", "9"),
        ("mkdevice", "device"),
    ] {
        // Devices are Landlock's business, everything else the filter's.
        let errno = if tool == "mkdevice" {
            libc::EACCES
        } else {
            libc::EPERM
        };
        let outcome = exec(
            &host,
            &tree.path("work"),
            request(&victim, &["--victim", "attack", tool, input]),
        );
        let printed = String::from_utf8_lossy(&outcome.stdout).into_owned();
        if printed.trim() != format!("errno {errno}") {
            wrong.push(format!("{tool} {input:?}: {printed:?} {:?}", outcome.end));
        }
    }
    let outcome = exec(
        &host,
        &tree.path("work"),
        request(&victim, &["--victim", "attack", "int80", ""]),
    );
    if cfg!(target_arch = "x86_64") && outcome.end != ExecEnd::Signaled(libc::SIGSYS) {
        wrong.push(format!("int80: {:?}", outcome.end));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A signal to everybody reaches the namespace of the program and nobody else.
pub fn a_signal_to_everybody_stays_in_the_namespace() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let mut witness = Witness::new();
    let outcome = exec(&host, &tree.path("work"), kill_everybody(&pid_namespace()));
    let printed = String::from_utf8_lossy(&outcome.stdout).into_owned();
    // The program's own child shows that the signal was sent.
    assert_eq!(
        (outcome.end, printed.trim()),
        (ExecEnd::Exited(0), "its child was killed"),
        "{}",
        String::from_utf8_lossy(&outcome.stderr)
    );
    assert!(witness.lives(), "who is outside was killed");
}

fn kill_everybody(outside: &str) -> ExecRequest {
    let own = own_path().display().to_string();
    request(&own, &["--victim", "kill-everybody", outside])
}

/// The namespace that no victim may be in that signals everybody.
fn pid_namespace() -> String {
    let name = fs::read_link("/proc/self/ns/pid").expect("this kernel has namespaces");
    name.display().to_string()
}

/// The same at level l1, where nothing but Landlock keeps the signal in. Should it not, then it reaches the
/// namespace that this test makes around Otto, and nobody else.
pub fn at_level_l1_a_signal_to_everybody_stays_in_the_tree() {
    if is_root() {
        // No programs at level l1.
        return;
    }
    let tree = Tree::new();
    let output = Command::new("/proc/self/exe")
        .arg("--as-otto-in-pid-namespace")
        .args([tree.text("work"), tree.text("scratch"), pid_namespace()])
        .output()
        .expect("the test can be started once more");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text,
        "Exited(0) its child was killed\nthe witness lives\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other side of the test above: an Otto that is process 1 of a namespace of its own.
pub fn as_otto_in_pid_namespace(args: &[String]) {
    let [work, scratch, outside] = args else {
        panic!("three arguments")
    };
    crate::attacks::enter_user_namespace();
    if !crate::attacks::become_first_process() {
        return;
    }
    let booted = otto_sandbox::boot(crate::attacks::dispatch);
    let mut config = HostConfig {
        level: LevelChoice::ForcedL1,
        ..HostConfig::new(scratch)
    };
    config.exec.allow_l1 = true;
    config.exec.read_only.push(own_dir());
    let mut witness = Witness::new();
    let outcome = exec(
        &booted.host(config),
        Path::new(work),
        kill_everybody(outside),
    );
    let printed = String::from_utf8_lossy(&outcome.stdout).into_owned();
    println!("{:?} {}", outcome.end, printed.trim());
    println!(
        "the witness {}",
        if witness.lives() {
            "lives"
        } else {
            "was killed"
        }
    );
}

/// An Otto that runs at a real-time priority keeps it for itself.
pub fn a_program_inherits_no_real_time_priority() {
    let tree = Tree::new();
    let output = Command::new("/proc/self/exe")
        .arg("--as-otto-in-real-time")
        .args([tree.text("work"), tree.text("scratch")])
        .output()
        .expect("the test can be started once more");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text == "no real-time priority\n" {
        println!("notice: this user may not have a real-time priority; this proves nothing");
        return;
    }
    assert_eq!(
        text,
        format!("otto {}, program {}\n", libc::SCHED_RR, libc::SCHED_OTHER),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The other side of the test above.
pub fn as_otto_in_real_time(args: &[String]) {
    let [work, scratch] = args else {
        panic!("two arguments")
    };
    if !crate::attacks::take_real_time() {
        println!("no real-time priority");
        return;
    }
    let booted = otto_sandbox::boot(crate::attacks::dispatch);
    let host = booted.host(HostConfig::new(scratch));
    const POLICY_FIELD: usize = 41;
    let own = fs::read_to_string("/proc/self/stat").expect("a process sees itself");
    let own = own.split(' ').nth(POLICY_FIELD - 1).unwrap_or_default();
    let script = format!("cut -d ' ' -f {POLICY_FIELD} /proc/self/stat");
    let (_, of_program) = sh(&host, Path::new(work), &script);
    println!("otto {own}, program {}", of_program.trim());
}

pub fn a_set_user_id_program_gains_nothing() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    prints(
        &host,
        &tree,
        "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs):' /proc/self/status | tr -d '\\t '",
        "CapInh:0000000000000000\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\nNoNewPrivs:1",
    );
    // Every mount is `nosuid`, so a set-user-id program is an ordinary one.
    prints(&host, &tree, "grep -vc nosuid /proc/self/mounts; true", "0");
    prints(
        &host,
        &tree,
        "cp /bin/sh mine && chmod 4755 mine && ./mine -c 'grep CapEff /proc/self/status' | tr -d '\\t '",
        "CapEff:0000000000000000",
    );
}

/// Each victim holds a lock for as long as anything of it lives.
pub const VICTIMS: [&str; 4] = ["ignore-signals", "daemon", "orphan", "hydra"];

pub fn nothing_outlives_the_time_limit() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    for victim in VICTIMS {
        let lock = tree.text("work/lock");
        let run = ExecRequest {
            time_limit: Duration::from_millis(700),
            ..request(
                &own_path().display().to_string(),
                &["--victim", victim, &lock],
            )
        };
        let outcome = exec(&host, &tree.path("work"), run);
        assert_eq!(outcome.end, ExecEnd::TimedOut, "{victim}");
        assert!(
            String::from_utf8_lossy(&outcome.stdout).contains("holds"),
            "{victim} was at work"
        );
        assert_dead(&lock, victim);
    }
}

pub fn nothing_outlives_the_program() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let lock = tree.text("work/lock");
    let outcome = exec(
        &host,
        &tree.path("work"),
        request(
            &own_path().display().to_string(),
            &["--victim", "leave-daemon", &lock],
        ),
    );
    assert_eq!(outcome.end, ExecEnd::Exited(0));
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("holds"));
    assert_dead(&lock, "the daemon");
}

pub fn nothing_outlives_a_dropped_call() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let lock = tree.text("work/lock");
    let run = request(
        &own_path().display().to_string(),
        &["--victim", "daemon", &lock],
    );
    block_on(async {
        host.prove().await.unwrap();
        let work = tree.path("work");
        let deadline = Instant::now() + Duration::from_secs(100);
        let mut running = Box::pin(host.exec_until(&work, run, deadline));
        // Until the victim is at work; then the call is dropped.
        let at_work = async {
            while !is_held(&lock) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = &mut running => panic!("{outcome:?}"),
            () = at_work => {}
        }
        drop(running);
    });
    assert_dead(&lock, "the daemon");
}

pub fn nothing_outlives_otto() {
    for victim in VICTIMS {
        let tree = Tree::new();
        let lock = tree.text("work/lock");
        let mut otto = Command::new("/proc/self/exe")
            .args([
                "--as-otto",
                victim,
                &tree.text("work"),
                &tree.text("scratch"),
                &own_dir().display().to_string(),
            ])
            .arg(own_path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // It says so when the program of the victim has printed that it is at work.
        BufReader::new(otto.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "running", "{victim}");
        while !is_held(&lock) {
            std::thread::yield_now();
        }
        otto.kill().unwrap();
        otto.wait().unwrap();
        assert_dead(&lock, victim);
    }
}

/// The other side of [`nothing_outlives_otto`]: a program that runs a victim until it is killed.
pub fn as_otto(args: &[String]) {
    let [victim, work, scratch, own_dir, own_path] = args else {
        panic!("five arguments")
    };
    let mut config = HostConfig::new(scratch);
    config.exec.read_only.push(PathBuf::from(own_dir));
    let host = booted().host(config);
    block_on(async {
        host.prove().await.unwrap();
        println!("running");
        let lock = format!("{work}/lock");
        let deadline = Instant::now() + Duration::from_secs(500);
        let run = ExecRequest {
            time_limit: Duration::from_secs(500),
            ..request(own_path, &["--victim", victim, &lock])
        };
        let outcome = host.exec_until(Path::new(work), run, deadline).await;
        panic!("{outcome:?}");
    });
}

pub fn a_flood_of_output_is_cut_and_takes_no_memory() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let before = resident();
    let run = ExecRequest {
        time_limit: Duration::from_secs(3),
        max_output_bytes: 1024 * 1024,
        ..request("yes", &[])
    };
    let outcome = exec(&host, &tree.path("work"), run);
    let grown = resident().saturating_sub(before);
    assert_eq!(outcome.end, ExecEnd::TimedOut);
    assert!(
        outcome.cut && outcome.stdout.len() <= 1024 * 1024 + 64,
        "{}",
        outcome.stdout.len()
    );
    assert!(grown <= 5 * 1024 * 1024, "grew by {grown} bytes");
    // The end of what was written is kept, where results are.
    let (_, text) = sh(
        &host,
        &tree.path("work"),
        "yes | head -c 1000000; echo; echo the end",
    );
    assert!(
        text.starts_with("y\ny\n")
            && text.ends_with("the end\n")
            && text.contains("bytes dropped here"),
        "{}",
        text.len()
    );
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

pub fn forks_are_bounded() {
    if is_root() {
        // The kernel does not apply the limit to uid 0.
        return;
    }
    let tree = Tree::new();
    let host = host(&tree, |config| config.exec.limits.processes = 64);
    let (end, printed) = sh(
        &host,
        &tree.path("work"),
        &format!("{} --victim forks", own_path().display()),
    );
    let forks: u32 = printed
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("{end:?} {printed}"));
    assert!((32..64).contains(&forks), "{forks}");
}

pub fn memory_is_bounded() {
    let tree = Tree::new();
    let host = host(&tree, |config| {
        config.exec.limits.memory_bytes = 256 * 1024 * 1024
    });
    let (end, _) = sh(
        &host,
        &tree.path("work"),
        &format!("exec {} --victim memory", own_path().display()),
    );
    assert!(
        matches!(end, ExecEnd::Signaled(_) | ExecEnd::Exited(101 | 134)),
        "{end:?}"
    );
}

pub fn toolchains_and_caches_are_where_the_operator_says() {
    let tree = Tree::new();
    for dir in ["chain/bin", "cache"] {
        fs::create_dir_all(tree.path(dir)).unwrap();
    }
    fs::write(
        tree.path("chain/bin/otto-test-tool"),
        "#!/bin/sh\necho from the chain\n",
    )
    .unwrap();
    std::os::unix::fs::chown(tree.path("chain"), None, None).unwrap();
    fs::set_permissions(
        tree.path("chain/bin/otto-test-tool"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let host = host(&tree, |config| {
        config.exec.read_only.push(tree.path("chain"));
        config.exec.writable.push(tree.path("cache"));
    });
    prints(&host, &tree, "otto-test-tool", "from the chain");
    let (chain, cache) = (tree.text("chain"), tree.text("cache"));
    prints(
        &host,
        &tree,
        &format!("(echo x > {chain}/bin/new) 2>/dev/null || echo refused"),
        "refused",
    );
    prints(
        &host,
        &tree,
        &format!("echo x > {cache}/new && cat {cache}/new"),
        "x",
    );
    assert_eq!(fs::read_to_string(tree.path("cache/new")).unwrap(), "x\n");
}

pub fn a_listed_directory_may_not_hold_ottos_own_files() {
    let tree = Tree::new();
    let host = host(&tree, |config| {
        config.exec.read_only.push(tree.root.clone())
    });
    block_on(async {
        let deadline = Instant::now() + Duration::from_secs(60);
        let work = tree.path("work");
        let refused = host
            .exec_until(&work, request("true", &[]), deadline)
            .await
            .unwrap_err();
        assert!(
            refused.message.contains("holds Otto's own files"),
            "{refused}"
        );
        // Other tools are not concerned.
        assert_eq!(
            Call::new("dir-read", "file", READ, &work)
                .run(&host)
                .await
                .unwrap(),
            "inside"
        );
    });
}

pub fn a_tool_asks_for_a_program_and_reads_its_outcome() {
    let tree = Tree::new();
    let host = host(&tree, |_| {});
    let work = tree.path("work");
    block_on(async {
        let both = &[Permission::Read, Permission::Exec];
        let answer = Call::new("run", "sh\n-c\necho out; echo err >&2; exit 3", both, &work)
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer, "Exited(3)|out\n|err\n|false");
        let answer = Call::new("run", "sh\n-c\necho $FROM_REQUEST", EXEC, &work)
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer, "Exited(0)|yes\n||false");
        let error = Call::new("run", "true", READ, &work)
            .run(&host)
            .await
            .unwrap_err();
        assert_eq!(
            error.kind,
            ToolErrorKind::Denied(RefusedBy::Policy),
            "{error}"
        );
        let error = Call::new("run-for-ever", "", EXEC, &work)
            .run(&host)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::ForOperator, "{error}");
    });
    assert_eq!(
        fs::read_to_string(tree.path("outside/canary")).unwrap(),
        SECRET
    );
}

pub fn at_level_l1_programs_run_only_by_the_operators_word() {
    let tree = Tree::new();
    let refused = |config: HostConfig| {
        let host = booted().host(config);
        let deadline = Instant::now() + Duration::from_secs(60);
        let run = request("true", &[]);
        block_on(host.exec_until(&tree.path("work"), run, deadline))
            .map(|outcome| outcome.end)
            .map_err(|error| error.message)
    };
    let forced = tree.config(LevelChoice::ForcedL1);
    assert!(
        refused(forced.clone())
            .unwrap_err()
            .contains("need level l2")
    );
    let mut allowed = forced;
    allowed.exec.allow_l1 = true;
    if is_root() {
        assert!(refused(allowed).unwrap_err().contains("uid 0"));
    } else {
        assert_eq!(refused(allowed), Ok(ExecEnd::Exited(0)));
    }
}

pub fn at_level_l1_the_tree_of_a_program_is_confined_and_killed() {
    if is_root() {
        // Refused for uid 0, see above.
        return;
    }
    let tree = Tree::new();
    let mut config = tree.config(LevelChoice::ForcedL1);
    config.exec.allow_l1 = true;
    config.exec.read_only.push(own_dir());
    let host = booted().host(config);
    prints(&host, &tree, "cat file", "inside");
    prints(
        &host,
        &tree,
        &format!(
            "cat {} 2>/dev/null || echo refused",
            tree.text("outside/canary")
        ),
        "refused",
    );
    prints(
        &host,
        &tree,
        "cat /etc/passwd 2>/dev/null || echo refused",
        "refused",
    );
    prints(
        &host,
        &tree,
        "setsid true 2>/dev/null || echo refused",
        "refused",
    );
    prints(
        &host,
        &tree,
        &format!("kill -0 {} 2>/dev/null || echo refused", std::process::id()),
        "refused",
    );
    for victim in VICTIMS {
        let lock = tree.text("work/lock");
        let run = ExecRequest {
            time_limit: Duration::from_millis(700),
            ..request(
                &own_path().display().to_string(),
                &["--victim", victim, &lock],
            )
        };
        let outcome = exec(&host, &tree.path("work"), run);
        assert_eq!(outcome.end, ExecEnd::TimedOut, "{victim}");
        assert!(
            String::from_utf8_lossy(&outcome.stdout).contains("holds"),
            "{victim} was at work"
        );
        assert_dead(&lock, victim);
    }
}

/// Whether anybody holds the lock now.
fn is_held(lock: &str) -> bool {
    fs::File::options()
        .append(true)
        .open(lock)
        .is_ok_and(|file| file.try_lock().is_err())
}

/// Waits for the lock; the victims would hold it for minutes.
fn assert_dead(lock: &str, who: &str) {
    let file = fs::File::options()
        .append(true)
        .open(lock)
        .expect("the victim made the file");
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if file.lock().is_ok() {
            let _ = done.send(());
        }
    });
    assert!(
        waits.recv_timeout(Duration::from_secs(20)).is_ok(),
        "{who} still lives"
    );
}
