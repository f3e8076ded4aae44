//! The life of calls and workers: whatever a tool does, only its own call is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use otto_core::port::BoxFuture;
use otto_core::port::tool::{Cancellation, ToolErrorKind};
use otto_core::port::tool_host::{Enforcement, ToolHost};
use otto_sandbox::{HostConfig, LevelChoice, booted};

use crate::world::{Call, INSIDE, NOTHING, READ, READ_WRITE, Tree, block_on};

const LEVELS: [LevelChoice; 2] = [LevelChoice::ForcedL1, LevelChoice::ForcedL2];

pub fn a_call_reads_and_writes_below_its_directory() {
    for level in LEVELS {
        let tree = Tree::new();
        let host = tree.host(level);
        block_on(async {
            let work = tree.path("work");
            assert_eq!(
                Call::new("dir-read", "sub/file", READ, &work)
                    .run(&host)
                    .await
                    .unwrap(),
                INSIDE
            );
            let written = Call::new("dir-write", "new/deep/file\nhello", READ_WRITE, &work)
                .run(&host)
                .await
                .unwrap();
            assert_eq!(written, "written false");
            assert_eq!(
                std::fs::read_to_string(tree.path("work/new/deep/file")).unwrap(),
                "hello"
            );
            // A worker that may only write can replace a file and make it durable.
            let write = crate::world::WRITE;
            let written = Call::new("dir-write", "sub/file\nnew", write, &work)
                .run(&host)
                .await
                .unwrap();
            assert_eq!(written, "written true");
            assert_eq!(
                std::fs::read_to_string(tree.path("work/sub/file.bak")).unwrap(),
                INSIDE
            );
        });
        assert_eq!(
            host.enforcement(),
            if level == LevelChoice::ForcedL1 {
                Enforcement::L1
            } else {
                Enforcement::L2
            }
        );
    }
}

pub fn a_root_is_read_only_and_has_a_name() {
    for level in LEVELS {
        let tree = Tree::new();
        let host = tree.host(level);
        std::fs::create_dir(tree.path("docs")).unwrap();
        std::fs::write(tree.path("docs/page"), "documented").unwrap();
        block_on(async {
            let with_root = |tool, input: &str| {
                let mut call = Call::new(tool, input, READ_WRITE, &tree.path("work"));
                call.grant.roots = vec![("docs".into(), tree.path("docs"))];
                call
            };
            assert_eq!(
                with_root("dir-read", "@docs/page")
                    .run(&host)
                    .await
                    .unwrap(),
                "documented"
            );
            let refused = with_root("dir-write", "@docs/page\nx")
                .run(&host)
                .await
                .unwrap();
            assert!(refused.starts_with("refused"), "{refused}");
            // The same by the tool that ignores the handles: from the kernel.
            let path = tree.text("docs/page");
            let attacked = with_root("overwrite", &path).run(&host).await.unwrap();
            assert!(attacked.starts_with("errno"), "{attacked}");
            assert_eq!(
                std::fs::read_to_string(tree.path("docs/page")).unwrap(),
                "documented"
            );
        });
    }
}

pub fn a_tool_that_crashes_loses_only_its_own_call() {
    for level in LEVELS {
        let tree = Tree::new();
        let host = tree.host(level);
        block_on(async {
            let work = tree.path("work");
            // Ninety-nine others, warm.
            for number in 0..99 {
                let echo = Call::new("echo", "warm", READ, &work).of(&format!("agent-{number}"));
                assert_eq!(echo.run(&host).await.unwrap(), "warm");
            }
            for tool in ["panic", "abort", "exit", "overflow-stack", "take-memory"] {
                let error = Call::new(tool, "", READ_WRITE, &work)
                    .run(&host)
                    .await
                    .unwrap_err();
                assert_eq!(error.kind, ToolErrorKind::ForModel, "{tool}: {error}");
                assert!(error.message.contains("crashed"), "{tool}: {error}");
                // The next call gets a new worker.
                assert_eq!(
                    Call::new("echo", tool, READ_WRITE, &work)
                        .run(&host)
                        .await
                        .unwrap(),
                    tool
                );
            }
            for number in 0..99 {
                let echo = Call::new("echo", "still", READ, &work).of(&format!("agent-{number}"));
                assert_eq!(echo.run(&host).await.unwrap(), "still");
            }
        });
    }
}

/// The door of 32-bit programs, behind which the numbers of calls mean others: whoever knocks does not live on.
pub fn a_worker_that_knocks_at_the_door_of_32_bit_programs_dies() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let knock = |level, permissions| {
        let tree = Tree::new();
        let host = tree.host(level);
        block_on(Call::new("int80", "", permissions, &tree.path("work")).run(&host))
    };
    match knock(LevelChoice::OperatorOptOut, READ) {
        Ok(answer) => assert!(answer.starts_with("ok "), "{answer}"),
        Err(error) => {
            println!("notice: this kernel runs no 32-bit programs ({error}); this proves nothing");
            return;
        }
    }
    for level in LEVELS {
        for permissions in [NOTHING, READ, READ_WRITE] {
            let error = knock(level, permissions).expect_err("the filter is there");
            assert_eq!(error.kind, ToolErrorKind::ForModel, "{error}");
            let by_the_filter = format!("signal {} ended it", libc::SIGSYS);
            assert!(error.message.contains(&by_the_filter), "{error}");
        }
    }
}

