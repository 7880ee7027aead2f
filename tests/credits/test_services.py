"""Accounts, grants, the sweeper, reconciliation, commands and tasks."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from msgspec.structs import replace

from accounts.keys import SHAPE, digest
from accounts.models import ApiKey, Organization, User
from credits import services, tasks
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.errors import HoldClosed, InvalidAmount, TransferConflict
from credits.journal import Journal
from credits.models import CreditLot, Hold, LotKind, ReconciliationRun, Transfer, UsageRecord, Wallet
from credits.payments import tasks as payment_tasks
from credits.reconcile import run_checks
from credits.records import Checkpoint
from credits.selectors import balance, holds_by_state, wallets_in_debt
from credits.types import UNKNOWN_COST, HoldRequest, MeterReading, Settlement, SettleRequest, UsageSource
from credits.usage import rollups
from credits.usage.requests import requests_page
from credits.usage.selectors import platform_total
from credits.usage.types import Span
from tests.credits.support import (
    FACTS,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    flat,
    new_tenant,
    raw,
    settlement,
    sweep_lapsed,
)

pytestmark = pytest.mark.django_db
LATER = timedelta(minutes=5)


@pytest.fixture
def runner() -> BatchRunner:
    return BatchRunner(connection, owner="gone", lease_seconds=60, clock=timezone.now)


@pytest.fixture(autouse=True)
def journals(settings, tmp_path: Path) -> Iterator[Path]:
    settings.JOURNAL_DIR = tmp_path
    yield tmp_path


def held(runner: BatchRunner, request: HoldRequest, *, dispatch: bool = True) -> str:
    runner.run([HoldOp(request, dispatch)])
    return request.request_id


def later() -> datetime:
    return timezone.now() + LATER


def test_an_account_is_opened_once(db):
    first = services.open_account(email="Ada@example.com", password="a long password")
    again = services.open_account(email="ada@example.com")
    assert (first.created, again.created) == (True, False)
    assert first.organization == again.organization
    assert Wallet.objects.get(pk=first.organization.pk).posted == 0
    team = services.open_account(email="ada@example.com", organization_name="Engines")
    assert team.organization.name == "Engines"
    assert Wallet.objects.count() == 2


def test_a_grant_is_given_once_for_its_key(customer: Tenant):
    first = services.grant(customer.organization_id, USD, reason="r", idempotency_key="k")
    assert services.grant(customer.organization_id, USD, reason="r", idempotency_key="k") == first
    assert balance(customer.organization_id).available == 11 * USD
    with pytest.raises(TransferConflict):
        services.grant(customer.organization_id, 2 * USD, reason="r", idempotency_key="k")
    with pytest.raises(TransferConflict):
        services.grant(new_tenant().organization_id, USD, reason="r", idempotency_key="k")
    assert_reconciled()


@pytest.mark.parametrize("amount", [0, -1, 2**63, 2**63 - 1])
def test_a_grant_that_cannot_be_posted_is_refused(customer: Tenant, amount: int):
    with pytest.raises(InvalidAmount):
        services.grant(customer.organization_id, amount, reason="r", idempotency_key="k")
    assert_reconciled()


def test_a_promotion_comes_from_its_own_account(customer: Tenant):
    services.grant(customer.organization_id, USD, reason="hello", idempotency_key="k", kind=LotKind.PROMO)
    transfer = Transfer.objects.get(idempotency_key="grant:k")
    assert (transfer.debit.kind, transfer.credit.kind, transfer.code) == ("promo_expense", "wallet", "promo")
    assert CreditLot.objects.get(source=transfer).kind == "promo"


def test_an_overdue_hold_with_a_checkpoint_is_charged_what_it_says(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold(output=1000))
    point = Checkpoint(MeterReading(output=300, source=UsageSource.COUNTED), FACTS, flat(USD // 2))
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), request_id)
    assert sweep_lapsed() == services.Sweep(settled=1, expired=0)
    record = UsageRecord.objects.get(pk=request_id)
    assert (record.charge, record.cost, record.output_tokens) == (300 * TOKEN, 150 * TOKEN, 300)
    assert (record.usage_source, record.status, record.error_code) == ("checkpoint", 499, "interrupted")
    assert (record.provider, record.total_ms) == ("p", 5)
    assert Hold.objects.get(pk=request_id).state == "captured"
    assert_reconciled()


def test_an_interrupted_answer_by_the_tenant_s_own_key_is_charged_at_its_fee(customer: Tenant, runner: BatchRunner):
    """Held in full, since the platform's key may have to serve it; the checkpoint says which did."""
    request_id = held(runner, customer.hold(output=1000))
    point = Checkpoint(MeterReading(output=300, source=UsageSource.COUNTED), FACTS, flat(0), flat(USD // 20))
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), request_id)
    assert sweep_lapsed() == services.Sweep(settled=1, expired=0)
    record = UsageRecord.objects.select_related("price_snapshot").get(pk=request_id)
    assert (record.charge, record.cost) == (300 * TOKEN // 20, 0)
    assert record.price_snapshot.output == USD // 20
    assert Hold.objects.get(pk=request_id).captured == record.charge
    assert_reconciled()


def test_an_overdue_hold_without_a_checkpoint_costs_nothing(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold())
    sweep_lapsed()
    record = UsageRecord.objects.get(pk=request_id)
    assert (record.charge, record.usage_source, record.error_code) == (0, "none", "interrupted")
    assert (record.route, record.requested_model, record.streamed) == ("default", "m", True)
    assert Hold.objects.get(pk=request_id).state == "voided"
    assert customer.wallet.available == 10 * USD


def test_a_lost_settlement_is_made_up_for_as_it_was(customer: Tenant, runner: BatchRunner):
    """The provider had told the usage: it is no interruption for the customer."""
    request_id = held(runner, customer.hold())
    point = Checkpoint(MeterReading(output=42), FACTS)
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), request_id)
    sweep_lapsed()
    record = UsageRecord.objects.get(pk=request_id)
    assert (record.charge, record.usage_source, record.status) == (42 * TOKEN, "provider", 200)


