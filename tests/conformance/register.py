"""Where each of the 115 known bugs of other gateways (translation.md, section 5) is looked for in CCM, unless
a test of this folder bears its number."""

REASONS: dict[int, str] = {
    32: "A pool of buffers that are used again: CCM has none. Python's bytes are never written to.",
    102: "The name of the web search tool: Anthropic's API knows one only (`Literal['web_search']` in its SDK).",
}
"""Items that cannot happen here, each with the reason."""

CHAT = "tests/providers/test_openai_chat_"
RESPONSES = "tests/providers/test_openai_responses_"
GEMINI = "tests/providers/test_gemini_"
COHERE = "tests/providers/test_cohere_"
BEDROCK = "tests/providers/test_bedrock_"
ANTHROPIC = "tests/providers/test_anthropic_wire.py::"
FOREIGN = "tests/providers/test_foreign.py::"
GATEWAY = "tests/gateway/test_"

POINTERS: dict[int, tuple[str, ...]] = {
    1: (
        RESPONSES + "stream.py::test_bug_001_014_arguments_are_found_wherever_they_are_told",
        CHAT + "calls.py::test_calls_in_one_chunk",
    ),
    3: (
        CHAT + "calls.py::test_interleaved_calls_do_not_mix",
        RESPONSES + "stream.py::test_bug_003_interleaved_calls_keep_apart",
        COHERE + "stream.py::test_interleaved_calls_become_blocks_one_after_the_other",
        BEDROCK + "stream.py::test_interleaved_blocks_come_one_after_the_other",
    ),
    6: (
        CHAT + "calls.py::test_a_call_starts_at_once",
        RESPONSES + "stream.py::test_bug_006_a_call_starts_before_its_arguments_are_whole",
    ),
    7: (CHAT + "stream.py::test_any_order_of_deltas_makes_a_sound_stream",),
    10: (
        CHAT + "calls.py::test_a_call_without_a_name_gets_the_only_tools",
        GEMINI + "stream.py::test_bug_010_a_call_without_a_name_is_not_lost_and_an_empty_one_is_no_call",
    ),
    11: (CHAT + "calls.py::test_repeated_names_and_ids",),
    12: (RESPONSES + "stream.py::test_bug_012_what_is_told_twice_counts_once",),
    13: (RESPONSES + "stream.py::test_bug_013_item_ids_may_change_between_events",),
    14: (RESPONSES + "stream.py::test_bug_001_014_arguments_are_found_wherever_they_are_told",),
    15: (
        RESPONSES + "stream.py::test_bug_002_015_parallel_calls_keep_apart",
        GATEWAY + "openai_responses_clients.py::test_streamed_and_not_a_response_is_the_same_and_costs_the_same",
    ),
    16: (RESPONSES + "stream.py::test_bug_016_one_thinking_block_for_a_reasoning_item_signed_by_its_end",),
    19: (
        CHAT + "stream.py::test_the_end_without_done",
        CHAT + "stream.py::test_a_cut_stream_never_ends_regularly",
        RESPONSES + "stream.py::test_bug_019_020_an_end_that_never_comes_is_a_failure",
        GEMINI + "stream.py::test_bug_019_a_stream_without_a_finish_reason_was_cut",
    ),
    21: (CHAT + "calls.py::test_calls_that_all_have_index_0",),
    25: ("tests/conformance/test_recordings.py::test_cuts_change_nothing",),
    26: (
        GEMINI + "stream.py::test_bugs_025_026_bytes_may_be_cut_anywhere_and_whole_answers_are_the_same",
        "tests/conformance/test_recordings.py::test_cuts_change_nothing",
    ),
    28: ("tests/providers/test_transport.py::test_gzip_is_decoded",),
    30: (
        GATEWAY + "run.py::test_before_any_content_the_status_waits_and_then_goes_out_with_a_ping",
        GATEWAY + "run.py::test_in_an_open_thinking_block_an_empty_delta_resets_the_client_s_watchdog",
        "tests/providers/test_transport.py::test_a_stream_that_stalls",
    ),
    31: (
        GATEWAY + "crash.py::test_a_client_that_leaves_ends_the_provider_s_stream_and_pays_for_what_came",
        GATEWAY + "http_google.py::test_a_stream_cut_after_content_ends_in_an_error_event_and_costs_what_came",
    ),
    36: (
        RESPONSES + "stream.py::test_bug_036_037_an_error_event_says_what_it_means",
        CHAT + "stream.py::test_an_error_inside_the_stream",
    ),
    37: (
        CHAT + "errors.py::test_context_overflow_has_anthropics_words",
        GEMINI + "errors.py::test_bug_037_a_prompt_beyond_the_window_has_anthropic_s_wording",
        COHERE + "stream.py::test_an_overflow_inside_a_stream_is_said_in_anthropic_s_words",
        BEDROCK + "stream.py::test_an_overflow_is_said_in_anthropic_s_words",
    ),
    41: (
        GATEWAY + "openai_chat_clients.py::test_a_cut_stream_raises_and_costs_what_came",
        GATEWAY + "openai_responses_clients.py::test_a_cut_stream_fails_and_costs_what_came",
    ),
    44: (RESPONSES + "stream.py::test_bug_044_a_failed_response_is_an_error",),
    49: (GEMINI + "stream.py::test_bugs_049_050_placeholders_and_gaps_replace_nothing",),
    50: (GEMINI + "stream.py::test_bugs_049_050_placeholders_and_gaps_replace_nothing",),
    61: (
        CHAT + "messages.py::test_arguments_are_always_an_object",
        GEMINI + "contents.py::test_bug_061_input_that_is_no_object",
        BEDROCK + "request.py::test_unanswered_calls_orphans_and_wrong_inputs",
    ),
    67: (
        CHAT + "messages.py::test_mid_conversation_system_messages",
        CHAT + "conversations.py::test_each_turn_continues_the_last_ones_messages",
        RESPONSES + "request.py::test_bug_067_a_late_system_message_stays_in_its_place_and_the_prefix_stable",
        BEDROCK + "request.py::test_the_messages_of_a_turn_are_the_beginning_of_the_next_turn_s",
    ),
    68: (
        CHAT + "conversations.py::test_a_conversation_without_a_word_still_has_a_user_message",
        GEMINI + "contents.py::test_bug_068_a_conversation_of_system_text_alone_gets_a_user_turn",
    ),
    69: (
        GEMINI + "contents.py::test_bugs_067_069_system_turns_stay_in_their_place",
        "tests/conformance/test_recorded_requests.py::test_anthropic",
    ),
    70: (RESPONSES + "request.py::test_bug_070_long_call_ids_are_shortened_on_both_sides",),
    72: (CHAT + "messages.py::test_ids_that_the_provider_would_refuse",),
    73: (CHAT + "messages.py::test_ids_that_the_provider_would_refuse",),
    76: (
        "tests/providers/test_searches.py::test_anthropic_s_own_searches_stay_byte_for_byte",
        GEMINI + "search.py::test_bug_076_what_was_found_is_text_for_the_next_request",
        FOREIGN + "test_searches_of_others_become_text_and_native_ones_stay",
    ),
    79: (
        FOREIGN + "test_bug_079_all_other_conversations_pass_byte_for_byte",
        RESPONSES + "request.py::test_bug_079_reasoning_returns_as_it_was_in_its_place",
        BEDROCK + "request.py::test_claude_s_messages_keep_their_bytes",
    ),
    80: (
        CHAT + "messages.py::test_a_providers_own_reasoning_goes_back_to_it",
        CHAT + "messages.py::test_a_call_without_reasoning_gets_a_space_where_it_is_demanded",
    ),
    82: (
        RESPONSES + "request.py::test_bug_077_082_foreign_reasoning_is_never_replayed",
        GEMINI + "contents.py::test_bugs_077_082_nobody_else_s_reasoning_is_sent",
        CHAT + "details.py::test_another_model_gets_none_of_it",
    ),
    83: (GEMINI + "contents.py::test_bug_083_a_signature_comes_back_on_the_part_that_it_came_with",),
    84: (GEMINI + "contents.py::test_bug_084_a_missing_signature_is_replaced_on_the_first_call_of_a_step_alone",),
    88: (BEDROCK + "request.py::test_what_only_anthropic_s_own_servers_have_is_left_out_for_claude",),
    90: (
        GEMINI + "request.py::test_bug_090_the_keywords_that_google_refuses",
        GEMINI + "request.py::test_bug_090_the_whole_tool_list_of_claude_code",
    ),
    95: (
        CHAT + "calls.py::test_long_names_come_back",
        RESPONSES + "stream.py::test_bug_095_long_names_come_back",
        GEMINI + "stream.py::test_bug_095_a_tool_gets_its_own_name_back",
        COHERE + "stream.py::test_original_tool_names_come_back",
    ),
    97: (
        RESPONSES + "request.py::test_bug_097_no_choice_without_tools",
        GEMINI + "request.py::test_bug_097_a_choice_without_functions_is_left_out",
    ),
    99: (
        CHAT + "request.py::test_a_json_schema",
        GEMINI + "request.py::test_bug_099_an_answer_in_a_schema",
        GATEWAY + "openai_chat_clients.py::test_json_mode_and_allowed_tools",
    ),
    100: (GEMINI + "search.py::test_bug_100_search_and_functions_together_where_google_can_do_both",),
    101: (
        RESPONSES + "stream.py::test_bug_101_a_search_among_tools_is_shown_and_streams_live",
        GEMINI + "search.py::test_bug_101_searches_come_before_the_text_with_its_citations",
    ),
    105: (CHAT + "request.py::test_max_tokens_by_kind",),
    110: (CHAT + "request.py::test_the_user_is_hashed_and_the_session_shares_a_cache",),
    111: (RESPONSES + "request.py::test_bug_111_nothing_of_the_client_s_leaks",),
    112: (
        CHAT + "conversations.py::test_every_request_of_claude_code_passes_openais_rules",
        "tests/conformance/test_recorded_requests.py::test_chat_completions",
        "tests/conformance/test_recorded_requests.py::test_converse",
    ),
    114: (
        CHAT + "calls.py::test_arguments",
        RESPONSES + "stream.py::test_bug_001_014_arguments_are_found_wherever_they_are_told",
    ),
    115: (
        GEMINI + "request.py::test_bug_115_tokens_are_counted_by_google_itself",
        "tests/providers/test_vertex.py::test_bug_115_tokens_are_counted_for_both",
    ),
}
"""Items that tests elsewhere prove, by their node ids."""
