//! Directories: which one is granted, what in it stays protected, who else's is out of reach.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use otto_core::port::tool::ToolErrorKind;
use otto_sandbox::{LevelChoice, booted};

use crate::attacks;
use crate::calls::join_all;
use crate::world::{Call, INSIDE, READ, READ_WRITE, SECRET, Tree, WRITE, block_on};

pub fn a_directory_that_was_swapped_is_refused() {
    for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
        let tree = Tree::new();
        let host = tree.host(level);
        let work = tree.path("work");
        host.pin_dir(&work).unwrap();
        // Between loading the agent and its first call, somebody puts a link in the place of the directory.
        fs::rename(&work, tree.path("away")).unwrap();
        std::os::unix::fs::symlink(tree.path("outside"), &work).unwrap();
        block_on(async {
            let error = Call::new("dir-read", "canary", READ, &work)
                .run(&host)
                .await
                .unwrap_err();
            assert_eq!(error.kind, ToolErrorKind::ForOperator, "{error}");
            // Or another directory of the same name.
            fs::remove_file(&work).unwrap();
            fs::rename(tree.path("outside"), &work).unwrap();
            let error = Call::new("dir-read", "canary", READ, &work)
                .run(&host)
                .await
                .unwrap_err();
            assert!(error.message.contains("no longer the directory"), "{error}");
            // Reloading the agent grants what is there now.
            host.unpin_dir(&work);
            assert_eq!(
                Call::new("dir-read", "canary", READ, &work)
                    .run(&host)
                    .await
                    .unwrap(),
                SECRET
            );
        });
    }
}

pub fn a_directory_reached_through_a_link_is_refused() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::Strongest);
    std::os::unix::fs::symlink("work", tree.path("alias")).unwrap();
    let error = host.pin_dir(&tree.path("alias")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(&format!("write {} instead", tree.text("work"))),
        "{error}"
    );
    assert!(host.pin_dir(Path::new("work")).is_err(), "a relative path");
    assert!(host.pin_dir(&tree.path("missing")).is_err());
    assert!(host.pin_dir(&tree.path("work/file")).is_err());
}

pub fn protected_paths_stay_as_they_are() {
    let tree = Tree::new();
    for dir in [
        "work/.otto",
        "work/.otto/agents",
        "work/.git",
        "work/.git/hooks",
    ] {
        fs::create_dir(tree.path(dir)).unwrap();
    }
    for file in [
        "work/.otto/agents/x.yml",
        "work/.git/hooks/pre-commit",
        "work/.git/config",
    ] {
        fs::write(tree.path(file), "original").unwrap();
    }
    let attempts: &[(&str, &str)] = &[
        ("overwrite", ".otto/agents/x.yml"),
        ("overwrite", "./sub/../.otto/agents/x.yml"),
        ("create", ".otto/agents/y.yml"),
        ("create", ".otto/new"),
        ("mkdir", ".otto/new-dir"),
        ("unlink", ".otto/agents/x.yml"),
        ("rmdir", ".otto"),
        ("rename", ".otto\nelsewhere"),
        ("rename", ".otto/agents\nelsewhere"),
        ("rename", "sub\n.otto"),
        ("overwrite", ".git/hooks/pre-commit"),
        ("create", ".git/hooks/post-commit"),
        ("overwrite", ".git/config"),
        ("rename", ".git/config\nelsewhere"),
        ("rename", ".git\nelsewhere"),
        ("rename", "sub\n.git/sub"),
    ];
    let host = tree.host(LevelChoice::ForcedL2);
    block_on(async {
        for (tool, input) in attempts {
            for worker in [WRITE, READ_WRITE] {
                let answer = Call::new(tool, *input, worker, &tree.path("work"))
                    .run(&host)
                    .await
                    .unwrap();
                let errno: i32 = answer
                    .strip_prefix("errno ")
                    .unwrap_or("0")
                    .parse()
                    .unwrap();
                let refusals = [
                    libc::EROFS,
                    libc::EBUSY,
                    libc::EXDEV,
                    libc::EPERM,
                    libc::EACCES,
                ];
                assert!(refusals.contains(&errno), "{tool} {input}: {answer}");
            }
        }
        // Everything else is as changeable as before.
        let answer = Call::new("overwrite", "sub/file", READ_WRITE, &tree.path("work"))
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer, "ok 8");
        let answer = Call::new("dir-read", ".otto/agents/x.yml", READ, &tree.path("work"))
            .run(&host)
            .await
            .unwrap();
        assert_eq!(answer, "original");
    });
    for file in [
        "work/.otto/agents/x.yml",
        "work/.git/hooks/pre-commit",
        "work/.git/config",
    ] {
        assert_eq!(fs::read_to_string(tree.path(file)).unwrap(), "original");
    }
    // The same attempts with the sandbox off do change something.
    let off = tree.host(LevelChoice::OperatorOptOut);
    block_on(async {
        for (tool, input) in [attempts[0], attempts[2], attempts[10], attempts[14]] {
            let answer = Call::new(tool, input, READ_WRITE, &tree.path("work"))
                .run(&off)
                .await
                .unwrap();
            assert!(answer.starts_with("ok"), "{tool} {input}: {answer}");
        }
    });
}

