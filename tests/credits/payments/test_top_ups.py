"""Buying credits: a top-up is paid at Stripe and credited once, whoever sees it first."""

import contextlib
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st
from pytest_django import Settings

from ccm_site.demo_stripe.server import Fault
from credits.errors import InvalidAmount, PaymentsUnavailable
from credits.models import CreditLot
from credits.payments import balance, refunds, topups
from credits.payments.amounts import Parts, Terms, fee_of, share
from credits.payments.client import stripe_api
from credits.payments.models import BillingAccount, BillingNotice, TopUp, TopUpState
from tests.credits.payments.support import Shop
from tests.credits.support import USD, assert_reconciled, operator


def test_a_paid_top_up_is_credited_with_its_fee_beside_it(shop: Shop):
    top_up = shop.start(20)
    assert (top_up.state, top_up.fee) == (TopUpState.PROCESSING, 1 * USD)
    assert top_up.pay_url.startswith("http://127.0.0.1")
    shop.pay(top_up)
    assert shop.wallet.posted == 0
    paid = topups.look(top_up)
    assert (paid.state, paid.pay_url, paid.total) == (TopUpState.SUCCEEDED, "", 21 * USD)
    assert shop.wallet.posted == 20 * USD
    assert shop.ledger() == {
        (f"topup:{top_up.pk}:credit", "stripe_clearing", "wallet", 20 * USD, "top_up"),
        (f"topup:{top_up.pk}:fee", "stripe_clearing", "stripe_fees", 1 * USD, "fee"),
    }
    assert CreditLot.objects.get(wallet_id=shop.id).kind == "paid"
    assert "/receipt/" in paid.receipt_url
    assert "/invoice/" in paid.invoice_url
    assert BillingAccount.objects.get(pk=shop.id).card == "Visa ending in 4242, 12/34"
    assert BillingNotice.objects.get(key=f"receipt:{top_up.pk}").data["amount"] == 20 * USD
    balance.read()
    assert_reconciled()


def test_tax_is_what_stripe_reckoned_when_it_was_paid_and_never_changes(shop: Shop, settings: Settings):
    settings.STRIPE = replace(settings.STRIPE, automatic_tax=True)
    top_up = shop.bought(20)
    assert (top_up.tax, top_up.total) == (399 * 10**7, 2499 * 10**7)
    assert (f"topup:{top_up.pk}:tax", "stripe_clearing", "tax_payable", top_up.tax, "tax") in shop.ledger()
    made = refunds.request(top_up.pk, top_up.total, reason="r", key="k", by=operator())
    assert (made.credit, made.fee, made.tax) == (20 * USD, 1 * USD, 399 * 10**7)
    refunds.send(made.pk)
    assert TopUp.objects.get().tax == 399 * 10**7
    balance.read()
    assert_reconciled()


@pytest.mark.parametrize("number", ["4000000000000002", "4000000000009995"])
def test_a_declined_card_charges_nothing_and_another_may_be_tried(shop: Shop, number: str):
    top_up = shop.start(20)
    shop.pay(top_up, number)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert TopUp.objects.get().state == TopUpState.PROCESSING, "the page is still open"
    shop.pay(top_up)
    assert topups.look(TopUp.objects.get()).state == TopUpState.SUCCEEDED
    assert shop.wallet.posted == 20 * USD


def test_a_card_that_asks_for_confirmation(shop: Shop):
    top_up = shop.start(20)
    shop.stripe.pay(str(top_up.checkout_session), "4000002500003155", agreed=False)
    assert topups.look(top_up).state == TopUpState.PROCESSING
    shop.stripe.pay(str(top_up.checkout_session), "4000002500003155", agreed=True)
    assert topups.look(top_up).state == TopUpState.SUCCEEDED


def test_what_was_given_up_and_is_paid_after_all_is_credited(shop: Shop):
    top_up = shop.start(20)
    TopUp.objects.filter(pk=top_up.pk).update(state=TopUpState.CANCELED)
    shop.pay(top_up)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert TopUp.objects.get().state == TopUpState.SUCCEEDED
    assert shop.wallet.posted == 20 * USD