pub fn a_call_that_hangs_ends_at_its_deadline() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::Strongest);
    block_on(async {
        host.prove().await.unwrap();
        for tool in ["hang", "spin"] {
            let call =
                Call::new(tool, "", READ, &tree.path("work")).within(Duration::from_millis(100));
            let error = call.run(&host).await.unwrap_err();
            assert_eq!(error.kind, ToolErrorKind::TimedOut, "{tool}");
        }
        // A tool that watches its clock still gets its answer through.
        let call = Call::new("until-deadline", "", READ, &tree.path("work"))
            .within(Duration::from_secs(2));
        assert_eq!(call.run(&host).await.unwrap(), "stopped false");
        assert_eq!(
            host.worker_counts().1,
            1,
            "only the worker that answered is kept"
        );
    });
}

struct Switch {
    is_on: AtomicBool,
    turned: tokio::sync::Notify,
}

impl Cancellation for Switch {
    fn is_cancelled(&self) -> bool {
        self.is_on.load(Ordering::SeqCst)
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.turned.notified())
    }
}

pub fn a_cancelled_call_ends_its_worker() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::Strongest);
    block_on(async {
        host.prove().await.unwrap();
        // The tool holds a lock for as long as it lives.
        let switch = Arc::new(Switch {
            is_on: AtomicBool::new(false),
            turned: tokio::sync::Notify::new(),
        });
        let mut call = Call::new("hang", "", READ, &tree.path("work"));
        call.cancellation = Arc::clone(&switch) as Arc<dyn Cancellation>;
        let running = call.run(&host);
        let turn = async {
            tokio::task::yield_now().await;
            switch.is_on.store(true, Ordering::SeqCst);
            switch.turned.notify_one();
        };
        let (result, ()) = tokio::join!(running, turn);
        assert_eq!(result.unwrap_err().kind, ToolErrorKind::Cancelled);
        assert_eq!(host.worker_counts().1, 0, "no worker is left");
    });
}

pub fn a_worker_that_lies_is_believed_nothing() {
    for level in LEVELS {
        let tree = Tree::new();
        let host = tree.host(level);
        block_on(async {
            let work = tree.path("work");
            for lie in [
                "length",
                "tag",
                "utf8",
                "malformed",
                "ended",
                "shared",
                "file",
                "ready",
            ] {
                let error = Call::new("lie", lie, READ, &work)
                    .run(&host)
                    .await
                    .unwrap_err();
                assert_eq!(error.kind, ToolErrorKind::ForModel, "{lie}: {error}");
                // What it wrote after the lie is not taken for the answer to somebody else's question.
                assert_eq!(
                    Call::new("echo", "next", READ, &work)
                        .run(&host)
                        .await
                        .unwrap(),
                    "next",
                    "after {lie}"
                );
            }
        });
    }
}

pub fn a_file_is_taken_open_only_as_text_that_hides_nothing() {
    for level in LEVELS {
        let tree = Tree::new();
        let host = tree.host(level);
        let work = tree.path("work");
        let text = "a line\n".repeat(50_000);
        let files = [
            ("open", text.clone()),
            ("hidden", format!("{text}\u{202e}")),
            ("long", text.repeat(3)),
            ("empty", String::new()),
        ];
        for (name, content) in &files {
            std::fs::write(work.join(name), content).unwrap();
        }
        block_on(async {
            for (name, content) in &files {
                let call = Call::new("hand-over", *name, READ, &work);
                let answer = call.run(&host).await.unwrap();
                let read = format!("read {content}");
                // Not every file system can say whether a read would wait.
                let is_taken = *name == "open" && answer == *content;
                assert!(is_taken || answer == read, "{name}: {}", answer.len());
            }
            // A worker that hands over what was not taken is not asked for ever.
            let call = Call::new("always-hand-over", "hidden", READ, &work);
            let error = call.run(&host).await.unwrap_err();
            assert_eq!(error.kind, ToolErrorKind::ForModel, "{error}");
        });
    }
}

pub fn answers_are_bounded() {
    let tree = Tree::new();
    let config = HostConfig {
        max_answer_bytes: 1000,
        ..tree.config(LevelChoice::Strongest)
    };
    let host = booted().host(config);
    block_on(async {
        let work = tree.path("work");
        let answer = Call::new("long-answer", "1000", READ, &work)
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer.len(), 1000);
        let error = Call::new("long-answer", "1001", READ, &work)
            .run(&host)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::ForModel);
        assert!(error.message.contains("1001"), "{error}");
    });
    // A large answer comes whole.
    let host = tree.host(LevelChoice::Strongest);
    block_on(async {
        let answer = Call::new("long-answer", "4194304", READ, &tree.path("work"))
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer.len(), 4 * 1024 * 1024);
    });
}

