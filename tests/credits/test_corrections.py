"""Refunds of requests, adjustments by two people, and write-offs: what each does to the ledger and who may."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from credits import corrections, services
from credits.batch import BatchRunner, HoldOp, SettleOp
from credits.correction_models import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    Correction,
    HoldWriteOff,
    LotReopening,
)
from credits.errors import CorrectionRefused, HoldClosed, InvalidAmount, SamePerson, TransferConflict
from credits.models import CreditLot, Hold, LotKind, Transfer, UsageRecord
from credits.records import Checkpoint
from credits.types import MeterReading, PriceSnapshot, UsageSource
from credits.usage.requests import requests_page
from tests.credits.support import (
    FACTS,
    TOKEN,
    USD,
    Tenant,
    assert_reconciled,
    new_tenant,
    operator,
    pay_in,
    raw,
    settlement,
)

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def runner() -> BatchRunner:
    return BatchRunner(connection, owner="gone", lease_seconds=60, clock=timezone.now)


@pytest.fixture
def maker(db: None) -> User:
    return operator("maker")


@pytest.fixture
def checker(db: None) -> User:
    return operator("checker")


@pytest.fixture
def poor(db: None) -> Tenant:
    return new_tenant()


def charge(runner: BatchRunner, tenant: Tenant, nanos: int, *, held: int | None = None, request_id: str = "") -> str:
    request = tenant.hold(output=(held or nanos) // TOKEN, request_id=request_id)
    runner.run([HoldOp(request)])
    runner.run([SettleOp(settlement(request.request_id, nanos // TOKEN))])
    assert Hold.objects.get(pk=request.request_id).captured == nanos
    return request.request_id


def refund(request_id: str, nanos: int, by: User, ticket: str = "T-1") -> Correction:
    return corrections.refund(request_id, nanos, ticket=ticket, reason="bad answer", by=by)


def parts(correction: Correction) -> tuple[int, int, int]:
    return correction.restored, correction.debt_cancelled, correction.credited


# Refunds of requests


def test_a_refund_goes_back_into_the_lots_in_reverse(poor: Tenant, runner: BatchRunner, maker: User):
    poor.grant(USD, kind=LotKind.PROMO)
    pay_in(poor, 3 * USD)
    promo, paid = CreditLot.objects.order_by("pk")
    request_id = charge(runner, poor, 3 * USD)
    done = refund(request_id, USD, maker)
    assert parts(done) == (USD, 0, 0)
    promo.refresh_from_db()
    paid.refresh_from_db()
    assert (promo.remaining, paid.remaining) == (0, 2 * USD)
    refund(request_id, 2 * USD, maker, "T-2")
    promo.refresh_from_db()
    paid.refresh_from_db()
    assert (promo.remaining, paid.remaining) == (USD, 3 * USD)
    reopened = [(each.transfer_id, each.lot_id, each.amount) for each in LotReopening.objects.order_by("pk")]
    assert [(str(key), lot_id, nanos) for key, lot_id, nanos in reopened] == [
        (f"correct:T-1:{request_id}", paid.pk, USD),
        (f"correct:T-2:{request_id}", paid.pk, USD),
        (f"correct:T-2:{request_id}", promo.pk, USD),
    ]
    transfer = Transfer.objects.get(idempotency_key=f"correct:T-1:{request_id}")
    assert (transfer.debit.kind, transfer.credit.kind, transfer.created_by) == ("revenue", "wallet", maker)
    assert (transfer.code, transfer.hold_id, transfer.reason) == ("correct", request_id, "bad answer")
    assert_reconciled()


def test_never_more_than_was_charged(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = charge(runner, customer, USD)
    refund(request_id, USD - 5, maker)
    with pytest.raises(CorrectionRefused, match=r"\$0\.000000005"):
        refund(request_id, 6, maker, "T-2")
    refund(request_id, 5, maker, "T-2")
    for nanos in (0, -1, 2**63):
        with pytest.raises(InvalidAmount):
            refund(request_id, nanos, maker, "T-3")
    with pytest.raises(CorrectionRefused):
        refund(request_id, 1, maker, "T-3")
    assert customer.wallet.posted == 10 * USD
    assert_reconciled()


def test_a_ticket_refunds_a_request_once(customer: Tenant, runner: BatchRunner, maker: User, checker: User):
    request_id = charge(runner, customer, USD)
    first = refund(request_id, 100, maker)
    assert refund(request_id, 100, checker) == first
    with pytest.raises(TransferConflict):
        refund(request_id, 101, maker)
    other = charge(runner, customer, USD)
    refund(other, 100, maker)
    assert customer.wallet.posted == 8 * USD + 200
    assert_reconciled()


def test_what_was_not_charged_is_not_refunded(customer: Tenant, runner: BatchRunner, maker: User):
    running = customer.hold()
    runner.run([HoldOp(running)])
    for request_id in (running.request_id, "req_unknown"):
        with pytest.raises(HoldClosed):
            refund(request_id, 1, maker)


def test_what_is_still_owed_is_cancelled_first(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = charge(runner, customer, 12 * USD, held=USD)
    assert (customer.wallet.posted, customer.wallet.debt) == (0, 2 * USD)
    assert parts(refund(request_id, USD, maker)) == (0, USD, 0)
    assert (customer.wallet.posted, customer.wallet.debt) == (0, USD)
    transfer = Transfer.objects.get(code="correct")
    assert (transfer.debit.kind, transfer.credit.kind) == ("revenue", "receivable")
    assert parts(refund(request_id, 3 * USD, maker, "T-2")) == (2 * USD, USD, 0)
    assert (customer.wallet.posted, customer.wallet.debt) == (2 * USD, 0)
    assert_reconciled()


def test_debt_that_was_repaid_meanwhile_comes_back_as_credits(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = charge(runner, customer, 12 * USD, held=USD)
    customer.grant(5 * USD)
    assert (customer.wallet.posted, customer.wallet.debt) == (3 * USD, 0)
    assert parts(refund(request_id, 12 * USD, maker)) == (10 * USD, 0, 2 * USD)
    lot = CreditLot.objects.order_by("-pk")[0]
    assert (lot.kind, lot.amount, lot.source_id) == ("adjustment", 2 * USD, f"correct:T-1:{request_id}:credit")
    assert customer.wallet.posted == 15 * USD
    assert_reconciled()


def test_another_request_s_debt_is_repaid_from_a_refund(customer: Tenant, runner: BatchRunner, maker: User):
    fine = charge(runner, customer, USD)
    charge(runner, customer, 12 * USD, held=USD)
    assert (customer.wallet.posted, customer.wallet.debt) == (0, 3 * USD)
    refund(fine, USD, maker)
    assert (customer.wallet.posted, customer.wallet.debt) == (0, 2 * USD)
    assert_reconciled()


def test_a_lot_that_has_expired_meanwhile_is_reopened_and_expires_again(poor: Tenant, runner: BatchRunner, maker: User):
    now = timezone.now()
    poor.grant(2 * USD, kind=LotKind.PROMO, expires_at=now + DAY)
    request_id = charge(runner, poor, USD)
    services.expire_lots(now + DAY)
    assert (poor.wallet.posted, poor.wallet.next_expiry) == (0, None)
    refund(request_id, USD, maker)
    assert (poor.wallet.posted, poor.wallet.next_expiry) == (USD, now + DAY)
    assert services.expire_lots(now + DAY) == USD
    lot = CreditLot.objects.get()
    assert (lot.remaining, lot.expired, poor.wallet.posted) == (0, 2 * USD, 0)
    assert_reconciled()


def test_the_usage_record_stays_and_the_refund_stands_beside_it(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = charge(runner, customer, USD)
    before = UsageRecord.objects.filter(pk=request_id).values().get()
    refund(request_id, 100, maker)
    refund(request_id, 50, maker, "T-2")
    assert UsageRecord.objects.filter(pk=request_id).values().get() == before
    assert [(row.charge, row.refunded) for row in requests_page(customer.organization_id).rows] == [(USD, 150)]


# Adjustments


def propose(tenant: Tenant, kind: str, nanos: int, by: User, key: str = "k") -> Adjustment:
    return corrections.propose(
        tenant.organization_id, AdjustmentKind(kind), nanos, reason="why", key=key, by=by, ticket="T"
    )


def test_a_proposal_changes_nothing_until_somebody_else_approves_it(customer: Tenant, maker: User, checker: User):
    proposed = propose(customer, "credit", USD, maker)
    assert customer.wallet.posted == 10 * USD
    with pytest.raises(SamePerson):
        corrections.approve(proposed.pk, by=maker)
    with pytest.raises(SamePerson):
        corrections.reject(proposed.pk, by=maker)
    assert customer.wallet.posted == 10 * USD
    done = corrections.approve(proposed.pk, by=checker, decision="fine")
    assert (done.state, done.decided_by, done.decision) == (AdjustmentState.APPROVED, checker, "fine")
    transfer = Transfer.objects.get(idempotency_key=f"adjust:{proposed.pk}")
    assert (transfer.debit.kind, transfer.credit.kind, transfer.created_by) == ("adjustment", "wallet", checker)
    assert CreditLot.objects.get(source=transfer).kind == "adjustment"
    assert customer.wallet.posted == 11 * USD
    for decide in (corrections.approve, corrections.reject):
        with pytest.raises(CorrectionRefused):
            decide(proposed.pk, by=checker)
    assert customer.wallet.posted == 11 * USD
    assert_reconciled()


def test_a_rejected_proposal_stays_rejected(customer: Tenant, maker: User, checker: User):
    proposed = propose(customer, "debit", USD, maker)
    assert corrections.reject(proposed.pk, by=checker).state == AdjustmentState.REJECTED
    with pytest.raises(CorrectionRefused):
        corrections.approve(proposed.pk, by=checker)
    assert customer.wallet.posted == 10 * USD


def test_a_form_proposes_once(customer: Tenant, maker: User):
    assert propose(customer, "credit", USD, maker) == propose(customer, "credit", USD, maker)
    with pytest.raises(TransferConflict):
        propose(customer, "credit", 2 * USD, maker)
    with pytest.raises(InvalidAmount):
        propose(customer, "credit", 0, maker, "k2")


def test_a_debit_takes_at_most_what_is_free(customer: Tenant, runner: BatchRunner, maker: User, checker: User):
    runner.run([HoldOp(customer.hold(output=4 * USD // TOKEN))])
    much = propose(customer, "debit", 6 * USD + 1, maker)
    with pytest.raises(CorrectionRefused, match=r"Only \$6\.00 is free"):
        corrections.approve(much.pk, by=checker)
    much.refresh_from_db()
    assert much.state == AdjustmentState.PROPOSED
    corrections.approve(propose(customer, "debit", 6 * USD, maker, "k2").pk, by=checker)
    assert (customer.wallet.posted, customer.wallet.held) == (4 * USD, 4 * USD)
    transfer = Transfer.objects.get(code="adjust")
    assert (transfer.debit.kind, transfer.credit.kind) == ("wallet", "adjustment")
    assert_reconciled()


def test_a_debit_does_not_take_what_has_expired(poor: Tenant, maker: User, checker: User):
    now = timezone.now()
    poor.grant(USD, kind=LotKind.PROMO, expires_at=now + DAY)
    proposed = propose(poor, "debit", USD, maker)
    with pytest.raises(CorrectionRefused, match=r"Only \$0\.00 is free"):
        corrections.approve(proposed.pk, by=checker, now=now + DAY)
    assert poor.wallet.posted == USD, "what was refused leaves no trace"
    assert_reconciled()


def test_a_credit_repays_debt_first(customer: Tenant, runner: BatchRunner, maker: User, checker: User):
    charge(runner, customer, 12 * USD, held=USD)
    corrections.approve(propose(customer, "credit", 3 * USD, maker).pk, by=checker)
    assert (customer.wallet.posted, customer.wallet.debt) == (USD, 0)
    assert_reconciled()


def test_a_write_off_makes_the_wallet_usable_again(customer: Tenant, runner: BatchRunner, maker: User, checker: User):
    charge(runner, customer, 12 * USD, held=USD)
    much = propose(customer, "write_off", 2 * USD + 1, maker)
    with pytest.raises(CorrectionRefused, match=r"Only \$2\.00 is owed"):
        corrections.approve(much.pk, by=checker)
    corrections.approve(propose(customer, "write_off", 2 * USD, maker, "k2").pk, by=checker)
    assert (customer.wallet.debt, customer.wallet.posted) == (0, 0)
    transfer = Transfer.objects.get(code="write_off")
    assert (transfer.debit.kind, transfer.credit.kind) == ("adjustment", "receivable")
    customer.grant(USD)
    charge(runner, customer, USD)
    assert_reconciled()


# Holds that cannot be settled


HALF = PriceSnapshot(
    input=USD // 2, output=USD // 2, cache_read=USD // 2, cache_write=USD // 2, cache_write_1h=USD // 2
)


def waiting(runner: BatchRunner, tenant: Tenant, output: int = 1000) -> str:
    request = tenant.hold(output=output)
    runner.run([HoldOp(request)])
    raw("UPDATE credits_hold SET state = 'needs_settlement' WHERE id = %s", request.request_id)
    return request.request_id


def test_a_hold_that_is_written_off_goes_back_to_the_customer(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = waiting(runner, customer)
    point = Checkpoint(MeterReading(output=300, source=UsageSource.COUNTED), FACTS, HALF)
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", point.stored(), request_id)
    done = corrections.write_off_hold(request_id, reason="absurd reading", by=maker)
    assert (done.amount, done.reason, done.created_by) == (1000 * TOKEN, "absurd reading", maker)
    hold = Hold.objects.get(pk=request_id)
    assert (hold.state, hold.captured) == ("written_off", 0)
    assert (customer.wallet.posted, customer.wallet.held) == (10 * USD, 0)
    record = UsageRecord.objects.get(pk=request_id)
    assert (record.charge, record.cost, record.error_code) == (0, 150 * TOKEN, "written_off")
    assert services.sweep(timezone.now() + DAY) == services.Sweep(0, 0)
    assert isinstance(runner.run([SettleOp(settlement(request_id, 10))])[0], HoldClosed)
    with pytest.raises(HoldClosed):
        corrections.write_off_hold(request_id, reason="again", by=maker)
    assert_reconciled()


@pytest.mark.parametrize(
    "checkpoint", ['"nonsense"', '{"reading": {"output": 9223372036854775807}, "cost_price": {"input": 1}}']
)
def test_a_checkpoint_that_nobody_can_read_does_not_keep_a_hold(
    customer: Tenant, runner: BatchRunner, maker: User, checkpoint: str
):
    request_id = waiting(runner, customer)
    raw("UPDATE credits_hold SET checkpoint = %s WHERE id = %s", checkpoint, request_id)
    corrections.write_off_hold(request_id, reason="unreadable", by=maker)
    assert UsageRecord.objects.get(pk=request_id).requested_model == ""
    assert customer.wallet.held == 0


def test_only_what_needs_settlement_is_written_off(customer: Tenant, runner: BatchRunner, maker: User):
    request = customer.hold()
    runner.run([HoldOp(request)])
    for request_id in (request.request_id, "req_unknown"):
        with pytest.raises(HoldClosed):
            corrections.write_off_hold(request_id, reason="no", by=maker)
    assert not HoldWriteOff.objects.exists()


def test_a_hold_written_off_frees_credits_for_debt(customer: Tenant, runner: BatchRunner, maker: User):
    request_id = waiting(runner, customer, output=9 * USD // TOKEN)
    charge(runner, customer, 3 * USD, held=USD)
    assert customer.wallet.debt == 2 * USD
    corrections.write_off_hold(request_id, reason="stuck", by=maker)
    assert (customer.wallet.debt, customer.wallet.posted) == (0, 7 * USD)
    assert_reconciled()


# The operators' pages


def page_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def staff(*codenames: str) -> User:
    user = User.objects.create_user(f"staff-{codenames[0]}@example.com", "x", is_staff=True)
    views = ("view_wallet", "view_hold", "view_usagerecord", "view_adjustment")
    user.user_permissions.set(Permission.objects.filter(codename__in=(*codenames, *views)))
    return user


@pytest.mark.parametrize("page", ["hold", "usagerecord"])
def test_a_request_is_refunded_from_its_pages(customer: Tenant, runner: BatchRunner, page: str):
    request_id = charge(runner, customer, USD, request_id="req_2142")  # "_21" is how the admin writes "!"
    client = page_of(staff("add_correction"))
    there = f"/admin/credits/{page}/{quote(request_id)}"
    assert f"{there}/refund/" in client.get(f"{there}/change/").content.decode()
    form = client.get(f"{there}/refund/")
    assert form.context["form"].initial["amount"] == "1.00"
    data = {"amount": "0.25", "ticket": "T-9", "reason": "bad answer"}
    for _ in range(2):
        assert client.post(f"{there}/refund/", data).status_code == 302
    assert customer.wallet.posted == 9_250_000_000
    shown = client.get(f"{there}/change/").content.decode()
    assert "$0.25 (T-9: bad answer)" in shown
    assert LogEntry.objects.filter(object_id=request_id, change_message__contains="T-9").exists()
    refused = client.post(f"{there}/refund/", {**data, "amount": "1", "ticket": "T-10"})
    assert "$0.75 can still be refunded" in refused.content.decode()
    assert customer.wallet.posted == 9_250_000_000


def test_an_adjustment_takes_two_people_on_the_pages_too(customer: Tenant):
    maker, checker = staff("add_adjustment", "decide_adjustment"), staff("decide_adjustment")
    page = f"/admin/credits/wallet/{customer.organization_id}/adjust/"
    form = page_of(maker).get(page).context["form"]
    data = {"kind": "credit", "amount": "5", "ticket": "", "reason": "sorry", "key": form.initial["key"]}
    for _ in range(2):
        assert page_of(maker).post(page, data).status_code == 302
    adjustment = Adjustment.objects.get()
    there = f"/admin/credits/adjustment/{adjustment.pk}"
    assert "Approve" not in page_of(maker).get(f"{there}/change/").content.decode()
    assert page_of(maker).post(f"{there}/approve/", {"decision": ""}).status_code == 403
    assert customer.wallet.posted == 10 * USD
    assert "Approve" in page_of(checker).get(f"{there}/change/").content.decode()
    assert "$5.00" in page_of(checker).get(f"{there}/approve/").content.decode()
    assert customer.wallet.posted == 10 * USD, "only a POST decides"
    assert page_of(checker).post(f"{there}/approve/", {"decision": "ok"}).status_code == 302
    assert page_of(checker).post(f"{there}/approve/", {"decision": "ok"}).status_code == 403
    assert customer.wallet.posted == 15 * USD
    entries = LogEntry.objects.filter(object_id=str(adjustment.pk)).order_by("pk")
    assert [entry.user for entry in entries][-1] == checker
    assert maker in [entry.user for entry in entries]


def test_a_rejection_on_the_page_posts_nothing(customer: Tenant, maker: User, checker: User):
    adjustment = propose(customer, "credit", USD, maker)
    there = f"/admin/credits/adjustment/{adjustment.pk}/reject/"
    assert page_of(checker).post(there, {"decision": "no"}).status_code == 302
    adjustment.refresh_from_db()
    assert (adjustment.state, adjustment.decision) == ("rejected", "no")
    assert customer.wallet.posted == 10 * USD


def test_what_cannot_be_approved_says_why_on_the_page(customer: Tenant, maker: User, checker: User):
    adjustment = propose(customer, "write_off", USD, maker)
    answer = page_of(checker).post(f"/admin/credits/adjustment/{adjustment.pk}/approve/", {"decision": ""})
    assert "Only $0.00 is owed." in answer.content.decode()


def test_a_hold_is_written_off_on_its_page(customer: Tenant, runner: BatchRunner):
    request_id = waiting(runner, customer)
    client = page_of(staff("add_holdwriteoff"))
    there = f"/admin/credits/hold/{quote(request_id)}"
    assert client.post(f"{there}/write-off/", {"reason": ""}).status_code == 200
    assert Hold.objects.get(pk=request_id).state == "needs_settlement"
    assert client.post(f"{there}/write-off/", {"reason": "stuck"}).status_code == 302
    assert Hold.objects.get(pk=request_id).state == "written_off"
    assert "Write off" not in client.get(f"{there}/change/").content.decode()
    assert LogEntry.objects.filter(object_id=request_id, change_message__contains="stuck").exists()


def test_staff_without_the_right_change_nothing(customer: Tenant, runner: BatchRunner, maker: User):
    request_id, stuck = charge(runner, customer, USD), waiting(runner, customer)
    adjustment = propose(customer, "credit", USD, maker)
    client = page_of(staff("view_transfer"))
    data = {"amount": "1", "ticket": "T", "reason": "r", "kind": "credit", "key": "k9", "decision": ""}
    for page in (
        f"hold/{quote(request_id)}/refund", f"usagerecord/{quote(request_id)}/refund", f"hold/{quote(stuck)}/write-off",
        f"wallet/{customer.organization_id}/adjust", f"adjustment/{adjustment.pk}/approve",
        f"adjustment/{adjustment.pk}/reject",
    ):  # fmt: skip
        assert client.post(f"/admin/credits/{page}/", data).status_code == 403
    assert not Correction.objects.exists()
    assert Adjustment.objects.get().state == "proposed"


@pytest.mark.parametrize("model", ["correction", "adjustment", "holdwriteoff", "promoredemption"])
def test_not_even_a_superuser_edits_what_was_done(customer: Tenant, runner: BatchRunner, maker: User, model: str):
    refund(charge(runner, customer, USD), 1, maker)
    propose(customer, "credit", USD, maker)
    corrections.write_off_hold(waiting(runner, customer), reason="r", by=maker)
    client = page_of(maker)
    base = f"/admin/credits/{model}/"
    assert client.get(base).status_code == 200
    assert client.get(f"{base}add/").status_code == 403
    assert client.post(f"{base}1/change/", {"amount": "5"}).status_code in {302, 403}
    assert client.post(f"{base}1/delete/", {"post": "yes"}).status_code in {302, 403}


def test_a_promotion_is_granted_with_its_days_on_the_wallet_s_page(poor: Tenant, maker: User):
    page = f"/admin/credits/wallet/{poor.organization_id}/grant/"
    data = {"amount": "1", "reason": "welcome", "key": "k", "promotion": "on", "days": "7"}
    assert page_of(maker).post(page, data).status_code == 302
    lot = CreditLot.objects.get()
    assert lot.kind == "promo"
    assert lot.expires_at is not None
    assert timedelta(days=6) < lot.expires_at - timezone.now() <= timedelta(days=7)
    assert LogEntry.objects.filter(change_message__contains="$1.00").exists()


# What one person may grant


def grant_on_page(by: User, tenant: Tenant, usd: str, key: str, **more: str) -> str:
    """What the page says when the form has been sent."""
    page = f"/admin/credits/wallet/{tenant.organization_id}/grant/"
    data = {"amount": usd, "reason": "made good", "key": key, **more}
    return page_of(by).post(page, data, follow=True).content.decode()


def test_one_person_grants_up_to_the_limit_of_a_day(customer: Tenant, maker: User, settings: Settings):
    settings.GRANT_LIMIT_NANOS = 100 * USD
    assert "One person may grant $100.00" in page_of(maker).get(
        f"/admin/credits/wallet/{customer.organization_id}/grant/"
    ).content.decode()  # fmt: skip
    assert "Granted $99.99" in grant_on_page(maker, customer, "99.99", "k1")
    assert customer.wallet.posted == 10 * USD + 99_990_000_000
    transfer = Transfer.objects.get(idempotency_key="grant:admin:k1")
    assert (transfer.created_by, transfer.reason) == (maker, "made good")
    assert LogEntry.objects.filter(user=maker, change_message__contains="$99.99: made good").exists()
    assert not Adjustment.objects.exists()

    assert "somebody else must approve it" in grant_on_page(maker, customer, "0.02", "k2"), "however it is split"
    assert "Granted $0.01" in grant_on_page(maker, customer, "0.01", "k3")
    assert customer.wallet.posted == 110 * USD
    assert "Granted $100.00" in grant_on_page(operator(), customer, "100", "k4"), "another's day"
    assert "Granted $100.00" in grant_on_page(maker, new_tenant(), "100", "k5"), "another organisation"
    assert_reconciled()


def test_a_grant_above_the_limit_waits_for_somebody_else(customer: Tenant, maker: User, checker: User):
    assert "somebody else must approve it" in grant_on_page(maker, customer, "100.01", "k1")
    assert customer.wallet.posted == 10 * USD
    adjustment = Adjustment.objects.get()
    assert (adjustment.kind, adjustment.amount, adjustment.proposed_by) == ("credit", 100_010_000_000, maker)
    assert (adjustment.state, adjustment.reason) == ("proposed", "made good")
    there = f"/admin/credits/adjustment/{adjustment.pk}/approve/"
    assert page_of(maker).post(there, {"decision": ""}).status_code == 403
    assert page_of(checker).post(there, {"decision": "ok"}).status_code == 302
    assert customer.wallet.posted == 10 * USD + 100_010_000_000
    assert_reconciled()


def test_a_form_that_is_sent_twice_does_its_work_once(customer: Tenant, maker: User, settings: Settings):
    settings.GRANT_LIMIT_NANOS = 15 * USD
    for _ in range(2):
        assert "Granted $10.00" in grant_on_page(maker, customer, "10", "k1")
        assert "Proposed" in grant_on_page(maker, customer, "10", "k2")
    settings.GRANT_LIMIT_NANOS = 100 * USD
    assert "Proposed" in grant_on_page(maker, customer, "10", "k2"), "nor when it could be granted by now"
    assert customer.wallet.posted == 20 * USD
    assert Adjustment.objects.count() == 1


def test_a_day_later_the_limit_is_new(customer: Tenant, maker: User):
    give = {"reason": "r", "by": maker}
    corrections.give(customer.organization_id, 100 * USD, key="k1", **give)  # type: ignore[arg-type]
    assert isinstance(corrections.give(customer.organization_id, 1, key="k2", **give), Adjustment)  # type: ignore[arg-type]
    later = timezone.now() + DAY
    assert isinstance(corrections.give(customer.organization_id, 1, key="k3", now=later, **give), Transfer)  # type: ignore[arg-type]


@pytest.mark.parametrize("more", [{"promotion": "on"}, {"days": "7"}])
def test_what_expires_is_not_given_above_the_limit(customer: Tenant, maker: User, more: dict[str, str]):
    assert "cannot be a promotion or expire" in grant_on_page(maker, customer, "100.01", "k1", **more)
    assert not Adjustment.objects.exists()
    assert customer.wallet.posted == 10 * USD


def test_with_a_limit_of_nothing_every_grant_takes_two_people(customer: Tenant, maker: User, settings: Settings):
    settings.GRANT_LIMIT_NANOS = 0
    assert "Proposed" in grant_on_page(maker, customer, "0.000000001", "k1")
    assert customer.wallet.posted == 10 * USD
