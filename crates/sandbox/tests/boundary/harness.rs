//! A test runner small enough to leave `main` to the launcher: names, filters, a list, an exit code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A named test.
pub type Test = (&'static str, fn());

/// Runs the tests that the arguments select, as the standard runner would.
pub fn run(tests: &[Test]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let skipped: Vec<&str> = args
        .iter()
        .zip(args.iter().skip(1))
        .filter(|(flag, _)| *flag == "--skip")
        .map(|(_, name)| name.as_str())
        .collect();
    let mut filters: Vec<&str> = Vec::new();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--skip" | "--format" | "--test-threads" | "--color" | "-Z" => drop(rest.next()),
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter),
        }
    }
    let is_selected = |name: &str| {
        let matches = |filter: &&str| {
            if has("--exact") {
                name == *filter
            } else {
                name.contains(*filter)
            }
        };
        (filters.is_empty() || filters.iter().any(matches))
            && !skipped.iter().any(|skip| name.contains(skip))
            && !has("--ignored")
    };
    let selected: Vec<&Test> = tests.iter().filter(|(name, _)| is_selected(name)).collect();
    if has("--list") {
        for (name, _) in &selected {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in &selected {
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        println!(
            "test {name} ... {} ({} ms)",
            if passed { "ok" } else { "FAILED" },
            started.elapsed().as_millis()
        );
        if !passed {
            failed.push(*name);
        }
    }
    println!(
        "\ntest result: {} passed, {} failed, {} filtered out",
        selected.len() - failed.len(),
        failed.len(),
        tests.len() - selected.len()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
