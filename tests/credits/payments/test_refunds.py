"""Money that goes back: refunds by operators and at Stripe, disputes, warnings."""

import pytest

from ccm_site.demo_stripe.server import Fault
from credits.correction_models import LotReopening
from credits.errors import CorrectionRefused, InvalidAmount, PaymentRefused, PaymentsUnavailable
from credits.models import CreditLot, Wallet
from credits.payments import balance, disputes, refunds, topups
from credits.payments.models import AutoTopUp, BillingAccount, PaymentDispute, PaymentRefund, TopUp
from tests.credits.payments.support import Shop
from tests.credits.support import USD, assert_reconciled, operator


def spend(shop: Shop, nanos: int) -> None:
    """Used by requests: an adjustment takes it out of the lots all the same."""
    from credits import corrections
    from credits.correction_models import AdjustmentKind

    asked = corrections.propose(shop.id, AdjustmentKind.DEBIT, nanos, reason="used", key=f"u{nanos}", by=operator())
    corrections.approve(asked.pk, by=operator("checker"))


def test_an_operators_refund_takes_the_credits_and_their_part_of_fee(shop: Shop):
    top_up, by = shop.bought(20), operator()
    assert refunds.refundable(top_up) == 21 * USD
    made = refunds.request(top_up.pk, 1050 * 10**7, reason="sorry", key="form", by=by)
    assert (made.credit, made.fee, made.tax, made.state) == (10 * USD, USD // 2, 0, "requested")
    assert shop.wallet.posted == 10 * USD, "taken before Stripe is asked, so that nobody spends them meanwhile"
    assert refunds.request(top_up.pk, 1050 * 10**7, reason="sorry", key="form", by=by).pk == made.pk
    done = refunds.send(made.pk)
    assert done.state == "succeeded"
    assert refunds.send(made.pk).stripe_id == done.stripe_id
    assert [refund["amount"] for refund in shop.stripe.all("refund")] == [1050]
    for event in list(shop.stripe.events):
        shop.tell_and_handle(event)
    assert PaymentRefund.objects.count() == 1
    balance.read()
    assert_reconciled()


def test_what_was_spent_is_not_refunded_by_an_operator(shop: Shop):
    top_up = shop.bought(20)
    spend(shop, 15 * USD)
    assert refunds.refundable(top_up) == 525 * 10**7
    with pytest.raises(CorrectionRefused, match=r"\$5.00 is left"):
        refunds.request(top_up.pk, 1050 * 10**7, reason="r", key="k", by=operator())
    with pytest.raises(InvalidAmount):
        refunds.request(top_up.pk, 22 * USD, reason="r", key="k", by=operator())
    assert shop.wallet.posted == 5 * USD
    assert shop.stripe.all("refund") == []


def test_a_refund_at_stripe_of_spent_credits_becomes_debt_and_is_forgiven_when_it_fails(shop: Shop):
    top_up = shop.bought(20)
    spend(shop, 15 * USD)
    made = shop.stripe.refund(top_up.payment_intent)
    refunds.sync(made["id"])
    assert (shop.wallet.posted, shop.wallet.debt) == (0, 15 * USD)
    shop.stripe.fail_refund(made)
    refunds.sync(made["id"])
    refunds.sync(made["id"])
    assert (shop.wallet.posted, shop.wallet.debt) == (5 * USD, 0)
    assert LotReopening.objects.get().amount == 5 * USD
    balance.read()
    assert_reconciled()


def test_debt_that_was_repaid_meanwhile_comes_back_as_credits(shop: Shop):
    first = shop.bought(20)
    spend(shop, 20 * USD)
    made = shop.stripe.refund(first.payment_intent)
    refunds.sync(made["id"])
    shop.bought(50)
    assert (shop.wallet.posted, shop.wallet.debt) == (30 * USD, 0)
    shop.stripe.fail_refund(made)
    refunds.sync(made["id"])
    assert (shop.wallet.posted, shop.wallet.debt) == (50 * USD, 0)
    assert sorted(CreditLot.objects.filter(remaining__gt=0).values_list("amount", flat=True)) == [20 * USD, 50 * USD]
    assert_reconciled()


def test_a_refund_whose_answer_was_lost_is_made_once(shop: Shop):
    """Stripe repeats the failure to the same key: the refund is found by what it says of itself."""
    top_up = shop.bought(20)
    made = refunds.request(top_up.pk, 2100 * 10**7, reason="r", key="k", by=operator())
    shop.stripe.stripe.faults.append(Fault("POST /v1/refunds", "after"))
    with pytest.raises(PaymentsUnavailable):
        refunds.send(made.pk)
    PaymentRefund.objects.filter(pk=made.pk).update(state="requested")
    later = made.created_at + 2 * refunds.SEND_AGAIN
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("credits.payments.refunds.timezone.now", lambda: later)
        assert refunds.sweep(later) == 1
    assert PaymentRefund.objects.get().state == "succeeded"
    assert len(shop.stripe.all("refund")) == 1
    assert shop.wallet.posted == 0


def test_a_refund_that_stripe_refuses_gives_the_credits_back(shop: Shop):
    top_up = shop.bought(20)
    made = refunds.request(top_up.pk, 1050 * 10**7, reason="r", key="k", by=operator())
    shop.stripe.refund(top_up.payment_intent)  # whole, in the dashboard, before ours arrives
    assert refunds.send(made.pk).state == "failed"
    assert shop.wallet.posted == 20 * USD
    refunds.sync(shop.stripe.all("refund")[0]["id"])
    assert (shop.wallet.posted, shop.wallet.debt) == (0, 0)
    assert_reconciled()


def test_a_refund_that_fails_at_the_bank_later(shop: Shop):
    top_up = shop.bought(20, number="4000000000005126")
    made = refunds.request(top_up.pk, 1050 * 10**7, reason="r", key="k", by=operator())
    assert refunds.send(made.pk).state == "failed"
    assert PaymentRefund.objects.get().failure == "expired_or_canceled_card"
    assert shop.wallet.posted == 20 * USD
    assert_reconciled()


def test_a_dispute_freezes_and_when_lost_leaves_what_was_spent_as_debt(shop: Shop):
    top_up = shop.bought(20)
    AutoTopUp.objects.create(pk=shop.id, enabled=True, threshold=USD, amount=10 * USD, monthly_cap=99 * USD)
    spend(shop, 12 * USD)
    made = shop.stripe.dispute(top_up.payment_intent)
    disputes.sync(made["id"])
    assert (shop.wallet.frozen, shop.wallet.posted, shop.wallet.debt) == (True, 0, 12 * USD)
    assert not AutoTopUp.objects.get().enabled
    shop.stripe.end_dispute(made, "lost")
    disputes.sync(made["id"])
    assert (shop.wallet.frozen, shop.wallet.posted, shop.wallet.debt) == (False, 0, 12 * USD)
    with pytest.raises(PaymentRefused, match="cannot buy"):
        shop.start(20)
    disputes.unblock(shop.id, by=operator())
    shop.start(20)
    balance.read()
    assert_reconciled()


def test_what_an_operator_froze_is_not_thawed_by_a_won_dispute_nor_by_one_of_two(shop: Shop):
    first, second = shop.bought(20), shop.bought(30)
    one, two = shop.stripe.dispute(first.payment_intent), shop.stripe.dispute(second.payment_intent)
    for made in (one, two):
        disputes.sync(made["id"])
    shop.stripe.end_dispute(one, "won")
    disputes.sync(one["id"])
    assert shop.wallet.frozen, "the other is open"
    shop.stripe.end_dispute(two, "won")
    disputes.sync(two["id"])
    assert not shop.wallet.frozen
    Wallet.objects.update(frozen=True)
    third = shop.bought(40)
    made = shop.stripe.dispute(third.payment_intent)
    disputes.sync(made["id"])
    shop.stripe.end_dispute(made, "won")
    disputes.sync(made["id"])
    assert shop.wallet.frozen
    assert_reconciled()


def test_a_fraud_warning_freezes_until_the_payment_went_back(shop: Shop):
    top_up = shop.bought(20, number="4000000000005423")
    made = shop.stripe.all("radar.early_fraud_warning")[0]
    assert disputes.sync_warning(made["id"]) == "applied"
    assert shop.wallet.frozen
    refund = refunds.request(top_up.pk, top_up.total, reason="fraud", key="k", by=operator())
    refunds.send(refund.pk)
    assert PaymentDispute.objects.get().state == "closed"
    assert not shop.wallet.frozen
    assert BillingAccount.objects.get().blocked is False
    assert TopUp.objects.get().state == "succeeded"
    assert topups.find(intent=top_up.payment_intent) is not None
    assert_reconciled()


def test_reconcile_tells_of_money_that_is_in_one_book_only(shop: Shop):
    from datetime import timedelta

    from django.utils import timezone

    from credits.payments.models import StripeProgress
    from credits.reconcile import run_checks
    from tests.credits.support import tampered

    def finding(when):
        StripeProgress.objects.update(read_at=when)
        return run_checks(when, {"R6"})[0]

    later = timezone.now() + timedelta(hours=3)
    top_up = shop.bought(20)
    balance.read()
    assert finding(later).ok
    refund = shop.stripe.refund(top_up.payment_intent, 100)
    balance.read()
    assert finding(timezone.now() + timedelta(minutes=5)).ok, "its event may still come"
    missing = finding(later)
    assert refund["id"] in missing.detail
    assert missing.difference == USD
    refunds.sync(refund["id"])
    assert finding(later).ok
    tampered("UPDATE credits_transfer SET amount = amount + 5 WHERE code = 'stripe_fee'")
    assert "stripe_fee:" in finding(later).detail
    assert "has not been read since" in run_checks(later + timedelta(hours=9), {"R6"})[0].detail
