//! What a model server can do, and where it is tested.
//!
//! | behavior | test |
//! | --- | --- |
//! | rate limit with a wait: seconds, fractions, date, huge, negative, not a number, twice | `calls::wishes_in_the_headers_are_read`, unit tests of `retry_after` |
//! | rate limit without a wait | `calls::statuses_become_typed_failures` |
//! | spending limit, no credit | `calls::own_limits_of_the_account_are_told_apart`, unit tests of `failure` |
//! | overloaded now and then, or for ever under many agents | `calls::a_provider_that_is_down_is_left_alone`, `calls::a_hundred_calls_at_once_meet_a_closed_door_together`, unit tests of `breaker` |
//! | server errors, timeouts, conflicts | `calls::statuses_become_typed_failures` |
//! | refused requests | `calls::statuses_become_typed_failures`, `calls::refusals_do_not_open_the_circuit` |
//! | wrong key, and a body that repeats it | `calls::statuses_become_typed_failures`, unit tests of `mask` |
//! | endless or stalling error body | `calls::an_endless_error_body_is_not_read_to_its_end`, `calls::an_error_body_that_stalls_is_given_up` |
//! | success with a JSON error, with HTML, without a body, of the wrong type, compressed | `calls::a_good_status_without_a_stream_is_never_an_answer` |
//! | redirect | `calls::a_redirect_is_not_followed` |
//! | absurd rate-limit headers | `calls::wishes_in_the_headers_are_read` |
//! | control bytes in headers | `calls::control_bytes_in_ids_are_escaped` |
//! | close or reset before the headers | `calls::a_connection_lost_before_the_headers_may_have_been_billed` |
//! | cut at any byte | `streams::a_stream_that_ends_early_never_confirms_a_call_too_much`, `calls::a_reply_cut_anywhere_fails_and_runs_nothing_unconfirmed` |
//! | stall before and after the headers, in text, in a tool call, after the stop reason | `calls::a_stall_anywhere_ends_with_a_timeout`, `calls::a_stall_after_the_stop_reason_is_a_good_end` |
//! | pings for ever, drips, many short stalls | unit tests of `stream` |
//! | error event, also of an unknown class, also with the connection left open | `replies::error_events_end_the_reply_with_their_class`, `calls::the_last_event_ends_the_call_though_the_connection_stays_open` |
//! | last event with the connection left open | `calls::the_last_event_ends_the_call_though_the_connection_stays_open` |
//! | no last event after a stop reason | `replies::an_end_without_message_stop_after_a_stop_reason_is_accepted` |
//! | no first event | `replies::no_beginning_is_a_protocol_error` |
//! | steps repeated, misplaced or all doubled | `replies::repeated_and_misplaced_steps_are_protocol_errors`, `replies::every_event_twice_is_a_protocol_error` |
//! | blocks interleaved or out of order | `replies::interleaved_blocks_are_assembled_by_index` |
//! | indexes that are none | `replies::strange_indexes_are_protocol_errors` |
//! | unknown events, blocks, deltas | `replies::unknown_things_are_skipped` |
//! | name and type disagree | `replies::a_name_that_disagrees_with_the_data_is_a_protocol_error` |
//! | no JSON, wrong shape; all legal framings | `replies::data_that_is_no_json_or_of_the_wrong_shape_is_a_protocol_error`, `replies::all_legal_framings_read_the_same` |
//! | bytes one by one; splits in characters, escapes, line ends | `streams::every_way_of_cutting_gives_the_same_events`, `arbitrary` |
//! | invalid UTF-8, lone surrogates | `replies::broken_text_is_an_error_not_an_answer` |
//! | text that looks like events or control sequences | `replies::text_that_looks_like_events_is_text` |
//! | lines, events, replies without end; output beyond the limit | `replies::endless_lines_and_replies_are_cut`, `replies::blocks_that_are_too_big_together_are_cut`, unit tests of `sse` |
//! | a million events, thousands of blocks | `replies::too_many_blocks_are_cut_and_a_million_small_events_are_not` |
//! | tool input that is no JSON, no object, doubled, deep, huge | `replies::invalid_tool_inputs_reach_the_caller_as_such_and_go_back_as_an_empty_object`, `replies::a_tool_input_of_many_megabytes_is_capped`, `replies::an_overlong_tool_input_is_invalid_even_if_its_beginning_is_an_object`, unit tests of `tool_input` |
//! | unknown tool, other case | `replies::tools_that_were_not_offered_keep_the_name_the_model_wrote` |
//! | strange and doubled call ids | `replies::strange_call_ids_are_opaque_and_doubled_ones_count_once` |
//! | stop reason against content, unknown, null | `replies::stop_reasons_that_contradict_the_content_end_the_reply_properly` |
//! | output limit inside a tool input; refusal; pause | `streams::tool_calls_start_complete_and_confirm_at_the_expected_events`, `streams::endings_and_usage_are_as_expected` |
//! | fifty calls in one reply | `replies::fifty_calls_are_confirmed_one_after_the_other` |
//! | usage missing, partly missing, nonsense, falling, below what came, above the limit; cache counts | `replies::missing_nonsensical_and_falling_usage`, unit tests of `usage` |
//! | another model answers | `replies::a_model_name_nobody_can_price_leaves_the_usage_open` |
//! | broken chunks, wrong length, ten thousand headers | `calls::broken_framing_is_a_clean_error` |
//! | dead pooled connection | settings in `http`; `calls::a_connection_is_used_again_even_if_the_body_ends_late` covers the pool |

/// The names in the table above are real.
#[test]
fn the_table_names_tests_that_exist() {
    let sources = [
        ("calls", include_str!("calls.rs")),
        ("replies", include_str!("replies.rs")),
        ("streams", include_str!("streams.rs")),
    ];
    let rows = include_str!("coverage.rs")
        .lines()
        .filter(|line| line.starts_with("//! |"));
    let mut named = 0;
    for part in rows.flat_map(|line| line.split('`')) {
        let Some((module, test)) = part.split_once("::") else {
            continue;
        };
        let Some((_, source)) = sources.iter().find(|(name, _)| *name == module) else {
            continue;
        };
        assert!(
            source.contains(&format!("fn {test}(")),
            "{part} does not exist"
        );
        named += 1;
    }
    assert!(named > 40, "{named}");
}