pub fn a_worker_has_nothing_of_otto() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::Strongest);
    block_on(async {
        let identity = Call::new("identity", "", READ, &tree.path("work"))
            .run(&host)
            .await
            .unwrap();
        // Process 1 of its own namespace, and an empty environment.
        assert_eq!(identity, "1 []");
        let handles = Call::new("handles", "", READ, &tree.path("work"))
            .run(&host)
            .await
            .unwrap();
        let stat = rustix::fs::stat(crate::leaked_path()).unwrap();
        assert!(
            !handles.contains(&format!("({}, {})", stat.st_dev, stat.st_ino)),
            "{handles}"
        );
    });
    // The same handle is there in a process that was started without the launcher.
    let child = std::process::Command::new("/proc/self/exe")
        .arg("--print-handles")
        .output()
        .unwrap();
    let stat = rustix::fs::stat(crate::leaked_path()).unwrap();
    let handles = String::from_utf8(child.stdout).unwrap();
    assert!(
        handles.contains(&format!("({}, {})", stat.st_dev, stat.st_ino)),
        "the test would prove nothing: {handles}"
    );
}

pub fn workers_are_shared_by_calls_and_never_by_agents() {
    let tree = Tree::new();
    let config = HostConfig {
        workers_per_grant: 2,
        ..tree.config(LevelChoice::Strongest)
    };
    let host = booted().host(config);
    block_on(async {
        let work = tree.path("work");
        for _ in 0..10 {
            Call::new("echo", "", READ, &work).run(&host).await.unwrap();
        }
        assert_eq!(
            host.worker_counts(),
            (1, 1),
            "one after the other: one worker"
        );
        let calls = (0..10).map(|_| Call::new("echo", "", READ, &work).run(&host));
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        // Short calls rather wait for a worker than start one more.
        assert!(host.worker_counts().1 <= 2, "{:?}", host.worker_counts());
        let time = Duration::from_millis(200);
        let long = || Call::new("until-deadline", "", READ, &work).within(time);
        let calls = (0..2).map(|_| long().run(&host));
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        assert_eq!(
            host.worker_counts(),
            (1, 2),
            "all at once: two workers, and the rest waits"
        );
        Call::new("echo", "", READ, &work)
            .of("other")
            .run(&host)
            .await
            .unwrap();
        Call::new("echo", "", READ_WRITE, &work)
            .run(&host)
            .await
            .unwrap();
        Call::new("echo", "", NOTHING, &work)
            .run(&host)
            .await
            .unwrap();
        assert_eq!(
            host.worker_counts(),
            (4, 5),
            "another agent and other rights: other workers"
        );
    });
}

pub fn the_number_of_workers_is_bounded() {
    let tree = Tree::new();
    let config = HostConfig {
        max_workers: 3,
        ..tree.config(LevelChoice::Strongest)
    };
    let host = booted().host(config);
    block_on(async {
        let work = tree.path("work");
        for number in 0..20 {
            Call::new("echo", "", READ, &work)
                .of(&format!("agent-{number}"))
                .run(&host)
                .await
                .unwrap();
            assert!(host.worker_counts().1 <= 3);
        }
        let calls = (0..40).map(|number| {
            Call::new("echo", "", READ, &work)
                .of(&format!("agent-{number}"))
                .run(&host)
        });
        for answer in join_all(calls).await {
            answer.unwrap();
        }
        assert!(host.worker_counts().1 <= 3);
    });
}

pub fn idle_workers_are_ended() {
    let tree = Tree::new();
    let config = HostConfig {
        idle_timeout: Duration::from_millis(1),
        ..tree.config(LevelChoice::Strongest)
    };
    let host = booted().host(config);
    block_on(async {
        let work = tree.path("work");
        assert_eq!(
            Call::new("echo", "one", READ, &work)
                .run(&host)
                .await
                .unwrap(),
            "one"
        );
        while host.worker_counts() != (0, 0) {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            Call::new("echo", "two", READ, &work)
                .run(&host)
                .await
                .unwrap(),
            "two"
        );
    });
}

pub fn without_boot_the_error_explains_itself() {
    let output = std::process::Command::new("/proc/self/exe")
        .arg("--as-unbooted")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("call `boot` at the first line of `main`"),
        "{text}"
    );
}

/// What a program finds that was started by a launcher on its way to `boot`: the mark it inherits.
pub fn a_launcher_that_does_other_work_first_makes_no_chain_of_launchers() {
    let boot = |mark: Option<&str>| {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("--boot");
        if let Some(mark) = mark {
            command.env("OTTO_LAUNCHER_STARTING", mark);
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(boot(Some("1")).contains("its launcher did other work"));
    assert_eq!(boot(None).trim(), "None");
}

/// All futures of one kind, at the same time.
pub async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(move |context| {
        let mut is_done = true;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done {
            std::task::Poll::Ready(
                running
                    .iter_mut()
                    .filter_map(|(_, result)| result.take())
                    .collect(),
            )
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
