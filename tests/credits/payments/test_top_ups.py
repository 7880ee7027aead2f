"""Buying credits: a top-up is paid at Stripe and credited once, whoever sees it first."""

from credits.models import CreditLot
from credits.payments import balance, topups
from credits.payments.models import BillingAccount, BillingNotice, TopUpState
from tests.credits.payments.support import Shop
from tests.credits.support import USD, assert_reconciled


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
