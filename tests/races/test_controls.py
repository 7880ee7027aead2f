"""Every race test has its control, in which the same goes wrong without the guard."""

import inspect
from types import ModuleType

import pytest

from tests.races import test_credits_races, test_process_races

MODULES: list[ModuleType] = [test_credits_races, test_process_races]
NO_STATE_CHECK = "test_control_without_the_state_check_a_double_settlement_charges_twice"
NO_STATE_CHECK_SWEEP = "test_control_without_the_state_check_a_sweep_charges_after_a_settlement"
NO_STATE_CHECK_PROCESSES = "test_control_without_the_state_check_two_processes_charge_the_same_request_twice"
CONTROLS = {
    "test_50_holds_for_a_balance_of_10_admit_exactly_10":
        "test_control_without_the_wallets_lock_more_than_10_are_admitted",
    "test_50_holds_for_a_keys_budget_of_10_admit_exactly_10":
        "test_control_a_budget_read_before_the_wallets_lock_admits_more_than_10",
    "test_many_organisations_for_the_last_redemptions_get_exactly_those":
        "test_control_without_compare_and_set_more_get_it",
    "test_one_organisation_redeems_a_code_once_however_often_it_asks_at_once":
        "test_control_without_the_unique_key_and_the_look_one_organisation_gets_it_twice",
    "test_refunds_at_once_never_exceed_the_charge":
        "test_control_without_the_sum_and_its_trigger_refunds_exceed_the_charge",
    "test_an_adjustment_is_decided_once_by_many_at_once":
        "test_control_without_compare_and_set_an_adjustment_is_approved_and_rejected",
    "test_sweeps_and_holds_at_once_expire_each_lot_once":
        "test_control_a_lot_that_is_believed_whole_expires_again",
    "test_a_hold_sent_many_times_at_once_is_made_once":
        "test_control_without_a_look_at_what_is_stored_a_repeated_hold_has_no_answer",
    "test_a_settlement_sent_many_times_at_once_charges_once": NO_STATE_CHECK,
    "test_sweeps_and_late_settlements_end_each_hold_once": NO_STATE_CHECK_SWEEP,
    "test_captures_of_many_threads_never_take_more_from_a_lot_than_it_has":
        "test_control_with_a_stale_view_of_the_lots_the_ledger_notices_the_drift",
    "test_a_grant_beside_holds_and_settlements_is_not_lost":
        "test_control_without_the_wallets_lock_a_grant_undoes_a_settlement",
    "test_the_same_grant_from_many_threads_is_given_once":
        "test_control_without_its_key_the_same_grant_is_given_each_time",
    "test_once_a_key_is_revoked_nothing_is_held_with_it":
        "test_control_a_key_that_is_remembered_holds_after_its_revocation",
    "test_two_processes_hold_and_settle_the_same_requests_once": NO_STATE_CHECK_PROCESSES,
    "test_sweepers_of_two_processes_and_a_late_settlement_end_each_hold_once": NO_STATE_CHECK_SWEEP,
}  # fmt: skip


def functions() -> set[str]:
    return {
        name
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_") and function.__module__ == module.__name__
    }


def test_every_race_has_its_control_and_every_control_its_race():
    controls = {name for name in functions() if name.startswith("test_control_")}
    assert functions() - controls == set(CONTROLS)
    assert controls == set(CONTROLS.values())


def test_every_module_of_races_is_known(request: pytest.FixtureRequest):
    folder = request.path.parent
    assert {path.stem for path in folder.glob("test_*_races.py")} == {m.__name__.rpartition(".")[2] for m in MODULES}
