//! Audit mode: what policy would refuse runs and is noted, and the rest of the boundary is what it was.

use std::fs;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use otto_core::policy::{Permission, Permissions, RefusedBy, WouldDeny};
use otto_core::port::tool::{AuditLog, ToolErrorKind};
use otto_sandbox::{HostConfig, LevelChoice, WorkerHost, booted};

use crate::world::{Call, NET, READ, READ_WRITE, Tree, block_on};

#[derive(Default)]
struct Noted(Mutex<Vec<WouldDeny>>);

impl AuditLog for Noted {
    fn would_deny(&self, what: WouldDeny) {
        self.0.lock().unwrap().push(what);
    }
}

impl Noted {
    fn take(&self) -> Vec<WouldDeny> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn host(tree: &Tree, audit_mode: bool, private: &[String]) -> WorkerHost {
    booted().host(HostConfig {
        audit_mode,
        private_hosts: private.to_vec(),
        ..tree.config(LevelChoice::ForcedL2)
    })
}

/// A call whose tool needs `write`, by an agent that was granted `read` alone.
fn beyond(tree: &Tree, tool: &str, input: impl Into<String>) -> Call {
    let mut call = Call::new(tool, input, READ_WRITE, &tree.path("work"));
    call.grant.beyond = Permissions::of(&[Permission::Write]);
    call.audit = Some(Arc::new(Noted::default()));
    call
}

pub fn audit_mode_widens_the_rights_of_a_call_and_nothing_else() {
    let tree = Tree::new();
    fs::create_dir(tree.path("work/.otto")).unwrap();
    fs::create_dir_all(tree.path("work/var/otto")).unwrap();
    block_on(async {
        let enforcing = host(&tree, false, &[]);
        let error = beyond(&tree, "create", "new")
            .run(&enforcing)
            .await
            .unwrap_err();
        assert_eq!(
            error.kind,
            ToolErrorKind::Denied(RefusedBy::Policy),
            "{error}"
        );
        assert!(!tree.path("work/new").exists());
        assert!(!enforcing.doctor().await.unwrap().audit_mode);

        let auditing = booted().host(HostConfig {
            audit_mode: true,
            protected: vec![tree.path("work/var/otto")],
            ..tree.config(LevelChoice::ForcedL2)
        });
        let answer = beyond(&tree, "create", "new").run(&auditing).await.unwrap();
        assert!(answer.starts_with("ok"), "{answer}");
        for (tool, input) in [
            ("create", ".otto/agent.yml".to_owned()),
            ("create", "var/otto/new".to_owned()),
            ("read", "/etc/passwd".to_owned()),
            ("read", tree.text("outside/canary")),
            ("overwrite", tree.text("outside/canary")),
            ("fork", String::new()),
            ("connect", "80".to_owned()),
        ] {
            let answer = beyond(&tree, tool, &*input).run(&auditing).await.unwrap();
            assert!(answer.starts_with("errno"), "{tool} {input}: {answer}");
        }
        assert!(auditing.doctor().await.unwrap().audit_mode);
        // What was granted needs no audit mode and gets no more than it asks for.
        let answer = Call::new("create", "other", READ, &tree.path("work"))
            .run(&auditing)
            .await
            .unwrap();
        assert!(answer.starts_with("errno"), "{answer}");
    });
}

pub fn audit_mode_lets_no_host_pass_without_a_note() {
    let tree = Tree::new();
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let noted = Arc::new(Noted::default());
    let connect = |listed: &[String]| {
        let input = format!("localhost\n{port}\nhello");
        let mut call = Call::new("connect", input, NET, &tree.path("work"));
        call.grant.allowed_hosts = listed.iter().map(|host| host.as_str().into()).collect();
        call.audit = Some(noted.clone());
        call
    };
    let serve = || {
        let (mut stream, _) = server.accept().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line).unwrap();
        std::io::Write::write_all(&mut stream, line.trim().as_bytes()).unwrap();
    };
    let vouched = [format!("localhost:{port}")];
    let note = WouldDeny::Host {
        host: "localhost".into(),
        port,
    };
    block_on(async {
        let auditing = host(&tree, true, &vouched);
        auditing.prove().await.unwrap();
        for (listed, expected) in [(&[][..], vec![note.clone()]), (&vouched[..], Vec::new())] {
            let answer = std::thread::scope(|scope| {
                scope.spawn(serve);
                tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(connect(listed).run(&auditing))
                })
            });
            assert_eq!(answer.unwrap(), "answered 5 hello");
            assert_eq!(noted.take(), expected);
        }
        // Without the operator's word for this host its address is still refused; the attempt is noted.
        let unvouched = host(&tree, true, &[]);
        let answer = connect(&[]).run(&unvouched).await.unwrap();
        assert!(
            answer.contains("no public address") || answer.contains("look up"),
            "{answer}"
        );
        assert_eq!(noted.take(), [note]);
        let enforcing = host(&tree, false, &vouched);
        let answer = connect(&[]).run(&enforcing).await.unwrap();
        assert!(answer.contains("not on the list"), "{answer}");
        assert_eq!(noted.take(), []);
    });
}