def test_less_than_was_asked_for_is_not_credited(shop: Shop):
    top_up = shop.start(20)
    shop.pay(top_up)
    with shop.stripe.store.change():
        shop.stripe.all("payment_intent")[0]["amount_received"] = 100
    with pytest.raises(InvalidAmount, match=r"\$1.00 usd was paid, and \$21.00 asked for"):
        topups.look(top_up)
    assert shop.ledger() == set()


def test_a_checkout_that_is_not_used_ends(shop: Shop):
    top_up = shop.start(20)
    shop.stripe.expire(str(top_up.checkout_session))
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert TopUp.objects.get().state == TopUpState.CANCELED
    assert topups.sweep(timezone.now() + timedelta(hours=1)) == 0


@pytest.mark.parametrize("how", ["before", "after", "drop"])
def test_a_lost_answer_about_the_checkout_makes_another(shop: Shop, how: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stripe._http_client.HTTPClient._sleep_time_seconds", lambda *_: 0)
    shop.stripe.stripe.faults.append(Fault("POST /v1/checkout/sessions", how, times=1))
    begun = topups.start(shop.id, 20 * USD, key="k", by=shop.user)
    with contextlib.suppress(PaymentsUnavailable):
        topups.advance(begun.pk)
    top_up = topups.advance(begun.pk)
    assert top_up.state == TopUpState.PROCESSING
    shop.pay(top_up)
    topups.look(top_up)
    assert shop.wallet.posted == 20 * USD


def test_a_page_whose_answer_was_lost_and_is_paid_after_all_is_credited(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Nobody is shown it, but if somebody were: it says whose it is."""
    monkeypatch.setattr("stripe._http_client.HTTPClient._sleep_time_seconds", lambda *_: 0)
    shop.stripe.stripe.faults.append(Fault("POST /v1/checkout/sessions", "after"))
    begun = topups.start(shop.id, 20 * USD, key="k", by=shop.user)
    with pytest.raises(PaymentsUnavailable):
        topups.advance(begun.pk)
    (lost,) = shop.stripe.all("checkout.session")
    shop.stripe.pay(lost["id"])
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert TopUp.objects.get().checkout_session == lost["id"]
    assert shop.wallet.posted == 20 * USD


def test_the_same_key_with_other_content_is_refused_by_stripe_and_a_wrong_key_says_so(shop: Shop, settings: Settings):
    api = stripe_api()
    assert api.create_customer(1, "a", "a@example.com", "key") == api.create_customer(1, "a", "a@example.com", "key")
    with pytest.raises(PaymentsUnavailable):
        api.create_customer(1, "b", "a@example.com", "key")
    settings.STRIPE = replace(settings.STRIPE, secret_key="sk_test_another")
    with pytest.raises(PaymentsUnavailable, match="refuses STRIPE_SECRET_KEY"):
        stripe_api().create_customer(1, "a", "a@example.com", "k")


@checked(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no finding
@given(
    amount=st.integers(1, 500_000),
    basis=st.integers(0, 10_000),
    least=st.integers(0, 1000),
    tax=st.integers(0, 90_000),
    gross=st.integers(1, 10**7),
)
def test_fees_are_whole_cents_and_parts_add_up(amount: int, basis: int, least: int, tax: int, gross: int):
    cent = 10**7
    terms = Terms(cent, 10**15, basis, least * cent)
    fee = fee_of(amount * cent, terms)
    assert fee % cent == 0
    assert fee >= least * cent
    assert (fee - cent) * 10_000 < max(amount * cent * basis, least * cent * 10_000) or fee == 0
    paid = Parts(credit=amount * cent, fee=fee, tax=tax * cent)
    part = share(paid, min(gross * cent, paid.total))
    assert part.total == min(gross * cent, paid.total)
    assert 0 <= part.credit <= paid.credit
    assert 0 <= part.tax <= paid.tax
    assert share(paid, paid.total) == paid


def test_one_worker_at_a_time_speaks_with_stripe_about_a_top_up(shop: Shop):
    begun = topups.start(shop.id, 20 * USD, key="k", by=shop.user)
    now = timezone.now()
    assert topups.claim(begun.pk, now)
    assert topups.advance(begun.pk).state == TopUpState.CREATED, "another one is at it"
    assert shop.stripe.all("checkout.session") == []
    assert topups.claim(begun.pk, now + topups.CLAIM + timedelta(seconds=1)), "a dead worker's is taken over"
