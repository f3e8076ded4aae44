//! Tools that behave, or misbehave in ways that are no system call: they crash, hang, flood, lie.

use std::time::{Duration, Instant};

use otto_sandbox::dir::{Backup, WriteOptions};
use otto_sandbox::{ExecRequest, ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest};

use crate::attacks;

/// Runs a tool of this file; `None` when there is none of that name.
pub fn run(ctx: &WorkerCtx, request: &WorkerRequest) -> Option<WorkerAnswer> {
    let input = request.input.as_str();
    let done = |content: String| Some(WorkerAnswer::Done { content });
    match request.tool.as_str() {
        "echo" => done(input.to_owned()),
        "dir-read" => match ctx
            .place(input)
            .and_then(|place| place.dir.open_file(place.path))
        {
            Ok(mut open) => {
                let mut content = String::new();
                match std::io::Read::read_to_string(&mut open.file, &mut content) {
                    Ok(_) => done(content),
                    Err(error) => done(format!("refused {error}")),
                }
            }
            Err(error) => done(format!("refused {error}")),
        },
        "dir-write" => {
            let (path, content) = input.split_once('\n').unwrap_or((input, ""));
            let options = WriteOptions {
                backup: Backup::Last,
                expected: None,
            };
            match ctx.place(path).and_then(|place| {
                place
                    .dir
                    .write_atomic(place.path, content.as_bytes(), options)
            }) {
                Ok(written) => done(format!("written {}", written.replaced)),
                Err(error) => done(format!("refused {error}")),
            }
        }
        "identity" => done(format!(
            "{} {:?}",
            std::process::id(),
            std::env::vars_os().collect::<Vec<_>>()
        )),
        "handles" => done(format!("{:?}", attacks::open_handles())),
        "panic" => panic!("a tool with a bug"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "overflow-stack" => done(overflow(u64::MAX).to_string()),
        "take-memory" => done(attacks::take_memory(8 << 30).to_string()),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        // Stops by itself, as a good tool does, and says so.
        "until-deadline" => {
            while ctx.check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            done(format!("stopped {}", ctx.deadline > Instant::now()))
        }
        // Hands over the file, or whatever else is there; `always` even when only text is taken.
        "hand-over" | "always-hand-over" => {
            let place = ctx.place(input).ok()?;
            if !ctx.takes_files && request.tool == "hand-over" {
                let mut content = Vec::new();
                let mut file = place.dir.open_file(place.path).ok()?.file;
                std::io::Read::read_to_end(&mut file, &mut content).ok()?;
                return done(format!("read {}", String::from_utf8_lossy(&content)));
            }
            Some(WorkerAnswer::HandedOver {
                file: place.dir.open_file(place.path).ok()?.file,
                most_bytes: 1_000_000,
            })
        }
        "long-answer" => done("x".repeat(input.parse().ok()?)),
        "lie" => {
            // A frame that announces four gigabytes, or garbage, or an answer with an unknown tag.
            let bytes: &[u8] = match input {
                "length" => &[0xff, 0xff, 0xff, 0xff, 3],
                "tag" => &[1, 0, 0, 0, 99, 0],
                "utf8" => &[1, 0, 0, 0, 3, 0xff],
                "malformed" => &[2, 0, 0, 0, 4, 0xff, 0xff],
                "shared" => &[1, 0, 0, 0, 8, 5],
                "file" => &[1, 0, 0, 0, 9, 5],
                "ended" => &[2, 0, 0, 0, 5, 0, 0],
                _ => &[2, 0, 0, 0, 1, 14, 0],
            };
            attacks::write_to_every_handle(bytes);
            done("truth".to_owned())
        }
        "race" => {
            let mut parts = input.split('\n');
            let (path, secret, tries) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
            done(format!(
                "{:?}",
                attacks::race_plain(path, secret.as_bytes(), tries)
            ))
        }
        "race-dir" => {
            let mut parts = input.split('\n');
            let (path, secret, tries) = (
                parts.next()?,
                parts.next()?,
                parts.next()?.parse::<u32>().ok()?,
            );
            done(format!("{:?}", race_dir(ctx, path, secret, tries)))
        }
        "race-write" => {
            let mut parts = input.split('\n');
            let (path, tries) = (parts.next()?, parts.next()?.parse::<u32>().ok()?);
            done(race_write(ctx, path, tries))
        }
        "run" => {
            if let Some(outcome) = &request.exec {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return done(format!(
                    "{:?}|{}|{}|{}",
                    outcome.end,
                    text(&outcome.stdout),
                    text(&outcome.stderr),
                    outcome.cut
                ));
            }
            let mut args = input.split('\n').map(str::to_owned);
            Some(WorkerAnswer::Exec(ExecRequest {
                program: args.next()?,
                args: args.collect(),
                env: vec![("FROM_REQUEST".to_owned(), "yes".to_owned())],
                dir: String::new(),
                time_limit: Duration::from_secs(60),
                max_output_bytes: 64 * 1024,
            }))
        }
        "run-for-ever" => Some(WorkerAnswer::Exec(ExecRequest {
            program: "true".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            dir: String::new(),
            time_limit: Duration::from_secs(60),
            max_output_bytes: 64 * 1024,
        })),
        "connect" if ctx.egress.is_some() => {
            let mut parts = input.split('\n');
            let (host, port, line) = (
                parts.next()?,
                parts.next()?.parse().ok()?,
                parts.next().unwrap_or("hello"),
            );
            let egress = ctx.egress.as_ref()?;
            match egress.connect(host, port, ctx.deadline) {
                Ok(mut stream) => match attacks::talk(&mut *stream, line) {
                    Ok(answer) => done(format!(
                        "answered {} {}",
                        answer.len(),
                        answer.chars().take(40).collect::<String>()
                    )),
                    Err(error) => done(format!("broken {error}")),
                },
                Err(refusal) => done(format!("refused {refusal:?}")),
            }
        }
        "fail" => Some(WorkerAnswer::Failed(ToolFailure::for_model("not today"))),
        _ => None,
    }
}

/// Deeper than any stack.
fn overflow(left: u64) -> u64 {
    let page = [left; 512];
    if left == 0 {
        0
    } else {
        std::hint::black_box(&page)[1].wrapping_add(overflow(left - 1))
    }
}

fn race_dir(ctx: &WorkerCtx, path: &str, secret: &str, tries: u32) -> (u32, u32, u32) {
    let (mut escapes, mut inside, mut refused) = (0, 0, 0);
    let Some(dir) = &ctx.working_dir else {
        return (0, 0, 0);
    };
    for _ in 0..tries {
        let mut content = String::new();
        match dir.open_file(path) {
            Ok(mut open) => match std::io::Read::read_to_string(&mut open.file, &mut content) {
                Ok(_) if content.starts_with(secret) => escapes += 1,
                _ => inside += 1,
            },
            Err(_) => refused += 1,
        }
    }
    (escapes, inside, refused)
}

fn race_write(ctx: &WorkerCtx, path: &str, tries: u32) -> String {
    let (mut written, mut refused) = (0, 0);
    let Some(dir) = &ctx.working_dir else {
        return String::new();
    };
    let options = WriteOptions {
        backup: Backup::Off,
        expected: None,
    };
    for _ in 0..tries {
        match dir.write_atomic(path, b"written by the race", options) {
            Ok(_) => written += 1,
            Err(_) => refused += 1,
        }
    }
    format!("{written} {refused}")
}