pub fn settings_that_did_not_exist_cannot_be_created() {
    let tree = Tree::new();
    let host = tree.host(LevelChoice::ForcedL2);
    block_on(async {
        for (tool, input) in [
            ("create", ".otto/agents/x.yml"),
            ("mkdir", ".otto/agents"),
            ("rename", "sub\n.otto"),
            ("rmdir", ".otto"),
        ] {
            let answer = Call::new(tool, input, READ_WRITE, &tree.path("work"))
                .run(&host)
                .await
                .unwrap();
            assert!(answer.starts_with("errno"), "{tool} {input}: {answer}");
        }
    });
    assert_eq!(fs::read_dir(tree.path("work/.otto")).unwrap().count(), 0);
}

pub fn settings_reached_through_a_link_refuse_the_worker() {
    let tree = Tree::new();
    std::os::unix::fs::symlink("sub", tree.path("work/.otto")).unwrap();
    let host = tree.host(LevelChoice::ForcedL2);
    block_on(async {
        let error = Call::new("create", "x", READ_WRITE, &tree.path("work"))
            .run(&host)
            .await
            .unwrap_err();
        assert!(error.message.contains("link"), "{error}");
        // Reading is not concerned.
        assert_eq!(
            Call::new("dir-read", "file", READ, &tree.path("work"))
                .run(&host)
                .await
                .unwrap(),
            INSIDE
        );
    });
}

pub fn at_level_l1_a_directory_with_settings_is_not_given_out_for_writing() {
    let tree = Tree::new();
    fs::create_dir(tree.path("work/.otto")).unwrap();
    let host = tree.host(LevelChoice::ForcedL1);
    block_on(async {
        let error = Call::new("create", "x", READ_WRITE, &tree.path("work"))
            .run(&host)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ToolErrorKind::ForOperator);
        assert!(
            error.message.contains(".otto") && error.message.contains("subdirectory"),
            "{error}"
        );
        assert_eq!(
            Call::new("dir-read", "file", READ, &tree.path("work"))
                .run(&host)
                .await
                .unwrap(),
            INSIDE
        );
        let answer = Call::new("create", "x", READ_WRITE, &tree.path("work/sub"))
            .run(&host)
            .await
            .unwrap();
        assert!(answer.starts_with("ok"), "{answer}");
    });
}

/// A project with its state inside: read-only at level l2, and no reason to write at all at level l1.
pub fn ottos_own_state_in_a_working_directory_is_not_changed() {
    let tree = Tree::new();
    fs::create_dir_all(tree.path("work/var/otto")).unwrap();
    fs::write(tree.path("work/var/otto/otto.db"), "original").unwrap();
    for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
        let mut config = tree.config(level);
        config.protected = vec![tree.path("work/var/otto")];
        let host = booted().host(config);
        block_on(async {
            for (tool, input) in [
                ("overwrite", "var/otto/otto.db"),
                ("create", "var/otto/new"),
                ("rename", "var/otto\nelsewhere"),
                ("rename", "var\nelsewhere"),
            ] {
                let call = Call::new(tool, input, READ_WRITE, &tree.path("work"));
                match call.run(&host).await {
                    Ok(answer) => assert!(answer.starts_with("errno"), "{tool} {input}: {answer}"),
                    Err(error) => assert!(
                        level == LevelChoice::ForcedL1 && error.message.contains("var/otto"),
                        "{error}"
                    ),
                }
            }
        });
    }
    assert_eq!(
        fs::read_to_string(tree.path("work/var/otto/otto.db")).unwrap(),
        "original"
    );
}

pub fn special_files_do_not_hold_a_call_up() {
    for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
        let tree = Tree::new();
        let fifo = CString::new(tree.path("work/fifo").as_os_str().as_bytes()).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            fifo.as_c_str(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let host = tree.host(level);
        block_on(async {
            host.prove().await.unwrap();
            let call = Call::new("dir-read", "fifo", READ, &tree.path("work"))
                .within(Duration::from_secs(20));
            let answer = call.run(&host).await.unwrap();
            assert!(answer.contains("FIFO"), "{answer}");
        });
    }
}

