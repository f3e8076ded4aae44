//! The way out to hosts: only over the egress process, only to what is listed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use otto_core::port::tool_host::HostGrant;
use otto_sandbox::{ConnectRate, HostConfig, LevelChoice, WorkerHost, booted};

use crate::calls::join_all;
use crate::world::{Call, NET, Tree, block_on};

const LEVELS: [LevelChoice; 2] = [LevelChoice::ForcedL1, LevelChoice::ForcedL2];

/// A server on loopback that answers each line with `times` copies of it and then hangs up.
struct Server {
    port: u16,
    thread: Option<JoinHandle<usize>>,
}

impl Server {
    fn new(times: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut served = 0;
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let mut line = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|read| read == 1) && byte != *b"\n" {
                    line.push(byte[0]);
                }
                if line == b"quit" {
                    break;
                }
                served += 1;
                let _ = stream.write_all(&line.repeat(times));
            }
            served
        });
        Self {
            port,
            thread: Some(thread),
        }
    }

    /// Ends the server; the number of connections it had.
    fn end(mut self) -> usize {
        TcpStream::connect(("127.0.0.1", self.port))
            .unwrap()
            .write_all(b"quit\n")
            .unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn host(tree: &Tree, level: LevelChoice, private: &[String]) -> WorkerHost {
    booted().host(HostConfig {
        private_hosts: private.to_vec(),
        ..tree.config(level)
    })
}

fn connect(tree: &Tree, allowed: &[String], host: &str, port: u16) -> Call {
    let call = Call::new(
        "connect",
        format!("{host}\n{port}\nhello"),
        NET,
        &tree.path("work"),
    );
    let allowed_hosts = allowed.iter().map(|text| text.as_str().into()).collect();
    Call {
        grant: HostGrant {
            allowed_hosts,
            ..call.grant.clone()
        },
        ..call
    }
}

pub fn a_listed_host_is_reached_through_egress() {
    for level in LEVELS {
        let tree = Tree::new();
        let server = Server::new(1);
        let port = server.port;
        let listed = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let host = host(&tree, level, &listed);
        block_on(async {
            for name in ["127.0.0.1", "localhost", "LOCALHOST."] {
                let answer = connect(&tree, &listed, name, port)
                    .run(&host)
                    .await
                    .unwrap();
                assert_eq!(answer, "answered 5 hello", "{name} at {level:?}");
            }
        });
        assert_eq!(server.end(), 3);
    }
}

pub fn what_is_not_listed_is_not_reached() {
    for level in LEVELS {
        let tree = Tree::new();
        let server = Server::new(1);
        let port = server.port;
        let listed = [format!("127.0.0.1:{port}")];
        let vouched = host(&tree, level, &listed);
        let unvouched = host(&tree, level, &[]);
        block_on(async {
            let refused = |answer: String| assert!(answer.starts_with("refused "), "{answer}");
            // Not on the agent's list, though the operator vouches for it.
            refused(
                connect(&tree, &[], "127.0.0.1", port)
                    .run(&vouched)
                    .await
                    .unwrap(),
            );
            refused(
                connect(&tree, &listed, "localhost", port)
                    .run(&vouched)
                    .await
                    .unwrap(),
            );
            refused(
                connect(&tree, &listed, "127.0.0.1", port.wrapping_add(1))
                    .run(&vouched)
                    .await
                    .unwrap(),
            );
            // On the agent's list, and the operator does not vouch for it.
            refused(
                connect(&tree, &listed, "127.0.0.1", port)
                    .run(&unvouched)
                    .await
                    .unwrap(),
            );
            let by_name = [format!("localhost:{port}"), format!("*.localhost:{port}")];
            refused(
                connect(&tree, &by_name, "localhost", port)
                    .run(&unvouched)
                    .await
                    .unwrap(),
            );
            for spelling in [
                "127.1",
                "0x7f000001",
                "2130706433",
                "[::ffff:127.0.0.1]",
                "127.0.0.1\0",
                "127.0.0.1 ",
                "",
            ] {
                refused(
                    connect(&tree, &listed, spelling, port)
                        .run(&vouched)
                        .await
                        .unwrap(),
                );
            }
        });
        assert_eq!(server.end(), 0, "no connection was made");
    }
}

pub fn a_pattern_that_cannot_be_read_is_reported_to_the_operator() {
    let tree = Tree::new();
    block_on(async {
        let host = tree.host(LevelChoice::Strongest);
        let error = connect(&tree, &["exa mple.com".to_owned()], "x", 1)
            .run(&host)
            .await
            .unwrap_err();
        assert!(error.message.contains("exa mple.com"), "{error}");
        let host = booted().host(HostConfig {
            private_hosts: vec!["a:b:c:d".into()],
            ..tree.config(LevelChoice::Strongest)
        });
        let error = connect(&tree, &[], "x", 1).run(&host).await.unwrap_err();
        assert!(error.message.contains("private hosts"), "{error}");
    });
}

pub fn nobody_at_the_address_is_unreachable() {
    let tree = Tree::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listed = [format!("127.0.0.1:{port}")];
    let host = host(&tree, LevelChoice::Strongest, &listed);
    let answer = block_on(connect(&tree, &listed, "127.0.0.1", port).run(&host)).unwrap();
    assert!(answer.starts_with("refused Unreachable"), "{answer}");
}

pub fn large_answers_come_whole_and_side_by_side() {
    let tree = Tree::new();
    let server = Server::new(1_000_000);
    let listed = [format!("127.0.0.1:{}", server.port)];
    let host = host(&tree, LevelChoice::Strongest, &listed);
    block_on(async {
        let calls = (0..6).map(|_| connect(&tree, &listed, "127.0.0.1", server.port).run(&host));
        for answer in join_all(calls).await {
            assert!(answer.unwrap().starts_with("answered 5000000 hellohello"));
        }
    });
    assert_eq!(server.end(), 6);
}

pub fn connections_to_one_host_are_limited() {
    let tree = Tree::new();
    let server = Server::new(1);
    let listed = [format!("127.0.0.1:{}", server.port)];
    let host = booted().host(HostConfig {
        private_hosts: listed.to_vec(),
        workers_per_grant: 1,
        connect_rate: ConnectRate {
            burst: 3,
            per_minute: 1,
        },
        ..tree.config(LevelChoice::Strongest)
    });
    block_on(async {
        for _ in 0..3 {
            let answer = connect(&tree, &listed, "127.0.0.1", server.port)
                .run(&host)
                .await
                .unwrap();
            assert_eq!(answer, "answered 5 hello");
        }
        let answer = connect(&tree, &listed, "127.0.0.1", server.port)
            .run(&host)
            .await
            .unwrap();
        assert!(answer.starts_with("refused RateLimited"), "{answer}");
    });
    assert_eq!(server.end(), 3);
}

/// Each agent asks its own egress process: what one may reach, the other may not.
pub fn agents_do_not_share_their_way_out() {
    let tree = Tree::new();
    let server = Server::new(1);
    let listed = [format!("127.0.0.1:{}", server.port)];
    let host = host(&tree, LevelChoice::Strongest, &listed);
    block_on(async {
        let mut calls: Vec<Call> = Vec::new();
        for number in 0..20 {
            let allowed: &[String] = if number % 2 == 0 { &listed } else { &[] };
            calls.push(
                connect(&tree, allowed, "127.0.0.1", server.port).of(&format!("agent-{number}")),
            );
        }
        for (number, answer) in join_all(calls.into_iter().map(|call| call.run(&host)))
            .await
            .into_iter()
            .enumerate()
        {
            let answer = answer.unwrap();
            let expected = if number % 2 == 0 {
                "answered"
            } else {
                "refused"
            };
            assert!(answer.starts_with(expected), "agent {number}: {answer}");
        }
    });
    assert_eq!(server.end(), 10);
}

pub fn a_worker_with_the_network_has_no_files_and_the_other_way_round() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::Strongest);
    block_on(async {
        let both = [
            otto_core::policy::Permission::Net,
            otto_core::policy::Permission::Read,
        ];
        let error = Call::new("connect", "x\n1", &both, &tree.path("work"))
            .run(&host)
            .await
            .unwrap_err();
        assert!(
            error.message.contains("`net` together with `read`"),
            "{error}"
        );
    });
}

