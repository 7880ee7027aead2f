"""What a key may spend: kept in the transaction of the hold and the settlement."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connections

from accounts.models import ApiKey
from accounts.services import create_key
from credits.batch import BatchRunner, HoldOp, InterruptOp, SettleOp
from credits.errors import BudgetExceeded, InsufficientCredits, InvalidAmount
from credits.key_budgets import set_key_budget
from credits.models import KeyBudget
from credits.types import HoldGrant
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled, new_tenant, raw, settlement

MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = MONDAY

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(customer: Tenant, clock: Clock) -> BatchRunner:
    return BatchRunner(connections["default"], owner="test", lease_seconds=60, clock=clock)


def limit(tenant: Tenant, clock: Clock, **tokens: int | None) -> None:
    limits = {window: None if each is None else each * TOKEN for window, each in tokens.items()}
    set_key_budget(tenant.organization_id, tenant.api_key_id, limits, now=clock.now)


def spend(runner: BatchRunner, tenant: Tenant, tokens: int) -> None:
    request = tenant.hold(output=tokens)
    held = runner.run([HoldOp(request)])[0]
    assert isinstance(held, HoldGrant), held
    runner.run([SettleOp(settlement(request.request_id, tokens))])


def budget(tenant: Tenant) -> KeyBudget:
    return KeyBudget.objects.get(pk=tenant.api_key_id)


def test_a_request_beyond_the_limit_is_refused_and_says_which_and_until_when(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, day=1000, month=5000)
    spend(runner, customer, 900)
    refused = runner.run([HoldOp(customer.hold(output=200))])[0]
    assert isinstance(refused, BudgetExceeded)
    assert (refused.window, refused.limit, refused.available) == ("day", 1000 * TOKEN, 100 * TOKEN)
    assert refused.needed == 200 * TOKEN
    assert refused.resets_at == datetime(2026, 11, 24, tzinfo=UTC)
    clock.now += timedelta(days=1)
    spend(runner, customer, 1000)
    assert (budget(customer).spent_day, budget(customer).spent_month) == (1000 * TOKEN, 1900 * TOKEN)
    assert_reconciled()


def test_what_other_requests_hold_counts_until_they_end(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, total=1000)
    first = customer.hold(output=900)
    runner.run([HoldOp(first)])
    assert budget(customer).held == 900 * TOKEN
    assert isinstance(runner.run([HoldOp(customer.hold(output=200))])[0], BudgetExceeded)
    runner.run([SettleOp(settlement(first.request_id, 10))])
    assert (budget(customer).held, budget(customer).spent_total) == (0, 10 * TOKEN)
    spend(runner, customer, 990)
    assert isinstance(runner.run([HoldOp(customer.hold(output=1))])[0], BudgetExceeded)


def test_a_large_request_is_cut_to_what_the_limit_affords(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, week=2000)
    grant = runner.run([HoldOp(customer.hold(prompt=100, output=5000))])[0]
    assert isinstance(grant, HoldGrant)
    assert (grant.amount, grant.max_tokens) == (1000 * TOKEN, 900)


def test_the_wallet_still_has_the_last_word(runner, clock: Clock):
    poor = new_tenant(100 * TOKEN)
    limit(poor, clock, total=10_000)
    assert isinstance(runner.run([HoldOp(poor.hold(output=200))])[0], InsufficientCredits)


def test_holds_and_settlements_of_one_batch_share_the_budget(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, total=1000)
    outcomes = runner.run([HoldOp(customer.hold(output=100)) for _ in range(15)])
    assert sum(isinstance(outcome, HoldGrant) for outcome in outcomes) == 10
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == 5
    assert budget(customer).held == 1000 * TOKEN


def test_an_interrupted_request_gives_its_reservation_back(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, total=1000)
    request = customer.hold(output=1000)
    runner.run([HoldOp(request)])
    assert runner.run([InterruptOp(request.request_id)]) == [True]
    assert (budget(customer).held, budget(customer).spent_total) == (0, 0)


def test_weeks_begin_on_monday_and_months_on_the_first(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, week=1000, month=1500)
    clock.now = datetime(2026, 11, 29, 23, 59, tzinfo=UTC)  # a Sunday
    spend(runner, customer, 1000)
    clock.now = datetime(2026, 11, 30, tzinfo=UTC)
    spend(runner, customer, 500)
    assert isinstance(runner.run([HoldOp(customer.hold(output=300))])[0], BudgetExceeded)
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    spend(runner, customer, 500)
    assert (budget(customer).spent_week, budget(customer).spent_month) == (1000 * TOKEN, 500 * TOKEN)


def test_a_budget_set_later_counts_what_was_spent_and_is_held(customer: Tenant, runner, clock: Clock):
    spend(runner, customer, 300)
    clock.now += timedelta(days=1)
    spend(runner, customer, 200)
    runner.run([HoldOp(customer.hold(output=50))])
    limit(customer, clock, total=10_000)
    made = budget(customer)
    assert (made.spent_total, made.spent_day, made.spent_week) == (500 * TOKEN, 200 * TOKEN, 500 * TOKEN)
    assert made.held == 50 * TOKEN


def test_lifting_a_limit_lets_requests_pass_and_keeps_the_counters(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, total=100)
    spend(runner, customer, 100)
    limit(customer, clock, total=None)
    spend(runner, customer, 1000)
    assert budget(customer).spent_total == 1100 * TOKEN


def test_a_key_without_a_budget_is_not_limited_by_another_keys(customer: Tenant, runner, clock: Clock):
    limit(customer, clock, total=0)
    other = create_key(organization=ApiKey.objects.get(pk=customer.api_key_id).organization, name="b", created_by=None)
    spend(runner, Tenant(customer.organization_id, other.id), 100)
    assert isinstance(runner.run([HoldOp(customer.hold(output=1))])[0], BudgetExceeded)


def test_limits_that_cannot_be_are_refused(customer: Tenant, clock: Clock):
    with pytest.raises(InvalidAmount):
        limit(customer, clock, day=-1)
    with pytest.raises(ValueError, match="'year'"):
        limit(customer, clock, year=1)
    with pytest.raises(ApiKey.DoesNotExist):
        set_key_budget(new_tenant().organization_id, customer.api_key_id, {"day": 1})
    assert not KeyBudget.objects.exists()


@pytest.mark.parametrize("column", ["held", "spent_total", "spent_day", "limit_week"])
def test_the_database_refuses_negative_amounts(customer: Tenant, clock: Clock, column: str):
    limit(customer, clock, week=5)
    with pytest.raises(IntegrityError):
        raw(f"UPDATE credits_keybudget SET {column} = -1")


def test_create_key_takes_limits(db, capsys):
    call_command("create_key", email="limited@example.com", limit_day="2.50", limit_total="100")
    made = KeyBudget.objects.get(api_key__organization__personal_owner__email="limited@example.com")
    assert (made.limit_day, made.limit_total, made.limit_month) == (2_500_000_000, 100 * USD, None)
    assert capsys.readouterr().out.startswith("sk-ccm-")
