"""Auto top-up: bought when few credits are left, once for one crossing, within its guards."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from ccm_site.demo_stripe.server import Fault
from credits import services
from credits.errors import InvalidAmount, PaymentsUnavailable
from credits.models import Wallet
from credits.payments import auto, events, tasks, topups
from credits.payments.accounts import ensure_customer, sync_customer
from credits.payments.client import refuse_in_a_transaction, stripe_api
from credits.payments.models import AutoTopUp, BillingNotice, TopUp, TopUpState
from tests.credits.payments.support import Shop
from tests.credits.support import USD, assert_reconciled
from tests.fakes.stripe import FakeStripe

WANTED = auto.Order(threshold=10 * USD, amount=25 * USD, monthly_cap=60 * USD)


def with_card(shop: Shop, number: str = "4242424242424242") -> Shop:
    customer = ensure_customer(stripe_api(), shop.id)
    shop.stripe.add_card(customer, number)
    sync_customer(customer)
    auto.order(shop.id, WANTED, by=shop.user)
    return shop


def run(shop: Shop, now=None) -> TopUp | None:
    """What the task does."""
    for organization_id in auto.due(now):
        begun = auto.begin(organization_id, now)
        if begun is not None:
            return topups.advance(begun.pk)
    return None


def test_credits_are_bought_by_invoice_when_few_are_left_and_not_before(shop: Shop):
    with_card(shop)
    bought = run(shop)
    assert bought is not None
    assert (bought.state, bought.amount, bought.fee) == (TopUpState.SUCCEEDED, 25 * USD, 125 * 10**7)
    assert shop.wallet.posted == 25 * USD
    assert run(shop) is None, "enough is there"
    (invoice,) = shop.stripe.all("invoice")
    assert (invoice["status"], invoice["total"], len(invoice["lines"]["data"])) == ("paid", 2625, 2)
    assert "/invoice/" in bought.invoice_url
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert shop.wallet.posted == 25 * USD
    assert_reconciled()


def test_the_month_has_a_cap_that_counts_fees(shop: Shop):
    with_card(shop)
    for _ in range(2):
        assert run(shop) is not None
        Wallet.objects.filter(pk=shop.id).update(held=Wallet.objects.get(pk=shop.id).posted)
    assert auto.bought_this_month(shop.id, timezone.now()) == 5250 * 10**7
    assert run(shop) is None, "a third one would be more than $60 in this month"
    next_month = (timezone.now().replace(day=28) + timedelta(days=7)).replace(day=2)
    assert auto.begin(shop.id, next_month) is not None


@pytest.mark.parametrize(
    ("number", "failure"),
    [("4000000000000341", "card_declined"), ("4000002760003184", "authentication_required")],
)
def test_after_failures_it_waits_longer_and_is_switched_off_after_three(shop: Shop, number: str, failure: str):
    with_card(shop, number)
    now = timezone.now()
    for count in (1, 2, 3):
        failed = run(shop, now)
        assert failed is not None
        assert (failed.state, failed.failure) == (TopUpState.FAILED, failure)
        wanted = AutoTopUp.objects.get()
        assert (wanted.failures, wanted.enabled) == (count, count < 3)
        assert run(shop, now) is None, "not at once again"
        now = timezone.now() + timedelta(hours=2**count)
    assert list(BillingNotice.objects.order_by("created_at").values_list("kind", flat=True)) == [
        *["auto_confirm" if failure == "authentication_required" else "auto_failed"] * 2, "auto_off",
    ]  # fmt: skip
    assert shop.wallet.posted == 0
    open_ = [invoice for invoice in shop.stripe.all("invoice") if invoice["status"] == "open"]
    assert len(open_) == (3 if failure == "authentication_required" else 0), "nobody is asked to pay a declined one"


def test_a_payment_that_the_customer_confirms_later_is_credited(shop: Shop):
    import httpx

    with_card(shop, "4000002760003184")
    failed = run(shop)
    assert failed is not None
    shop.stripe.events.clear()
    httpx.post(failed.pay_url, data={"number": "4000002760003184"}, trust_env=False)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert TopUp.objects.get().state == TopUpState.SUCCEEDED
    assert shop.wallet.posted == 25 * USD
    assert AutoTopUp.objects.get().failures == 0


@pytest.mark.parametrize("how", ["before", "after", "drop"])
@pytest.mark.parametrize("step", ["invoices$", "add_lines", "finalize", "pay$"])
def test_whatever_answer_is_lost_the_customer_pays_once(shop: Shop, step: str, how: str, monkeypatch):
    """Stripe repeats an idempotency key's first answer, a failure too: each attempt looks at what there is."""
    monkeypatch.setattr("stripe._http_client.HTTPClient._sleep_time_seconds", lambda *_: 0)
    with_card(shop)
    shop.stripe.stripe.faults.append(Fault(f"POST /v1/invoices.*{step}", how, times=1))
    begun = auto.begin(shop.id)
    assert begun is not None
    for _ in range(4):
        try:
            if topups.advance(begun.pk).state == TopUpState.SUCCEEDED:
                break
        except PaymentsUnavailable:
            continue
    assert TopUp.objects.get().state == TopUpState.SUCCEEDED
    assert [intent["amount_received"] for intent in shop.stripe.all("payment_intent")] == [2625]
    assert len(shop.stripe.all("charge")) == 1
    assert shop.wallet.posted == 25 * USD
    assert_reconciled()


