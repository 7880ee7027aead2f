"""What Stripe tells: verified, stored once, handled by looking again. Order, repetition and lies change nothing."""

import itertools
import json
import time
from copy import deepcopy
from datetime import timedelta

import pytest
import stripe as sdk
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from ccm_site.demo_stripe import money
from ccm_site.demo_stripe.store import Json
from credits.errors import PaymentsUnavailable
from credits.payments import auto, events, handlers, topups
from credits.payments.models import (
    AutoTopUp,
    BillingAccount,
    BillingNotice,
    PaymentDispute,
    PaymentRefund,
    StripeEvent,
    TopUp,
    TopUpState,
)
from credits.payments.signature import is_signed
from credits.reconcile import run_checks
from tests.credits.payments.support import Shop
from tests.credits.support import USD, assert_reconciled
from tests.fakes.stripe import KEY, OLD_SECRET, SECRET, signed

TOLD = ("checkout.session.completed", "payment_intent.succeeded", "refund.created", "refund.failed")


def of_types(shop: Shop, *types: str) -> list[Json]:
    return [event for event in shop.stripe.events if event["type"] in types]


def handle_again(told: list[Json]) -> None:
    """As if the mark that they were handled had been lost."""
    for event in StripeEvent.objects.filter(pk__in=[event["id"] for event in told]):
        handlers.handle(event)


def test_every_order_and_repetition_of_a_top_ups_and_its_refunds_events_ends_in_the_same_ledger(shop: Shop):
    """The customer pays, is refunded at Stripe, and the refund comes back later. All of it has happened before the
    first word of it arrives."""
    ends = []
    for order in itertools.permutations(range(len(TOLD))):
        buyer = Shop(shop.stripe)
        top_up = buyer.start(20)
        buyer.stripe.events.clear()
        buyer.pay(top_up)
        refunded = buyer.stripe.refund(buyer.stripe.all("payment_intent")[0]["id"], 1050)
        buyer.stripe.fail_refund(refunded)
        told = of_types(buyer, *TOLD)
        assert len(told) == len(TOLD)
        for at in order:
            buyer.tell_and_handle(told[at])
            assert buyer.tell(told[at]) == 200
        handle_again(told)
        assert (buyer.wallet.posted, buyer.wallet.debt) == (20 * USD, 0)
        refund = PaymentRefund.objects.get(top_up=top_up)
        assert refund.state == "failed"
        names = {f"topup:{top_up.pk}:": "topup:", f"refund:{refund.pk}": "refund"}
        rows = buyer.ledger()
        ends.append({(key.replace(old, new), *rest) for old, new in names.items() for key, *rest in rows if old in key})
    assert len(ends) == 24
    assert all(end == ends[0] for end in ends)
    assert len(ends[0]) == 6
    assert_reconciled()


@pytest.mark.parametrize("won", [True, False])
def test_every_order_of_a_disputes_events_ends_in_the_same_ledger(shop: Shop, won: bool):
    types = ["created", "funds_withdrawn", "closed", *(["funds_reinstated"] if won else [])]
    for order in itertools.permutations(types):
        buyer = Shop(shop.stripe)
        dispute = buyer.stripe.dispute(buyer.bought(20).payment_intent)
        buyer.stripe.end_dispute(dispute, "won" if won else "lost")
        told = [of_types(buyer, f"charge.dispute.{type_}")[0] for type_ in order]
        for event in told:
            buyer.tell_and_handle(event)
        handle_again(told)
        kept = PaymentDispute.objects.get(pk=dispute["id"])
        assert (kept.state, kept.amount) == ("won" if won else "lost", 21 * USD)
        assert (buyer.wallet.frozen, buyer.wallet.posted, buyer.wallet.debt) == (False, 20 * USD if won else 0, 0)
        mine = {(key, amount) for key, _, _, amount, _ in buyer.ledger() if dispute["id"] in key}
        group = f"dispute:{dispute['id']}"
        after = (
            {(f"{group}:reinstate", 21 * USD), (f"{group}:back:lots", 20 * USD)}
            if won
            else {(f"{group}:writeoff:fee", 1 * USD)}
        )
        assert mine == {(f"{group}:withdraw", 21 * USD), (group, 20 * USD), *after}
    assert_reconciled()