def test_a_counted_reading_never_charges_more_output_than_was_reserved(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold(output=100))
    point = Checkpoint(MeterReading(output=5000, source=UsageSource.COUNTED), FACTS)
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), request_id)
    sweep_lapsed()
    assert UsageRecord.objects.get(pk=request_id).charge == 100 * TOKEN


def test_an_overdue_open_hold_expires_to_the_customer(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold(), dispatch=False)
    assert services.sweep() == services.Sweep(0, 0)
    assert services.sweep(later()) == services.Sweep(settled=0, expired=1)
    assert Hold.objects.get(pk=request_id).state == "expired"
    assert customer.wallet.available == 10 * USD
    with pytest.raises(HoldClosed):
        services.dispatch(request_id)
    assert_reconciled()


def test_a_dispatched_hold_no_longer_expires(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold(), dispatch=False)
    services.dispatch(request_id)
    assert sweep_lapsed() == services.Sweep(settled=1, expired=0)
    assert Hold.objects.get(pk=request_id).state == "voided"


def test_a_hold_whose_lease_runs_is_left_alone(customer: Tenant, runner: BatchRunner):
    held(runner, customer.hold())
    assert services.sweep() == services.Sweep(0, 0)
    assert holds_by_state() == {"open": 0, "dispatched": 1, "needs_settlement": 0}


def test_a_dead_process_journal_is_settled_at_once(customer: Tenant, runner: BatchRunner, journals: Path):
    request_id = held(runner, customer.hold(output=1000))
    journal = Journal(journals, "gone")
    journal.claim(request_id).write(MeterReading(input=10, output=20))
    assert services.sweep() == services.Sweep(0, 0), "its process lives"
    journal.let_go()
    assert services.sweep() == services.Sweep(settled=1, expired=0)
    assert UsageRecord.objects.get(pk=request_id).charge == 30 * TOKEN
    assert list(journals.iterdir()) == []


