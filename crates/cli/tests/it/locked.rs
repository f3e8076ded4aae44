//! The command locks its own process, and says what a host cannot do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::world::World;

/// A model that waits, so that there is time to look at the process.
const SLOW: &str = "turns: [{ delay: 60s, text: done }]";

#[test]
fn a_process_that_runs_agents_is_locked() {
    let world = World::new().with_agent().with_model(SLOW);
    let mut running = world
        .command(["run", "helper", "wait"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    // The request of the model call is sent after the lock.
    world.until_asked(1);
    assert!(running.try_wait().unwrap().is_none(), "it runs");
    let status = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let own = status(std::process::id());
    let text = status(running.id());
    running.kill().unwrap();
    running.wait().unwrap();
    // A process gets this mark when it enters a Landlock domain, and otherwise only if its parent had it.
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    if own.contains("NoNewPrivs:\t1") {
        println!(
            "notice: this test itself runs without new privileges; the mark proves nothing here"
        );
    }
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn finding<'a>(doctor: &'a Value, name: &str) -> &'a Value {
    doctor["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["name"] == name)
        .unwrap_or_else(|| panic!("no finding {name}: {doctor}"))
}

fn assert_l2(output: &Output, who: &str) {
    let doctor = json(output);
    assert_eq!(output.status.code(), Some(0), "{who}: {doctor}");
    assert_eq!(doctor["level"], "l2", "{who}: {doctor}");
    let checks = doctor["sandbox"]["checks"].as_array().unwrap();
    assert!(checks.len() > 70, "{who}: {}", checks.len());
    assert!(checks.iter().all(|check| check["passed"] == true), "{who}");
    assert_eq!(finding(&doctor, "main process")["standing"], "good");
}

#[test]
fn the_doctor_shows_l2_for_root_and_for_a_normal_user() {
    let world = World::new();
    let output = world.command(["doctor", "--json"]).output().unwrap();
    assert_l2(&output, "this user");
    if !is_root() {
        println!("notice: not root, so the doctor was not asked as another user");
        return;
    }
    const NOBODY: u32 = 65534;
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    };
    for dir in ["", "project", "home", "config", "tmp"] {
        open(&world.path(dir));
    }
    // The build directory may be closed to others.
    let program = world.path("otto");
    fs::copy(env!("CARGO_BIN_EXE_otto"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["doctor", "--json"])
        .current_dir(world.path("project"))
        .env_clear()
        .env("HOME", world.path("home"))
        .env("TMPDIR", world.path("tmp"))
        .uid(NOBODY)
        .gid(NOBODY);
    assert_l2(&command.output().unwrap(), "a normal user");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Runs a command whose process, and all it starts, is refused a few system calls, as by a container.
fn output_without(mut command: Command, refused: &[i64], errno: u32) -> Output {
    use seccompiler::{SeccompAction, SeccompFilter};
    let rules = refused.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    // A filter stays with its thread and with what the thread starts.
    std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        command.output().unwrap()
    })
    .join()
    .unwrap()
}

// The same numbers on every architecture.
const LANDLOCK: [i64; 3] = [444, 445, 446];
const OPEN_TREE: i64 = 428;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[test]
fn without_landlock_there_are_no_tools_and_the_code_is_not_zero() {
    let world = World::new()
        .with_agent()
        .with_model(
            "turns: [{ tool: { name: fs.read, input: { path: note } } }, { text: unreachable }]",
        )
        .file("project/note", "inside");
    for errno in [ENOSYS, EPERM] {
        let output = output_without(world.command(["doctor", "--json"]), &LANDLOCK, errno);
        let doctor = json(&output);
        assert_eq!(output.status.code(), Some(1), "{doctor}");
        assert_eq!(doctor["level"], "none");
        assert_eq!(finding(&doctor, "sandbox")["standing"], "broken");
        assert_eq!(finding(&doctor, "main process")["standing"], "broken");
        let run = output_without(world.command(["run", "helper", "read"]), &LANDLOCK, errno);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(1), "{said}");
        assert!(said.contains("sandbox_unavailable"), "{said}");
        assert!(said.contains("no tool can run on this host"), "{said}");
        assert!(!String::from_utf8_lossy(&run.stdout).contains("unreachable"));
    }
}

#[test]
fn where_mounts_are_refused_the_doctor_shows_l1() {
    let world = World::new();
    let output = output_without(world.command(["doctor", "--json"]), &[OPEN_TREE], EPERM);
    let doctor = json(&output);
    assert_eq!(output.status.code(), Some(0), "{doctor}");
    assert_eq!(doctor["level"], "l1");
    let refusal = doctor["sandbox"]["exec_refusal"].as_str().unwrap();
    assert!(refusal.contains("programs need level l2"), "{refusal}");
}
