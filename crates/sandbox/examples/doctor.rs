//! Prints what the sandbox can do on this host, and which of its attacks on itself were refused.
//!
//! `cargo run -p otto-sandbox --example doctor`, also as a normal user, in a container, under a policy.

#![allow(clippy::print_stdout, reason = "an example prints")]

use otto_sandbox::{HostConfig, ToolFailure, WorkerAnswer, WorkerCtx, WorkerRequest, boot};

fn no_tools(_: &WorkerCtx, _: &WorkerRequest) -> WorkerAnswer {
    WorkerAnswer::Failed(ToolFailure::for_model("this program has no tools"))
}

fn main() -> std::process::ExitCode {
    let booted = boot(no_tools);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let host = booted.host(HostConfig::new(std::env::temp_dir()));
    let report = match runtime.block_on(host.doctor()) {
        Ok(report) => report,
        Err(error) => {
            println!("{error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    println!(
        "level {} as uid {} on kernel {}",
        report.level.as_str(),
        report.uid,
        report.kernel
    );
    for mechanism in &report.mechanisms {
        let state = if mechanism.works { "works" } else { "MISSING" };
        println!("  {:<12} {state:<8} {}", mechanism.name, mechanism.detail);
        if let Some(fix) = &mechanism.fix {
            println!("  {:<12} fix: {fix}", "");
        }
    }
    for check in &report.checks {
        let passed = if check.passed { "ok" } else { "FAILED" };
        println!(
            "  {:<12} {:<36} {passed:<8} {}",
            check.domain, check.name, check.outcome
        );
    }
    for (what, refusal) in [
        ("tools", &report.refusal),
        ("programs", &report.exec_refusal),
    ] {
        if let Some(reason) = refusal {
            println!("  {what}: {reason}");
        }
    }
    if report.refusal.is_some() {
        std::process::ExitCode::FAILURE
    } else {
        std::process::ExitCode::SUCCESS
    }
}
