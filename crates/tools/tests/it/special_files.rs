//! Files that are not what they seem: nothing waits for them and nothing grows with them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;

use crate::world::{SECRET, World};

#[test]
fn fifos_sockets_and_devices_are_refused_without_waiting() {
    let world = World::new();
    mkfifoat(CWD, world.wd("fifo"), Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(world.wd("socket")).unwrap();
    for name in ["fifo", "socket"] {
        let message = world.err("fs.read", json!({ "path": name }));
        assert!(message.contains("not a regular file"), "{message}");
        world.err("fs.write", json!({ "path": name, "content": "x" }));
        world.err("grep", json!({ "pattern": "x", "path": name }));
    }
    // Below a directory they are passed over.
    let found = world.ok("grep", json!({"pattern": "x"}));
    assert!(found.starts_with("[grep: 0 matches"), "{found}");
    let listed = world.ok("fs.list", json!({}));
    assert!(
        listed.contains("fifo|\n") && listed.contains("socket|\n"),
        "{listed}"
    );
    assert_eq!(world.names(""), ["fifo", "socket"]);
}

#[test]
fn a_hard_link_is_not_written_and_its_other_name_keeps_its_content() {
    let world = World::new();
    fs::hard_link(world.outside("secret.txt"), world.wd("linked")).unwrap();
    let message = world.err("fs.write", json!({"path": "linked", "content": "x"}));
    assert!(message.contains("2 names"), "{message}");
    assert_eq!(
        fs::read_to_string(world.outside("secret.txt")).unwrap(),
        SECRET
    );
    assert_eq!(world.names(""), ["linked"]);
    // The control: writing in place would have changed the file outside.
    fs::write(world.wd("linked"), "naive").unwrap();
    assert_eq!(
        fs::read_to_string(world.outside("secret.txt")).unwrap(),
        "naive"
    );
}

#[test]
fn a_sparse_file_costs_nothing() {
    let world = World::new();
    File::create(world.wd("huge"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let message = world.err("fs.read", json!({"path": "huge"}));
    assert!(
        message.contains("1.0 TiB") && message.contains("offset"),
        "{message}"
    );
    let message = world.err("fs.read", json!({"path": "huge", "offset": 1, "limit": 1}));
    assert!(message.contains("binary data"), "{message}");
    let found = world.ok("grep", json!({"pattern": "x"}));
    assert!(found.contains("1 binary file"), "{found}");
}

#[test]
fn a_file_that_grows_while_it_is_read_ends_at_the_limit() {
    let mut world = World::new();
    world.set("fs.read", r#"{"max_bytes": 4096}"#);
    // An endless file in effect: every read finds more. The tool must stop by its own count, not by the size.
    let line = "x".repeat(63) + "\n";
    let mut file = File::create(world.wd("growing")).unwrap();
    file.write_all(line.repeat(64).as_bytes()).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Bounded: at most 64 MiB in all.
            for _ in 0..16_384 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                file.write_all(line.repeat(64).as_bytes()).unwrap();
            }
        });
        for _ in 0..200 {
            let answer = world.call("fs.read", json!({"path": "growing"}));
            assert!(answer.is_err() || answer.is_ok_and(|content| content.len() <= 4096));
            let part = world.ok("fs.read", json!({"path": "growing", "offset": 10}));
            assert!(part.len() < 4096 + 200, "{}", part.len());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
