"""Lots: used up in their order, and gone when their time is up, except what a hold needs."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone

from credits import services, tasks
from credits.batch import BatchRunner, HoldOp, Outcome, SettleOp
from credits.errors import InsufficientCredits, InvalidAmount
from credits.models import CreditLot, LotConsumption, LotKind, Transfer
from credits.selectors import expiring
from credits.types import HoldGrant, Settlement
from tests.credits.support import TOKEN, USD, Tenant, assert_reconciled, new_tenant, pay_in, raw, settlement

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
Run = Callable[..., list[Outcome]]


class Clock:
    def __init__(self) -> None:
        self.now = timezone.now()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def run(clock: Clock) -> Run:
    runner = BatchRunner(connection, owner="test", lease_seconds=60, clock=lambda: clock.now)
    return lambda *operations: runner.run(operations)


@pytest.fixture
def poor(db: None) -> Tenant:
    return new_tenant()


def use(run: Run, tenant: Tenant, nanos: int) -> str:
    request = tenant.hold(output=nanos // TOKEN)
    assert isinstance(run(HoldOp(request))[0], HoldGrant)
    assert isinstance(run(SettleOp(settlement(request.request_id, nanos // TOKEN)))[0], Settlement)
    return request.request_id


def lot(tenant: Tenant, **about: object) -> CreditLot:
    return CreditLot.objects.get(wallet_id=tenant.organization_id, **about)


def promo(tenant: Tenant, nanos: int, expires_at: datetime, **options: object) -> None:
    tenant.grant(nanos, kind=LotKind.PROMO, expires_at=expires_at, **options)


def test_lots_are_used_by_priority_then_expiry_then_kind_then_age(poor: Tenant, run: Run, clock: Clock):
    soon, late = clock.now + 10 * DAY, clock.now + 20 * DAY
    pay_in(poor, USD)  # 5: never expires, paid
    poor.grant(USD)  # 6: the same, younger
    pay_in(poor, USD, expires_at=late)  # 4: paid
    promo(poor, USD, late)  # 3: promotion first
    promo(poor, USD, soon)  # 2: sooner
    pay_in(poor, USD, priority=50)  # 1: priority goes before all
    order = list(CreditLot.objects.order_by("pk").values_list("pk", flat=True))
    request_id = use(run, poor, 6 * USD)
    taken = LotConsumption.objects.filter(transfer_id=f"hold:{request_id}:capture").order_by("pk")
    expected = [order[5], order[4], order[3], order[2], order[0], order[1]]
    assert list(taken.values_list("lot_id", flat=True)) == expected
    assert_reconciled()


def test_a_promotion_without_a_date_expires_as_the_settings_say(poor: Tenant, settings):
    poor.grant(USD, kind=LotKind.PROMO)
    expires_at = lot(poor).expires_at
    assert expires_at is not None
    assert timedelta(days=29) < expires_at - timezone.now() <= timedelta(days=30)
    assert poor.wallet.next_expiry == expires_at
    settings.PROMO_EXPIRY_DAYS = 0
    poor.grant(USD, kind=LotKind.PROMO)
    assert CreditLot.objects.order_by("-pk")[0].expires_at is None
    poor.grant(USD)
    assert CreditLot.objects.order_by("-pk")[0].expires_at is None


def test_what_has_expired_already_is_not_granted(poor: Tenant):
    with pytest.raises(InvalidAmount):
        promo(poor, USD, timezone.now() - DAY)


@pytest.mark.parametrize(
    ("give", "account"),
    [
        (lambda tenant, date: promo(tenant, USD, date), "promo_expense"),
        (lambda tenant, date: pay_in(tenant, USD, expires_at=date), "breakage"),
        (lambda tenant, date: tenant.grant(USD, expires_at=date), "adjustment"),
    ],
)
def test_expired_credits_go_where_their_kind_says(poor: Tenant, clock: Clock, give, account: str):
    give(poor, clock.now + DAY)
    poor.grant(2 * USD)
    assert services.expire_lots(clock.now) == 0
    assert services.expire_lots(clock.now + DAY) == USD
    assert services.expire_lots(clock.now + DAY) == 0
    transfer = Transfer.objects.get(code="expire")
    assert (transfer.debit.kind, transfer.credit.kind, transfer.amount) == ("wallet", account, USD)
    assert transfer.idempotency_key == f"expire:{CreditLot.objects.order_by('pk')[0].pk}"
    assert (poor.wallet.posted, poor.wallet.next_expiry) == (2 * USD, None)
    assert_reconciled()


def test_the_next_expiry_is_the_next_one_after_a_sweep(poor: Tenant, clock: Clock):
    promo(poor, USD, clock.now + 3 * DAY)
    promo(poor, USD, clock.now + DAY)
    assert poor.wallet.next_expiry == clock.now + DAY
    assert [part.amount for part in expiring(poor.organization_id)] == [USD, USD]
    services.expire_lots(clock.now + 2 * DAY)
    assert poor.wallet.next_expiry == clock.now + 3 * DAY


def test_no_new_hold_is_made_of_what_has_expired_though_nobody_swept(poor: Tenant, run: Run, clock: Clock):
    promo(poor, 3 * USD, clock.now + DAY)
    poor.grant(USD)
    clock.now += DAY
    refused = run(HoldOp(poor.hold(output=2 * USD // TOKEN, request_id="req_1")))[0]
    assert isinstance(refused, HoldGrant), "half of the dollar that is left is granted"
    assert refused.amount <= USD // 2
    assert poor.wallet.posted == USD
    assert lot(poor, kind="promo").remaining == 0
    assert_reconciled()


def test_when_everything_has_expired_the_refusal_says_so(poor: Tenant, run: Run, clock: Clock):
    promo(poor, USD, clock.now + DAY)
    clock.now += DAY
    refused = run(HoldOp(poor.hold(output=1000)))[0]
    assert isinstance(refused, InsufficientCredits)
    assert refused.available == 0
    assert_reconciled()


def test_control_without_the_expiry_in_the_hold_expired_credits_are_spent(
    poor: Tenant, run: Run, clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("credits.batch.expire_due", lambda books, wallet: 0)
    promo(poor, USD, clock.now + DAY)
    clock.now += DAY
    use(run, poor, USD)
    assert poor.wallet.posted == 0


def test_a_hold_keeps_what_expires_under_it_and_captures_it(poor: Tenant, run: Run, clock: Clock):
    promo(poor, USD, clock.now + DAY)
    request = poor.hold(output=USD // TOKEN)
    run(HoldOp(request))
    clock.now += DAY
    assert services.expire_lots(clock.now) == 0
    assert (poor.wallet.posted, poor.wallet.held) == (USD, USD)
    run(SettleOp(settlement(request.request_id, USD // TOKEN)))
    assert (poor.wallet.posted, poor.wallet.debt) == (0, 0)
    assert_reconciled()


def test_only_what_holds_do_not_need_expires_and_the_rest_once_they_are_closed(poor: Tenant, run: Run, clock: Clock):
    promo(poor, USD, clock.now + DAY)
    request = poor.hold(output=300)
    run(HoldOp(request))
    clock.now += DAY
    assert services.expire_lots(clock.now) == USD - 300 * TOKEN
    waiting = poor.wallet
    assert (waiting.posted, waiting.held, waiting.next_expiry) == (300 * TOKEN, 300 * TOKEN, clock.now)
    run(SettleOp(settlement(request.request_id, 100)))
    assert services.expire_lots(clock.now) == 200 * TOKEN
    assert (poor.wallet.posted, poor.wallet.next_expiry) == (0, None)
    found = lot(poor)
    assert (found.remaining, found.expired) == (0, USD - 100 * TOKEN)
    keys = Transfer.objects.filter(code="expire").order_by("pk").values_list("idempotency_key", flat=True)
    assert list(keys) == [f"expire:{found.pk}", f"expire:{found.pk}:{USD - 300 * TOKEN}"]
    assert_reconciled()


def test_a_batch_that_closes_a_hold_and_opens_another_expires_in_between(poor: Tenant, run: Run, clock: Clock):
    """The lots are changed in memory only when the new hold looks at them."""
    promo(poor, USD, clock.now + DAY)
    poor.grant(USD)
    old = poor.hold(output=2 * USD // TOKEN)
    run(HoldOp(old))
    clock.now += DAY
    new = poor.hold(output=USD // TOKEN)
    outcomes = run(SettleOp(settlement(old.request_id, 400)), HoldOp(new))
    assert isinstance(outcomes[1], HoldGrant)
    assert outcomes[1].amount == USD
    assert (poor.wallet.posted, poor.wallet.held) == (USD, USD)
    assert lot(poor, kind="promo").expired == USD - 400 * TOKEN
    assert_reconciled()


def test_an_overage_is_never_turned_into_more_debt_by_an_expiry(poor: Tenant, run: Run, clock: Clock):
    promo(poor, USD, clock.now + DAY)
    request = poor.hold(output=USD // TOKEN)
    run(HoldOp(request))
    clock.now += DAY
    run(SettleOp(settlement(request.request_id, 2 * USD // TOKEN)))
    debt = poor.wallet.debt
    assert debt == USD
    services.expire_lots(clock.now)
    assert (poor.wallet.debt, poor.wallet.posted) == (debt, 0)
    assert_reconciled()


def test_one_wallet_that_cannot_be_swept_does_not_stop_the_others(db, clock: Clock):
    bad, good = new_tenant(), new_tenant()
    for tenant in (bad, good):
        promo(tenant, USD, clock.now + DAY)
    taken = Transfer.objects.get(lot=lot(bad))
    key = f"expire:{lot(bad).pk}"
    Transfer.objects.create(
        debit=taken.debit, credit=taken.credit, amount=1, code="expire", idempotency_key=key, group_id=key
    )
    assert services.expire_lots(clock.now + DAY) == USD
    assert (bad.wallet.posted, good.wallet.posted) == (USD, 0)


def test_the_task_expires(poor: Tenant):
    promo(poor, USD, timezone.now() + DAY)
    raw("UPDATE credits_creditlot SET expires_at = '2020-01-01 00:00:00'")
    raw("UPDATE credits_wallet SET next_expiry = '2020-01-01 00:00:00'")
    tasks.expire_lots()
    assert poor.wallet.posted == 0
    assert_reconciled()
