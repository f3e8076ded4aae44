//! The boundary against the real kernel: attacks through the production launcher, with a `main` of its own
//! because the launcher has to start before any thread.
//!
//! Run as uid 0, it runs itself once more as a normal user.

#![allow(
    unreachable_pub,
    reason = "the modules of a test are not reachable from anywhere"
)]
#![allow(clippy::print_stdout, reason = "a test runner prints")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attacks;
mod audit;
mod calls;
mod cases;
mod degraded;
mod files;
mod harness;
mod layers;
mod orphans;
mod programs;
mod tools;
mod victims;
mod way_out;
mod world;

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use otto_sandbox::boot;

fn main() -> ExitCode {
    let mode = std::env::args().nth(1).unwrap_or_default();
    // A handle that somebody opened and forgot to close over the start of other programs.
    let leaked =
        std::fs::File::open(leaked_path()).map(|file| attacks::leak_handle(file.as_raw_fd()));
    match mode.as_str() {
        "--print-handles" => {
            println!("{:?}", attacks::open_handles());
            return ExitCode::SUCCESS;
        }
        "--witness" => {
            // Ends when the test does, at the latest.
            let _ = std::io::stdin().read(&mut [0]);
            return ExitCode::SUCCESS;
        }
        "--victim" => {
            victims::run(&std::env::args().skip(2).collect::<Vec<_>>());
            return ExitCode::SUCCESS;
        }
        "--as-unbooted" => return without_boot(),
        "--boot" => {
            println!(
                "{:?}",
                boot(attacks::dispatch).error().map(ToString::to_string)
            );
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let args = std::env::args().skip(2).collect::<Vec<_>>();
    match mode.as_str() {
        "--as-otto-in-pid-namespace" => {
            programs::as_otto_in_pid_namespace(&args);
            return ExitCode::SUCCESS;
        }
        "--as-otto-in-real-time" => {
            programs::as_otto_in_real_time(&args);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if orphans::run_mode(&mode, &args) {
        return ExitCode::SUCCESS;
    }
    if let Some(code) = degraded::run_mode(&mode, &args) {
        return code;
    }
    let booted = boot(attacks::dispatch);
    assert!(booted.error().is_none(), "the launcher runs");
    assert!(leaked.is_ok(), "the test has a handle to leak");
    if mode == "--as-otto" {
        programs::as_otto(&args);
        return ExitCode::SUCCESS;
    }
    harness::run(TESTS)
}

macro_rules! tests {
    ($($module:ident: $($test:ident)+;)+) => { &[$($((concat!(stringify!($module), "::", stringify!($test)), $module::$test),)+)+] };
}

const TESTS: &[harness::Test] = tests! {
    calls:
        a_call_reads_and_writes_below_its_directory
        a_root_is_read_only_and_has_a_name
        a_tool_that_crashes_loses_only_its_own_call
        a_worker_that_knocks_at_the_door_of_32_bit_programs_dies
        a_call_that_hangs_ends_at_its_deadline
        a_cancelled_call_ends_its_worker
        a_worker_that_lies_is_believed_nothing
        a_file_is_taken_open_only_as_text_that_hides_nothing
        answers_are_bounded
        a_worker_has_nothing_of_otto
        workers_are_shared_by_calls_and_never_by_agents
        the_number_of_workers_is_bounded
        idle_workers_are_ended
        without_boot_the_error_explains_itself
        a_launcher_that_does_other_work_first_makes_no_chain_of_launchers;
    files:
        a_directory_that_was_swapped_is_refused
        a_directory_reached_through_a_link_is_refused
        protected_paths_stay_as_they_are
        settings_that_did_not_exist_cannot_be_created
        settings_reached_through_a_link_refuse_the_worker
        at_level_l1_a_directory_with_settings_is_not_given_out_for_writing
        ottos_own_state_in_a_working_directory_is_not_changed
        special_files_do_not_hold_a_call_up
        a_thousand_agents_read_only_their_own
        no_race_with_links_is_lost
        a_host_without_a_scratch_directory_says_so;
    programs:
        a_program_runs_and_its_end_is_told
        the_end_of_a_program_in_a_session_of_its_own_is_told
        a_program_that_does_not_start_says_why
        a_program_gets_a_clean_environment
        a_program_sees_its_directory_and_the_system_and_nothing_else
        a_program_changes_its_directory_and_nothing_else
        protected_paths_stay_as_they_are_for_programs
        a_program_has_no_network_but_its_own
        a_program_cannot_reach_into_the_kernel
        a_signal_to_everybody_stays_in_the_namespace
        at_level_l1_a_signal_to_everybody_stays_in_the_tree
        a_program_inherits_no_real_time_priority
        a_set_user_id_program_gains_nothing
        nothing_outlives_the_time_limit
        nothing_outlives_the_program
        nothing_outlives_a_dropped_call
        nothing_outlives_otto
        a_flood_of_output_is_cut_and_takes_no_memory
        forks_are_bounded
        memory_is_bounded
        toolchains_and_caches_are_where_the_operator_says
        a_listed_directory_may_not_hold_ottos_own_files
        a_tool_asks_for_a_program_and_reads_its_outcome
        at_level_l1_programs_run_only_by_the_operators_word
        at_level_l1_the_tree_of_a_program_is_confined_and_killed;
    orphans:
        nothing_is_left_whenever_otto_or_its_launcher_is_killed;
    way_out:
        a_listed_host_is_reached_through_egress
        what_is_not_listed_is_not_reached
        a_pattern_that_cannot_be_read_is_reported_to_the_operator
        nobody_at_the_address_is_unreachable
        large_answers_come_whole_and_side_by_side
        connections_to_one_host_are_limited
        agents_do_not_share_their_way_out
        a_worker_with_the_network_has_no_files_and_the_other_way_round
        every_process_is_confined_by_the_kernels_own_account;
    audit:
        audit_mode_widens_the_rights_of_a_call_and_nothing_else
        audit_mode_lets_no_host_pass_without_a_note;
    degraded:
        in_a_container_the_level_is_l1
        without_user_namespaces_the_level_is_l1_and_doctor_names_the_setting
        without_landlock_nothing_runs
        a_call_that_fails_lowers_the_level_or_refuses
        a_shortage_refuses_and_lowers_nothing
        the_opt_out_is_not_reached_by_environment
        the_opt_out_is_visible
        a_locked_main_process_reaches_nothing
        a_lock_that_comes_too_late_is_refused
        a_normal_user_is_confined_as_well;
    cases:
        no_attack_passes_by_accident
        every_attack_succeeds_with_the_sandbox_off
        every_attack_is_refused_at_level_l1
        every_attack_is_refused_at_level_l2;
    layers:
        without_namespaces_the_outside_is_seen
        without_a_network_namespace_programs_reach_this_host
        without_landlock_a_worker_that_writes_reads
        without_seccomp_modes_are_changed
        without_dropped_capabilities_permissions_are_overridden
        without_no_new_privs_a_set_user_id_program_gains_its_owner
        without_limits_memory_is_not_bounded
        without_protected_paths_settings_are_written
        the_self_test_notices_a_missing_layer;
};

/// A file that is open in this process and must not be in any worker.
fn leaked_path() -> PathBuf {
    std::env::current_exe().expect("this program is a file")
}

/// A program that uses the host and forgot the first line of its `main`.
fn without_boot() -> ExitCode {
    let tree = world::Tree::new();
    let host = tree.host(otto_sandbox::LevelChoice::Strongest);
    let call = world::Call::new("echo", "", world::READ, &tree.path("work"));
    match world::block_on(call.run(&host)) {
        Ok(answer) => println!("answered {answer}"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}