/// The processes that the launcher made for a call, seen from outside while it runs.
pub fn every_process_is_confined_by_the_kernels_own_account() {
    let tree = Tree::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let listed = [format!("127.0.0.1:{port}")];
    let host = host(&tree, LevelChoice::ForcedL2, &listed);
    block_on(async {
        host.prove().await.unwrap();
        let launcher = children(std::process::id())
            .into_iter()
            .find(|pid| name(*pid) == "otto-launcher")
            .unwrap();
        let before = children(launcher);
        let running = connect(&tree, &listed, "127.0.0.1", port).run(&host);
        let look = async {
            // The worker has sent its line and waits for the answer, so both processes are at work.
            let (stream, made) = tokio::task::spawn_blocking(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {}
                let made: Vec<u32> = children(launcher)
                    .into_iter()
                    .filter(|pid| !before.contains(pid))
                    .collect();
                (stream, made)
            })
            .await
            .unwrap();
            assert_eq!(made.len(), 2, "a worker and its egress process: {made:?}");
            for pid in made {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let field = |name: &str| {
                    let line = status
                        .lines()
                        .find(|line| line.starts_with(name))
                        .unwrap_or_default();
                    line.split_whitespace()
                        .nth(1)
                        .unwrap_or_default()
                        .to_owned()
                };
                assert_eq!(field("Seccomp:"), "2", "{status}");
                assert_eq!(field("NoNewPrivs:"), "1");
                for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                    let is_bounding_of_a_user = set == "CapBnd:" && !crate::world::is_root();
                    assert!(
                        is_bounding_of_a_user || field(set) == "0000000000000000",
                        "{set} {status}"
                    );
                }
                assert_eq!(field("Threads:"), "1");
            }
            drop(stream);
        };
        let (answer, ()) = tokio::join!(running, look);
        assert_eq!(answer.unwrap(), "answered 0 ");
    });
}

fn children(pid: u32) -> Vec<u32> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

fn name(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(line.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