def test_a_sweep_that_cannot_settle_one_hold_settles_the_others_and_keeps_it(
    customer: Tenant, runner: BatchRunner, monkeypatch: pytest.MonkeyPatch
):
    bad, good = held(runner, customer.hold()), held(runner, customer.hold())
    raw("UPDATE credits_hold SET checkpoint = %s", Checkpoint(MeterReading(output=5), FACTS).stored())
    from credits import batch
    from credits.errors import LedgerDrift

    close = batch.close

    def refuse(books, hold, *args):
        if hold.id == bad:
            raise LedgerDrift("no")
        return close(books, hold, *args)

    monkeypatch.setattr(batch, "close", refuse)
    assert sweep_lapsed().settled == 1
    assert Hold.objects.get(pk=bad).state == "needs_settlement"
    assert Hold.objects.get(pk=good).state == "captured"
    monkeypatch.undo()
    assert sweep_lapsed().settled == 1
    assert_reconciled()


def test_a_settlement_after_the_sweep_gets_no_second_charge(customer: Tenant, runner: BatchRunner):
    request_id = held(runner, customer.hold())
    sweep_lapsed()
    assert isinstance(runner.run([SettleOp(settlement(request_id, 10))])[0], HoldClosed)
    assert customer.wallet.posted == 10 * USD


def test_create_key_prints_only_a_key_that_works(db):
    out, err = StringIO(), StringIO()
    call_command(
        "create_key", email="New@example.com", org="Engines", credits="2.50", name="ci", stdout=out, stderr=err
    )
    secret = out.getvalue().strip()
    assert SHAPE.fullmatch(secret)
    assert out.getvalue() == secret + "\n"
    key = ApiKey.objects.get(digest=digest(secret))
    assert (key.name, key.organization.name) == ("ci", "Engines")
    assert balance(key.organization_id).available == 2_500_000_000
    assert "$2.50" in err.getvalue()
    call_command("create_key", email="new@example.com", org="Engines", stdout=StringIO(), stderr=err)
    assert (User.objects.count(), Organization.objects.filter(name="Engines").count()) == (1, 1)
    assert_reconciled()


@pytest.mark.parametrize("credits_", ["0", "0.00", ""])
def test_create_key_without_credits(db, credits_: str):
    out, err = StringIO(), StringIO()
    call_command("create_key", email="new@example.com", credits=credits_, stdout=out, stderr=err)
    key = ApiKey.objects.get(digest=digest(out.getvalue().strip()))
    assert balance(key.organization_id).available == 0
    assert err.getvalue() == "Created the user new@example.com.\n"


@pytest.mark.parametrize(
    "options",
    [
        {"email": "nobody"},
        {"email": "a@b.co", "credits": "lots"},
        {"email": "a@b.co", "credits": "-1"},
        {"email": "a@b.co", "credits": "1e30"},
    ],
)
def test_create_key_leaves_nothing_behind_when_it_fails(db, options: dict[str, str]):
    err = StringIO()
    with pytest.raises(CommandError):
        call_command("create_key", stdout=StringIO(), stderr=err, **options)
    assert not User.objects.exists()
    assert not err.getvalue()


def test_usage_is_listed_for_its_organisation_only(customer: Tenant, runner: BatchRunner):
    other = new_tenant(USD)
    for tenant, tokens in ((customer, 5), (other, 7)):
        runner.run([SettleOp(settlement(held(runner, tenant.hold()), tokens, cache_read=2, cache_write=1))])
    rows = requests_page(customer.organization_id).rows
    assert [(row.output_tokens, row.cached_tokens, row.charge) for row in rows] == [(5, 3, 8 * TOKEN)]
    totals = platform_total(Span.last_days(timezone.now(), 2))
    assert (totals.requests, totals.charge, totals.margin) == (2, 18 * TOKEN, 18 * TOKEN)
    assert wallets_in_debt() == 0
    assert balance(10**9) == balance(10**9 + 1)