def test_events_as_they_happen_end_in_the_same_ledger_as_afterwards(shop: Shop):
    """Here each is told before the next thing happens, with the state of that moment."""
    top_up = shop.start(20)
    shop.pay(top_up)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    shop.stripe.events.clear()
    refund = shop.stripe.refund(TopUp.objects.get(pk=top_up.pk).payment_intent, 1050)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert shop.wallet.posted == 10 * USD
    shop.stripe.events.clear()
    shop.stripe.fail_refund(refund)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert shop.wallet.posted == 20 * USD
    assert len(shop.ledger()) == 6
    assert_reconciled()


def test_a_forged_or_late_event_is_refused_and_changes_nothing(shop: Shop):
    top_up = shop.start(20)
    shop.pay(top_up)
    event = of_types(shop, "payment_intent.succeeded")[0]
    assert shop.tell(event, secret="whsec_of_somebody") == 400
    assert shop.tell(event, secret="") == 400
    assert shop.tell(event, at=time.time() - 301) == 400
    body, signature = signed(event)
    post = Client().post
    changed = body.replace(b"succeeded", b"succeedeD")
    for sent, header in ((changed, signature), (body, ""), (body, "t=1,v1=x"), (body, signature.replace("v1", "v0"))):
        headers = {"stripe-signature": header} if header else {}
        answer = post("/webhooks/stripe", sent, content_type="application/json", headers=headers)
        assert answer.status_code == 400
    assert not StripeEvent.objects.exists()
    assert shop.ledger() == set()
    assert shop.tell(event, secret=OLD_SECRET) == 200, "while a secret is being replaced, both are good"
    assert shop.tell(event, at=time.time() - 290) == 200
    assert StripeEvent.objects.count() == 1


def test_what_an_event_claims_is_not_believed(shop: Shop):
    """Signed by Stripe, even: its object says that it was paid, and Stripe's own one says that it was not."""
    top_up = shop.start(20)
    session = deepcopy(shop.stripe.store.get(str(top_up.checkout_session)))
    session.update(status="complete", payment_status="paid", amount_total=99_999_00)
    with shop.stripe.store.change():
        shop.stripe.store.emit("checkout.session.completed", session)
    shop.tell_and_handle(shop.stripe.events[-1])
    assert StripeEvent.objects.get().outcome == "applied"
    assert TopUp.objects.get().state == TopUpState.PROCESSING
    assert shop.ledger() == set()


def test_events_of_another_installation_change_nothing(shop: Shop, settings: Settings):
    """Two installations share a Stripe account, and their rows the same numbers."""
    theirs = shop.start(20)
    shop.pay(theirs)
    told = of_types(shop, "checkout.session.completed", "payment_intent.succeeded", "invoice.paid")
    dispute = shop.stripe.dispute(shop.stripe.all("payment_intent")[0]["id"])
    shop.stripe.refund(dispute["payment_intent"], 100)
    told += of_types(shop, "charge.dispute.created", "refund.created")
    TopUp.objects.filter(pk=theirs.pk).update(checkout_session=None)  # as if ours had the same number
    settings.KEY_PEPPER = "of another installation"
    for event in told:
        shop.tell_and_handle(event)
    assert set(StripeEvent.objects.values_list("outcome", flat=True)) == {"foreign"}
    assert shop.ledger() == set()
    assert not shop.wallet.frozen


def test_a_webhook_before_our_own_commit_is_not_lost(shop: Shop):
    """The session's id is not stored yet: its metadata leads to the top-up."""
    top_up = shop.start(20)
    TopUp.objects.filter(pk=top_up.pk).update(checkout_session=None, pay_url="")
    shop.stripe.pay(str(top_up.checkout_session))
    for event in of_types(shop, "payment_intent.succeeded"):  # it names the payment only
        shop.tell_and_handle(event)
    assert TopUp.objects.get().state == TopUpState.SUCCEEDED
    assert shop.wallet.posted == 20 * USD


def test_without_a_secret_there_is_no_webhook(shop: Shop, settings: Settings):
    settings.STRIPE = type(settings.STRIPE)("sk_test_x", ())
    assert shop.tell({"id": "evt_1"}) == 404
    settings.STRIPE = type(settings.STRIPE)("sk_test_x", ("",))
    assert shop.tell({"id": "evt_1"}, secret="") == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"object":"event"}', b'{"object":"event","id":1,"data":[]}', b"\xff"]
)
def test_signed_nonsense_is_refused(shop: Shop, body: bytes):
    assert shop.tell(body) == 400


def test_what_is_not_asked_for_is_taken_and_not_kept(shop: Shop):
    assert (
        shop.tell({"id": "evt_x", "object": "event", "type": "plan.created", "created": 1, "data": {"object": {}}})
        == 200
    )
    assert not StripeEvent.objects.exists()
    assert Client().get("/webhooks/stripe").status_code == 405


