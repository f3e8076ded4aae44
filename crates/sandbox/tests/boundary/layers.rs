//! Each layer taken away alone: at least one attack then succeeds that all layers together refuse. A layer for
//! which no attack can be named would be there for nothing, and nobody would notice its loss.
//!
//! The allowlist of egress is not among them: audit mode takes it away, in `audit.rs`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use otto_sandbox::{ExecNetwork, ExecRequest, LevelChoice, WorkerHost, booted};

use crate::world::{Call, READ, READ_WRITE, Tree, WRITE, block_on, is_root};

/// All that confines a process at level l2.
const ALL: [&str; 8] = [
    "namespaces",
    "network",
    "capabilities",
    "no_new_privs",
    "landlock",
    "seccomp",
    "limits",
    "protected",
];

/// A host of production, but for one layer.
fn without(tree: &Tree, layer: &str) -> WorkerHost {
    let layers: Vec<&str> = ALL.into_iter().filter(|known| *known != layer).collect();
    let mut config = tree.config(LevelChoice::ForcedL2);
    // The loopback interface of this host is up already, and nobody inside may touch it.
    config.exec.network = ExecNetwork::None;
    config.exec.read_only.push(own_dir());
    booted().host_with_layers(config, &layers)
}

fn own_dir() -> std::path::PathBuf {
    let own = std::env::current_exe().expect("this program is a file");
    own.parent().expect("a file is in a directory").to_owned()
}

/// An attack of a worker succeeds without `layer` and is refused with all.
fn is_needed(layer: &str, prepare: impl Fn(&Tree), call: impl Fn(&Tree) -> Call) {
    for missing in ["none", layer] {
        let tree = Tree::new();
        prepare(&tree);
        let host = without(&tree, missing);
        let answer = block_on(call(&tree).run(&host)).unwrap_or_else(|error| error.to_string());
        let succeeded = answer.starts_with("ok ");
        assert_eq!(
            succeeded,
            missing == layer,
            "{layer}, with {missing} missing: {answer}"
        );
    }
}

pub fn without_namespaces_the_outside_is_seen() {
    is_needed(
        "namespaces",
        |_| {},
        |tree| {
            Call::new(
                "stat",
                tree.text("outside/canary"),
                READ,
                &tree.path("work"),
            )
        },
    );
}

pub fn without_landlock_a_worker_that_writes_reads() {
    is_needed(
        "landlock",
        |_| {},
        |tree| Call::new("read", "file", WRITE, &tree.path("work")),
    );
}

pub fn without_seccomp_modes_are_changed() {
    is_needed(
        "seccomp",
        |_| {},
        |tree| Call::new("chmod", "file", READ_WRITE, &tree.path("work")),
    );
}

pub fn without_dropped_capabilities_permissions_are_overridden() {
    is_needed(
        "capabilities",
        |tree| {
            let locked = fs::Permissions::from_mode(0o000);
            fs::set_permissions(tree.path("work/file"), locked).expect("our own file");
        },
        |tree| Call::new("read", "file", READ, &tree.path("work")),
    );
}

pub fn without_limits_memory_is_not_bounded() {
    is_needed(
        "limits",
        |_| {},
        |tree| Call::new("reserve-memory", "", READ, &tree.path("work")),
    );
}

pub fn without_protected_paths_settings_are_written() {
    is_needed(
        "protected",
        |tree| fs::create_dir(tree.path("work/.otto")).expect("a new directory"),
        |tree| Call::new("create", ".otto/agent.yml", READ_WRITE, &tree.path("work")),
    );
}

pub fn without_a_network_namespace_programs_reach_this_host() {
    let server = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = server.local_addr().expect("it is bound").port().to_string();
    for (missing, expected) in [("none", "refused"), ("network", "connected")] {
        let tree = Tree::new();
        let host = without(&tree, missing);
        let args = ["--victim", "connect", &port];
        let printed = print_of(&host, &tree.path("work"), &own_path(), &args);
        assert_eq!(printed, expected, "with {missing} missing");
    }
}

/// Landlock and seccomp cannot be entered without it by a user without privileges, so it is tried without both.
pub fn without_no_new_privs_a_set_user_id_program_gains_its_owner() {
    // Made by the run as root for the run as a normal user: a copy of `id` that belongs to root.
    let Some(program) = std::env::var_os("OTTO_TEST_SET_USER_ID").filter(|_| !is_root()) else {
        if !is_root() {
            println!(
                "notice: no set-user-id program was given by a run as root; this proves nothing"
            );
        }
        return;
    };
    let program = program.to_string_lossy().into_owned();
    let print = |layers: &[&str]| {
        let tree = Tree::new();
        let mut config = tree.config(LevelChoice::ForcedL1);
        config.exec.allow_l1 = true;
        let host = booted().host_with_layers(config, layers);
        print_of(&host, &tree.path("work"), &program, &["-u"])
    };
    let own = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(print(&["limits", "no_new_privs"]), own);
    if print(&["limits"]) == own {
        println!("notice: the place of the test is mounted `nosuid`; this proves nothing");
        return;
    }
    assert_eq!(print(&["limits"]), "0");
}

/// The self-test at the start notices the layers whose loss opens a way out.
pub fn the_self_test_notices_a_missing_layer() {
    for missing in ["namespaces", "network", "landlock", "seccomp"] {
        let tree = Tree::new();
        let proven = block_on(without(&tree, missing).prove());
        let error = proven.expect_err(missing);
        assert!(error.message.contains("self-test"), "{missing}: {error}");
    }
    let tree = Tree::new();
    block_on(without(&tree, "none").prove()).expect("all layers pass");
}

fn own_path() -> String {
    let own = std::env::current_exe().expect("this program is a file");
    own.display().to_string()
}

/// What a program prints on standard output.
fn print_of(host: &WorkerHost, work: &Path, program: &str, args: &[&str]) -> String {
    let request = ExecRequest {
        program: program.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: Vec::new(),
        dir: String::new(),
        time_limit: Duration::from_secs(60),
        max_output_bytes: 64 * 1024,
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let outcome =
        block_on(host.exec_until(work, request, deadline)).expect("programs can run here");
    let text = [outcome.stdout, outcome.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
