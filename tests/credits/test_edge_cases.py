"""The edge cases of prepaid metering, and the mistakes that other gateways have admitted: each with the test
that holds it, or the reason why there is none. A test that is renamed or removed fails here."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Case:
    """`tests` are `file::function` below tests/. `reason`: why this does not apply yet, or not wholly."""

    name: str
    tests: tuple[str, ...] = ()
    reason: str = ""


WEBHOOKS = "credits/payments/test_webhooks.py"
PAYMENT_REFUNDS = "credits/payments/test_refunds.py"
TOP_UPS = "credits/payments/test_top_ups.py"
SIGN_UP = "customers cannot sign themselves up yet"

CRASH = "gateway/test_crash.py"
MESSAGES = "gateway/test_http_messages.py"
ERRORS = "gateway/test_http_errors.py"
SEARCHES = "gateway/test_http_websearch.py"
METERING = "gateway/test_metering.py"
AWAY = "gateway/test_ledger_away.py"
WRITER = "credits/test_writer.py"
WRITER_FAULTS = "credits/test_writer_faults.py"
SWEEPER = "credits/test_sweeper.py"
MONEY = "credits/test_money.py"
GUARDS = "credits/test_guards.py"
EXPIRY = "credits/test_expiry.py"
CORRECTIONS = "credits/test_corrections.py"
BUDGETS = "credits/test_key_budgets.py"
RACES = "races/test_credits_races.py"
PROCESS_RACES = "races/test_process_races.py"
MACHINE = "property/test_credits_machine.py::test_the_ledger_behaves_as_its_model"
FAULTS = "faults/test_faults.py::test_faults_under_load_lose_and_double_nothing"
OPENAI_STREAM = "providers/test_openai_chat_stream.py"
ANTHROPIC = "providers/test_anthropic_wire.py"

LEAVES = f"{CRASH}::test_a_client_that_leaves_ends_the_provider_s_stream_and_pays_for_what_came"
KILLED = f"{CRASH}::test_a_killed_process_leaves_its_stream_charged_once"
AWAY_CHARGED = f"{AWAY}::test_an_answer_whose_settlement_failed_is_charged_exactly"
FRAME_FREE = f"{AWAY}::test_the_frame_of_an_answer_without_a_word_costs_nothing"
ZERO_IS_ZERO = f"{METERING}::test_an_explicit_zero_is_zero_and_a_missing_count_is_not"
CUT_COUNTED = f"{METERING}::test_a_cut_answer_is_never_counted_beyond_what_was_reserved"
CUT_STREAM = f"{MESSAGES}::test_a_stream_cut_after_content_ends_in_an_error_event_and_costs_what_came"
ADMITS_10 = f"{RACES}::test_50_holds_for_a_balance_of_10_admit_exactly_10"
NEVER_OVERSPENT = f"{MESSAGES}::test_a_small_balance_is_never_overspent_by_many_at_once"
CACHE_CLASSES = (f"{OPENAI_STREAM}::test_usage", f"{ANTHROPIC}::test_usage_of_all_classes")
LOST_CONNECTION = f"{WRITER_FAULTS}::test_a_lost_connection_neither_loses_nor_doubles_anything"

EDGE_CASES = [
    Case("a client disconnects mid-stream", (LEAVES, "gateway/test_exchange.py::"
        "test_the_end_of_an_answer_is_not_taken_for_a_client_that_left")),
    Case("the gateway dies between answer and debit", (KILLED, AWAY_CHARGED, FAULTS,
        f"{WRITER_FAULTS}::test_kill_9_loses_and_doubles_nothing",
        f"{SWEEPER}::test_a_journal_that_cannot_be_settled_now_is_not_overtaken_by_the_lapsed_lease",
        f"{SWEEPER}::test_wherever_a_sweep_meets_a_living_process_the_process_settles_its_own",
        "gateway/test_claims.py::"
        "test_what_the_ledger_did_not_take_stays_in_the_journal_before_anything_more_is_sent")),
    Case("a provider sends no usage", (ZERO_IS_ZERO, CUT_COUNTED, FAULTS)),
    Case("a provider sends a usage of zero", (ZERO_IS_ZERO, FAULTS,
        f"{WRITER}::test_no_usage_voids_the_hold_and_leaves_a_record")),
    Case("one family of wires is not priced", (
        f"{ERRORS}::test_a_model_without_a_price_is_refused_before_any_provider_is_called",
        f"{MESSAGES}::test_streamed_and_not_an_answer_is_the_same_and_costs_the_same")),
    Case("a price changes in mid-flight", (MACHINE, f"{WRITER}::"
        "test_the_usage_record_holds_the_facts_the_price_and_the_margin")),
    Case("a request costs more than its hold", (
        f"{WRITER}::test_usage_beyond_the_hold_becomes_debt_that_blocks_until_repaid",
        f"{WRITER}::test_an_overage_never_touches_what_another_hold_reserved",
        "property/test_rating_properties.py::test_no_reading_within_a_hold_costs_more_than_the_hold",
        f"{SEARCHES}::test_searches_are_reserved_for_and_never_overspent",
        f"{SEARCHES}::test_a_provider_s_own_searches_are_reserved_for_and_bounded")),
    Case("retries and fallback inside one request", (f"{MESSAGES}::test_a_second_target_takes_over_unseen", FAULTS)),
    Case("insufficient funds", (f"{WRITER}::test_a_refusal_names_what_would_have_been_enough",
        f"{ERRORS}::test_without_credits_the_message_says_what_is_needed")),
    Case("a duplicate client request", (
        f"{WRITER}::test_a_repeated_hold_gets_the_same_grant_and_is_held_once",
        f"{PROCESS_RACES}::test_two_processes_hold_and_settle_the_same_requests_once"),
        "clients cannot name their requests yet (Idempotency-Key): the gateway draws every id, so a request "
        "that a client sends twice is two requests"),
    Case("duplicate and reordered webhooks", (f"{WEBHOOKS}::"
        "test_every_order_and_repetition_of_a_top_ups_and_its_refunds_events_ends_in_the_same_ledger",
        f"{WEBHOOKS}::test_every_order_of_a_disputes_events_ends_in_the_same_ledger",
        f"{WEBHOOKS}::test_a_forged_or_late_event_is_refused_and_changes_nothing")),
    Case("a refund after the credits were spent", (f"{PAYMENT_REFUNDS}::"
        "test_a_refund_at_stripe_of_spent_credits_becomes_debt_and_is_forgiven_when_it_fails",
        f"{PAYMENT_REFUNDS}::test_what_was_spent_is_not_refunded_by_an_operator")),
    Case("a dispute", (f"{WRITER}::test_a_frozen_wallet_holds_nothing",
        f"{PAYMENT_REFUNDS}::test_a_dispute_freezes_and_when_lost_leaves_what_was_spent_as_debt")),
    Case("the order and expiry of promotions", (f"{WRITER}::test_lots_are_used_up_in_the_designed_order",
        f"{WRITER}::test_a_priority_comes_before_everything_else",
        f"{EXPIRY}::test_lots_are_used_by_priority_then_expiry_then_kind_then_age",
        f"{EXPIRY}::test_only_what_holds_do_not_need_expires_and_the_rest_once_they_are_closed",
        f"{EXPIRY}::test_no_new_hold_is_made_of_what_has_expired_though_nobody_swept")),
    Case("a correction", (f"{CORRECTIONS}::test_a_refund_goes_back_into_the_lots_in_reverse",
        f"{CORRECTIONS}::test_a_lot_that_has_expired_meanwhile_is_reopened_and_expires_again",
        f"{RACES}::test_refunds_at_once_never_exceed_the_charge")),
    Case("rounding", (f"{MONEY}::test_a_request_is_rounded_up_once",
        f"{MONEY}::test_charges_never_fall_with_more_tokens_and_add_up_within_a_nano")),
    Case("tax-inclusive prices, a changed VAT id", (
        f"{TOP_UPS}::test_tax_is_what_stripe_reckoned_when_it_was_paid_and_never_changes",)),
    Case("abuse of free credits", (), SIGN_UP),
    Case("a leaked key", (f"{ERRORS}::test_a_revoked_key_is_refused_at_once",
        f"{RACES}::test_once_a_key_is_revoked_nothing_is_held_with_it",
        f"{BUDGETS}::test_a_request_beyond_the_limit_is_refused_and_says_which_and_until_when",
        f"{ERRORS}::test_a_key_at_its_limit_is_told_which_one_and_until_when"),
        "a key cannot be limited to some models yet"),
    Case("an organisation is deleted that has a balance", (
        f"{GUARDS}::test_money_keeps_organisations_keys_and_wallets_from_being_deleted",)),
    Case("clocks that are wrong", (
        f"{SWEEPER}::test_a_process_that_lives_but_could_not_renew_its_leases_keeps_its_holds",
        f"{SWEEPER}::test_a_process_of_another_machine_that_renews_its_lease_after_an_outage_keeps_its_holds"),
        "times come from an injected clock, not from the database: on several hosts a clock that is off by "
        "more than two leases ends that host's holds by their checkpoints"),
    Case("what decides about money is down", (AWAY_CHARGED, FAULTS,
        f"{WRITER_FAULTS}::test_a_database_that_stays_away_is_said_so_and_the_reading_is_not_lost")),
]  # fmt: skip
"""Reference: ledgers, A7."""

PEERS = [
    Case("check, then act: new-api#6609, #5690, one-api#2440, PR#2446, #227, #52", (ADMITS_10, NEVER_OVERSPENT)),
    Case("budgets beside the balance: litellm#34732, #40095, #27381", (
        f"{RACES}::test_50_holds_for_a_keys_budget_of_10_admit_exactly_10",
        f"{BUDGETS}::test_what_other_requests_hold_counts_until_they_end",
        f"{BUDGETS}::test_holds_and_settlements_of_one_batch_share_the_budget")),
    Case("charged after the fact: litellm#26672, #23714", (ADMITS_10,
        f"{WRITER}::test_a_hold_reserves_the_worst_case_and_a_settlement_takes_what_was_used")),
    Case("a cap of each replica's own: bifrost#3547, litellm#42653", (
        f"{PROCESS_RACES}::test_two_processes_hold_and_settle_the_same_requests_once",)),
    Case("a balance below zero, the wrong bucket: sub2api#2011, octopus#234", (
        f"{GUARDS}::test_a_check_refuses", f"{WRITER}::test_lots_are_used_up_in_the_designed_order")),
    Case("counters that drift from the database: litellm#28247, #30460, #36926, #34238, #27735, PR#30039, PR#30684, "
        "PR#40940", (MACHINE, "credits/test_reconcile.py::test_a_check_finds_the_damage_and_by_how_much")),
    Case("routing by a budget that is not used up: bifrost#5770", (), "nothing is routed by what was spent"),
    Case("a client leaves: litellm#13245, #35958, PR#33736, PR#37558, PR#36008; new-api#4463, #5235, #7062",
        (LEAVES, FAULTS)),
    Case("an explicit zero replaced by an estimate: litellm#37992", (ZERO_IS_ZERO,)),
    Case("usage of an answer that was cut: litellm#17364", (CUT_COUNTED, CUT_STREAM)),
    Case("no output, but the prompt is charged: new-api#4168, #4167", (FRAME_FREE,
        f"{ERRORS}::test_a_failing_provider_costs_nothing_and_keeps_its_status")),
    Case("error texts charged as output: new-api#5287, #5288, #5289, #5290", (FRAME_FREE, CUT_STREAM,
        f"{OPENAI_STREAM}::test_an_error_inside_the_stream")),
    Case("usage in a chunk with choices, or twice: litellm#36168", (
        f"{OPENAI_STREAM}::test_usage_in_other_places_and_the_last_one_counts",
        f"{OPENAI_STREAM}::test_everything_in_one_chunk")),
    Case("cache reads lost in translation: litellm#41067, #31069", CACHE_CLASSES),
    Case("the breakdown of cache writes at the start only: litellm#42663", (
        f"{ANTHROPIC}::test_usage_of_all_classes",)),
    Case("a record that is dropped: litellm#36426", (FAULTS, LOST_CONNECTION)),
    Case("response.incomplete billed as zero: new-api#7241", (
        "providers/test_openai_responses_stream.py::test_an_incomplete_answer_is_charged_what_it_used",)),
    Case("cache tokens counted twice or not at all: new-api PR#3258, sub2api#2944, #6125, #1303; litellm#11364, "
        "#11789, #11935, PR#37407; OmniRoute PR#2522", (*CACHE_CLASSES, f"{MONEY}::test_a_reading_is_charged_by_class",
        f"{METERING}::test_told_classes_are_taken_as_they_are")),
    Case("negative usage credits the user: octopus#243", (f"{WRITER}::test_a_providers_nonsense_counts_as_nothing",
        f"{MONEY}::test_absurd_counts_are_brought_within_bounds")),
    Case("a price typed for a million tokens taken for one: litellm#20615", (
        "providers/test_catalogue.py::test_usd_become_whole_nanos_and_come_back",
        "gateway/test_price_matrix.py::test_each_wire_streamed_and_not_is_charged_by_class_and_tier")),
    Case("deadlocks and lost connections drop a charge: litellm#27989, #6895, PR#34887, PR#24799, #27221, PR#15281, "
        "PR#9690", (LOST_CONNECTION, FAULTS)),
    Case("the request path scans a table: litellm#35766", (), "no query of the request path reads usage records"),
    Case("updates of counters dominate: litellm#31866, #2169", (f"{WRITER}::test_many_callers_share_their_commits",)),
]  # fmt: skip
"""Reference: peers' issues, 1.5."""


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("case", [*EDGE_CASES, *PEERS], ids=lambda case: case.name)
def test_each_case_has_its_tests_or_a_reason(case: Case) -> None:
    assert case.tests or case.reason
    for test in case.tests:
        file, _, name = test.partition("::")
        assert name in functions(file), f"there is no {test}"


def test_all_22_edge_cases_are_here() -> None:
    assert len({case.name for case in EDGE_CASES}) == 22


def test_all_issues_of_the_peers_are_here() -> None:
    named = [number for case in PEERS for number in re.findall(r"#\d+", case.name)]
    assert len(named) == len(set(named)) == 67
