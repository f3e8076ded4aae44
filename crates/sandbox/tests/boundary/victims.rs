//! Programs that are run in the exec sandbox: this same binary, started with `--victim`.

#![allow(unsafe_code, reason = "a victim makes processes without any library")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the process has one thread"
)]

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Runs what the arguments name.
pub fn run(args: &[String]) {
    let arg = |index: usize| args.get(index).map(String::as_str).unwrap_or_default();
    match arg(0) {
        "attack" => println!("{}", crate::attacks::attack_by_name(arg(1), arg(2))),
        "connect" => report(
            TcpStream::connect(("127.0.0.1", arg(1).parse::<u16>().expect("a port"))).is_ok(),
        ),
        "connect-unix" => report(UnixStream::connect(arg(1)).is_ok()),
        "own-server" => {
            let connected = TcpListener::bind(("127.0.0.1", 0))
                .and_then(|server| TcpStream::connect(server.local_addr()?))
                .is_ok();
            report(connected);
        }
        "forks" => println!("{}", forks()),
        "memory" => println!("{}", crate::attacks::take_memory(2 << 30)),
        "ignore-signals" => {
            ignore_signals();
            hold(arg(1));
        }
        "daemon" => {
            daemon(arg(1));
            sleep();
        }
        "leave-session" => {
            assert!(unsafe { libc::setsid() } > 0, "it leads no group yet");
            std::process::exit(3);
        }
        "leave-daemon" => daemon(arg(1)),
        "orphan" => {
            if fork() == 0 {
                ignore_signals();
                hold(arg(1));
            }
            sleep();
        }
        "hydra" => hydra(arg(1)),
        "kill-everybody" => kill_everybody(arg(1)),
        other => panic!("no victim is named {other}"),
    }
}

fn report(connected: bool) {
    println!("{}", if connected { "connected" } else { "refused" });
}

// BOUND: a victim that nobody kills ends by itself.
const LIFE: Duration = Duration::from_secs(300);

fn sleep() {
    std::thread::sleep(LIFE);
}

fn lock(path: &str) -> File {
    let file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .expect("the lock is in the working directory");
    file.lock().expect("nobody else holds it");
    println!("holds");
    std::io::stdout().flush().expect("somebody reads");
    file
}

fn hold(path: &str) {
    let _held = lock(path);
    sleep();
}

/// A process that has left its parent, its group and its session.
fn daemon(path: &str) {
    let (ready, holds) = std::io::pipe().expect("a pipe can be made");
    if fork() == 0 {
        // Refused where leaving would be an escape; the rest goes on.
        unsafe { libc::setsid() };
        if fork() == 0 {
            ignore_signals();
            let _held = lock(path);
            drop(holds);
            sleep();
        }
        unsafe { libc::_exit(0) };
    }
    drop(holds);
    let _ = std::io::Read::read(&mut &ready, &mut [0]);
}

/// A process that is always another one: each head forks the next and ends. The lock passes from one to the
/// next, so it is free only when the last one is dead.
fn hydra(path: &str) {
    let _held = lock(path);
    // BOUND: about the time that any test waits, at the speed of a fork.
    for _ in 0..1_000_000 {
        match fork() {
            0 => {}
            _ => {
                // The program itself stays, so that it is not taken for ended; its heads go on by themselves.
                if std::process::id() == first_head() {
                    sleep();
                }
                unsafe { libc::_exit(0) };
            }
        }
    }
}

/// Kills every process that it may signal, and says whether one of its own was among them.
fn kill_everybody(outside: &str) {
    let own = std::fs::read_link("/proc/self/ns/pid").expect("a process sees its own namespaces");
    // Where the test itself lives, everybody on this machine would be reached.
    assert_ne!(
        own.as_os_str(),
        outside,
        "this process is in a namespace of its own"
    );
    assert!(
        outside.starts_with("pid:"),
        "the namespace of the test was named"
    );
    let child = fork();
    if child == 0 {
        sleep();
    }
    assert!(child > 0, "one more process fits");
    unsafe { libc::kill(-1, libc::SIGKILL) };
    let mut status = 0;
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
    println!("its child {}", if killed { "was killed" } else { "lives" });
}

fn first_head() -> u32 {
    use std::sync::OnceLock;
    static FIRST: OnceLock<u32> = OnceLock::new();
    *FIRST.get_or_init(std::process::id)
}

/// Forks until it is refused, two hundred times at most; each child waits for the end.
fn forks() -> u32 {
    let mut made = 0;
    while made < 200 {
        match fork() {
            0 => {
                sleep();
                unsafe { libc::_exit(0) };
            }
            pid if pid < 0 => break,
            _ => made += 1,
        }
    }
    made
}

fn fork() -> i32 {
    unsafe { libc::fork() }
}

fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