/// A thousand agents, each with a worker of its own, each trying to read its neighbor.
pub fn a_thousand_agents_read_only_their_own() {
    const AGENTS: usize = 1000;
    for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
        let tree = Tree::new();
        for number in 0..AGENTS {
            let dir = tree.path(&format!("agent-{number}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("mine"), format!("of {number}")).unwrap();
        }
        let host = tree.host(level);
        let (own, foreign) = (AtomicU64::new(0), AtomicU64::new(0));
        block_on(async {
            host.prove().await.unwrap();
            let calls = (0..AGENTS).map(|number| {
                let (tree, host, own, foreign) = (&tree, &host, &own, &foreign);
                async move {
                    let dir = tree.path(&format!("agent-{number}"));
                    let neighbor = tree.text(&format!("agent-{}/mine", (number + 1) % AGENTS));
                    let call = |tool: &'static str, input: String| {
                        Call::new(tool, input, READ, &dir)
                            .of(&format!("agent-{number}"))
                            .within(Duration::from_secs(120))
                    };
                    if call("dir-read", "mine".to_owned()).run(host).await.unwrap()
                        == format!("of {number}")
                    {
                        own.fetch_add(1, Ordering::Relaxed);
                    }
                    if !call("read", neighbor)
                        .run(host)
                        .await
                        .unwrap()
                        .starts_with("errno")
                    {
                        foreign.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            join_all(calls).await;
            assert_eq!(host.worker_counts().1, AGENTS, "all of them live at once");
        });
        assert_eq!(
            (own.into_inner(), foreign.into_inner()),
            (AGENTS as u64, 0),
            "{level:?}"
        );
    }
}

/// One thread swaps a directory with a link to the outside as fast as it can, workers open a file below it.
pub fn no_race_with_links_is_lost() {
    const TRIES: u32 = 520_000;
    let tree = Tree::new();
    // `work/swap` is sometimes a directory of ours and sometimes a link to the outside.
    fs::create_dir(tree.path("work/swap")).unwrap();
    fs::write(tree.path("work/swap/canary"), INSIDE).unwrap();
    std::os::unix::fs::symlink("../outside", tree.path("work/other")).unwrap();
    let text = |path: &str| CString::new(tree.path(path).as_os_str().as_bytes()).unwrap();
    let (one, other) = (text("work/swap"), text("work/other"));
    let stop = AtomicBool::new(false);
    let swaps = AtomicU64::new(0);
    let parse = |answer: &str| -> (u32, u32, u32) {
        let numbers: Vec<u32> = answer
            .trim_matches(['(', ')'])
            .split(", ")
            .map(|number| number.parse().unwrap())
            .collect();
        (numbers[0], numbers[1], numbers[2])
    };
    let race = |level: LevelChoice, tool: &str, tries: u32| {
        let host = tree.host(level);
        let input = format!("swap/canary\n{SECRET}\n{tries}");
        let call =
            Call::new(tool, input, READ, &tree.path("work")).within(Duration::from_secs(300));
        parse(&block_on(call.run(&host)).unwrap())
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if attacks::exchange(&one, &other).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Without a sandbox the race is lost at once, so the rest proves something.
        let (naive, _, _) = race(LevelChoice::OperatorOptOut, "race", 20_000);
        let mut total = 0;
        let mut lost = Vec::new();
        for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
            for tool in ["race", "race-dir"] {
                let (escapes, inside, refused) = race(level, tool, TRIES);
                total += escapes + inside + refused;
                lost.push((level, tool, escapes, inside, refused));
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(
            naive > 0,
            "the race is never lost, not even without a sandbox"
        );
        for (level, tool, escapes, inside, refused) in &lost {
            println!("  {level:?} {tool}: {escapes} escapes, {inside} inside, {refused} refused");
            assert_eq!(*escapes, 0, "{level:?} {tool}");
            assert!(
                *inside > 0 && *refused > 0,
                "{level:?} {tool}: both sides of the race were seen"
            );
        }
        println!(
            "  {total} tries against {} swaps; {naive} of 20000 escaped without a sandbox",
            swaps.load(Ordering::Relaxed)
        );
        assert!(total >= 2_000_000);
    });
    // And writing: the file outside is what it was.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(attacks::exchange(&one, &other))
            }
        });
        for level in [LevelChoice::ForcedL1, LevelChoice::ForcedL2] {
            let host = tree.host(level);
            let call = Call::new(
                "race-write",
                "swap/canary\n300",
                READ_WRITE,
                &tree.path("work"),
            );
            let answer = block_on(call.within(Duration::from_secs(300)).run(&host)).unwrap();
            println!("  {level:?} writes (done, refused): {answer}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        fs::read_to_string(tree.path("outside/canary")).unwrap(),
        SECRET
    );
    assert_eq!(
        fs::read_dir(tree.path("outside")).unwrap().count(),
        1,
        "nothing new outside"
    );
}

pub fn a_host_without_a_scratch_directory_says_so() {
    let tree = Tree::new();
    let host = booted().host(otto_sandbox::HostConfig::new(tree.path("missing")));
    let error = block_on(host.prove()).unwrap_err();
    assert!(error.message.contains("missing"), "{error}");
}