def test_orders_that_make_no_sense_are_refused(shop: Shop):
    with pytest.raises(InvalidAmount, match="no card"):
        auto.order(shop.id, WANTED, by=shop.user)
    with_card(shop)
    for wanted in (
        auto.Order(10 * USD, 1 * USD, 100 * USD),
        auto.Order(10 * USD, 25 * USD, 25 * USD),
        auto.Order(-USD, 25 * USD, 100 * USD),
        auto.Order(10 * USD, 25 * USD + 1, 100 * USD),
    ):
        with pytest.raises(InvalidAmount):
            auto.order(shop.id, wanted, by=shop.user)
    auto.switch_off(shop.id, by=shop.user)
    assert run(shop) is None


def test_a_frozen_or_indebted_organisation_buys_nothing(shop: Shop):
    with_card(shop)
    for wrong, right in (({"frozen": True}, {"frozen": False}), ({"debt": 5}, {"debt": 0})):
        Wallet.objects.filter(pk=shop.id).update(**wrong)
        assert run(shop) is None
        assert auto.begin(shop.id) is None
        Wallet.objects.filter(pk=shop.id).update(**right)
    assert auto.begin(shop.id) is not None


def test_stripe_is_never_called_in_a_transaction(transactional_db, stripe: FakeStripe):
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a database transaction"):
        refuse_in_a_transaction()
    refuse_in_a_transaction()


def _at_once(shop: Shop, count: int) -> list[TopUp | None]:
    """Several workers find it due at the same moment."""
    barrier, found = threading.Barrier(count), []

    def work() -> None:
        try:
            barrier.wait(30)
            begun = auto.begin(shop.id)
            found.append(topups.advance(begun.pk) if begun else None)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def test_many_workers_at_once_buy_once_for_one_crossing(transactional_db, stripe: FakeStripe):
    shop = with_card(Shop(stripe))
    found = _at_once(shop, 6)
    assert len([top_up for top_up in found if top_up]) == 1
    assert TopUp.objects.count() == 1
    assert shop.wallet.posted == 25 * USD
    assert_reconciled()


def test_control_without_the_look_under_the_lock_one_crossing_buys_twice(
    transactional_db, stripe: FakeStripe, monkeypatch
):
    shop = with_card(Shop(stripe))
    due_before = auto._is_due(Wallet.objects.get(pk=shop.id), AutoTopUp.objects.get(), timezone.now())
    monkeypatch.setattr(auto, "_is_due", lambda *_: due_before)  # as each worker saw it before
    for _ in range(2):
        begun = auto.begin(shop.id)
        assert begun is not None
        topups.advance(begun.pk)
    assert TopUp.objects.count() == 2


def test_many_who_see_it_paid_at_once_credit_it_once(transactional_db, stripe: FakeStripe):
    shop = Shop(stripe)
    top_up = shop.start(20)
    shop.pay(top_up)
    barrier, errors = threading.Barrier(6), []

    def look() -> None:
        try:
            barrier.wait(30)
            topups.look(top_up)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert shop.wallet.posted == 20 * USD
    assert_reconciled()


def test_the_task_begins_and_hands_over(shop: Shop, monkeypatch):
    with_card(shop)
    handed: list[int] = []
    monkeypatch.setattr(tasks.advance_top_up, "delay", handed.append)
    tasks.auto_top_up()
    tasks.auto_top_up()
    assert handed == [TopUp.objects.get().pk]
    later = timezone.now() + timedelta(minutes=5)
    assert topups.sweep(later) == 1, "should the task be lost"
    assert shop.wallet.posted == 25 * USD
    assert events.sweep() == 0
    assert services.expire_lots() == 0