def test_signatures_are_those_of_the_sdk():
    body = json.dumps({"a": "ä"})
    header = sdk.WebhookSignature.generate_signature_header(body, SECRET)
    assert is_signed(body.encode(), header, [SECRET], time.time())
    assert is_signed(body.encode(), f"{header},v1=00,v0=x", ["whsec_other", SECRET], time.time())
    assert sdk.WebhookSignature.verify_header(body, signed(body.encode())[1], SECRET, 300)


def test_an_event_that_cannot_be_handled_now_is_tried_again_and_reported_meanwhile(shop: Shop):
    top_up = shop.start(20)
    shop.pay(top_up)
    event = of_types(shop, "checkout.session.completed")[0]
    assert shop.tell(event) == 200
    from ccm_site.demo_stripe.server import Fault

    shop.stripe.stripe.faults.append(Fault("GET /v1/checkout", "before", times=9))
    with pytest.raises(PaymentsUnavailable):
        events.handle(event["id"])
    kept = StripeEvent.objects.get()
    assert (kept.handled_at, kept.attempts) == (None, 1)
    assert "PaymentsUnavailable" in kept.error
    later = timezone.now() + timedelta(minutes=11)
    found = {finding.check: finding for finding in run_checks(later, {"R9"})}
    assert not found["R9"].ok
    assert event["id"] in found["R9"].detail
    assert events.sweep(timezone.now()) == 0, "not at once"
    shop.stripe.stripe.faults.clear()
    assert events.sweep(later) == 1
    assert shop.wallet.posted == 20 * USD
    assert {finding.check for finding in run_checks(later, {"R9"}) if not finding.ok} == set()


def test_what_no_webhook_told_is_found_by_reading_stripes_list(shop: Shop):
    top_up = shop.start(20)
    shop.pay(top_up)
    assert events.poll(timezone.now()) == 0, "what is new may be on its way"
    later = timezone.now() + timedelta(hours=1)
    known = of_types(shop, "payment_intent.succeeded")[0]
    shop.tell(known)
    expected = {e["id"] for e in shop.stripe.events if e["type"] in handlers.HANDLERS} - {known["id"]}
    assert events.poll(later) == len(expected)
    assert set(StripeEvent.objects.filter(source="poll").values_list("pk", flat=True)) == expected
    assert events.poll(later) == 0
    events.sweep(later)
    assert TopUp.objects.get(pk=top_up.pk).state == TopUpState.SUCCEEDED
    assert not StripeEvent.objects.filter(handled_at=None).exists()
    late = {f.check: f for f in run_checks(later + timedelta(hours=5), {"R9"})}
    assert "has not been read since" in late["R9"].detail


def test_a_receipt_is_told_once(shop: Shop):
    top_up = shop.start(20)
    shop.pay(top_up)
    for event in shop.stripe.events * 2:
        shop.tell_and_handle(event)
    topups.look(TopUp.objects.get(pk=top_up.pk))
    assert BillingNotice.objects.filter(kind="receipt").count() == 1


def test_an_event_that_cannot_be_stored_is_told_again(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    def away(*_: object) -> bool:
        raise OperationalError("the database is away")

    top_up = shop.start(20)
    shop.pay(top_up)
    monkeypatch.setattr(events, "store", away)
    assert shop.tell(of_types(shop, "payment_intent.succeeded")[0]) == 503


def test_a_card_that_is_removed_switches_auto_top_up_off(shop: Shop):
    shop.bought(20)
    auto.order(shop.id, auto.Order(USD, 10 * USD, 99 * USD), by=shop.user)
    with shop.stripe.store.change():
        money.detach(shop.stripe.store, shop.stripe.all("payment_method")[0])
    shop.tell_and_handle(of_types(shop, "payment_method.detached")[0])
    assert not AutoTopUp.objects.get().enabled
    assert BillingAccount.objects.get().card == ""


def test_a_customer_that_was_deleted_at_stripe_is_forgotten(shop: Shop):
    import httpx

    shop.bought(20)
    customer = BillingAccount.objects.get().customer
    headers = {"authorization": f"Bearer {KEY}"}
    httpx.delete(f"{shop.stripe.stripe.origin}/v1/customers/{customer}", headers=headers, trust_env=False)
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert BillingAccount.objects.get().customer is None
    assert shop.wallet.posted == 20 * USD