def test_a_request_whose_cost_nobody_knows_is_neither_margin_nor_a_sale_under_cost(
    customer: Tenant, runner: BatchRunner
):
    """As the gateway settles it: with the customer's price as the cost (gateway.run, gateway/test_price_matrix.py)."""
    facts = replace(FACTS, attempts=({"provider": "p", "cost": UNKNOWN_COST},))
    for price, cost in ((flat(USD + 1), flat(USD + 1)), (flat(USD), flat(USD // 2))):
        request = customer.hold(price=price)
        held(runner, request)
        runner.run([SettleOp(SettleRequest(request.request_id, MeterReading(output=333), cost, facts))])
    unknown, known = UsageRecord.objects.order_by("-charge")
    assert (unknown.charge, unknown.cost, unknown.margin) == (333 * TOKEN + 1, 333 * TOKEN + 1, 0)
    for _ in range(2):
        totals = platform_total(Span.last_days(timezone.now(), 2))
        assert totals.margin == known.margin == 333 * TOKEN // 2, "the margin is that of the other one alone"
        rollups.roll_up()
    assert [str(finding) for finding in run_checks() if not finding.ok] == []


def test_the_tasks_do_what_their_schedule_names(customer: Tenant):
    run = (
        tasks.sweep, tasks.expire_lots, tasks.roll_up_usage, tasks.check_rollups, tasks.archive_usage, tasks.reconcile,
        tasks.roll_up_targets, tasks.forfeit_closed, payment_tasks.sweep_payments, payment_tasks.poll_stripe,
        payment_tasks.read_stripe_balance, payment_tasks.auto_top_up, payment_tasks.billing_alerts,
    )  # fmt: skip
    assert {entry["task"] for entry in tasks.BEAT_SCHEDULE.values()} == {task.name for task in run}
    by_name = {task.name: task for task in run}
    for entry in tasks.BEAT_SCHEDULE.values():
        by_name[entry["task"]](**entry.get("kwargs", {}))
    assert [run.ok for run in ReconciliationRun.objects.all()] == [True, True]


def test_an_operator_grants_credits_once_however_often_the_form_is_sent(customer: Tenant, client):
    client.force_login(User.objects.create_superuser("root@example.com", "x"))
    page = f"/admin/credits/wallet/{customer.organization_id}/grant/"
    key = client.get(page).context["form"].initial["key"]
    for _ in range(2):
        answer = client.post(page, {"amount": "2.5", "reason": "sorry", "key": key})
        assert answer.status_code == 302
    assert customer.wallet.posted == 12_500_000_000
    transfer = Transfer.objects.get(reason="sorry")
    assert transfer.created_by is not None
    assert transfer.created_by.email == "root@example.com"
    answer = client.post(page, {"amount": "-1", "reason": "x", "key": "k2"})
    assert "above zero" in answer.content.decode()
    assert customer.wallet.posted == 12_500_000_000


def test_staff_without_the_right_grant_nothing(customer: Tenant, client):
    client.force_login(User.objects.create_user("staff@example.com", "x", is_staff=True))
    page = f"/admin/credits/wallet/{customer.organization_id}/grant/"
    assert client.post(page, {"amount": "2", "reason": "x", "key": "k"}).status_code in {302, 403}
    assert customer.wallet.posted == 10 * USD


def test_a_hold_dispatched_later_can_be_settled(customer: Tenant, runner: BatchRunner):
    request = customer.hold()
    runner.run([HoldOp(request, dispatch=False)])
    services.dispatch(request.request_id)
    outcome = runner.run([SettleOp(settlement(request.request_id, 10))])[0]
    assert isinstance(outcome, Settlement)
    assert customer.wallet.held == 0


def test_an_expired_hold_s_credits_repay_debt_first(customer: Tenant, runner: BatchRunner):
    """Else the wallet would refuse every request though it could pay."""
    everything = 10 * USD
    reserved = customer.hold(output=(everything - 100 * TOKEN) // TOKEN)
    costly = customer.hold(output=100)
    runner.run([HoldOp(reserved, dispatch=False), HoldOp(costly)])
    runner.run([SettleOp(settlement(costly.request_id, 150))])
    assert (customer.wallet.debt, customer.wallet.posted - customer.wallet.held) == (50 * TOKEN, 0)
    sweep_lapsed()
    assert (customer.wallet.debt, customer.wallet.held) == (0, 0)
    assert customer.wallet.posted == everything - 150 * TOKEN
    assert_reconciled()
