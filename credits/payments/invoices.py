"""Auto top-ups at Stripe: an invoice that is charged off session, so that tax and the bill come with it.

An invoice keeps itself from being paid twice, and each step looks first at what is there: an answer that was lost, or
a worker that died between two steps, changes nothing.
"""

from datetime import datetime, timedelta

import structlog
from django.db.models import F

from credits.errors import PaymentRefused
from credits.payments import client, notices
from credits.payments.accounts import ensure_customer
from credits.payments.client import StripeApi
from credits.payments.models import IN_FLIGHT, AutoTopUp, BillingAccount, TopUp, TopUpState
from credits.payments.reading import CONFIRM
from credits.payments.types import SeenInvoice, SeenPayment

log = structlog.get_logger("ccm.payments")

BACK_OFF = timedelta(hours=1)
MOST_FAILURES = 3


def advance(api: StripeApi, top_up: TopUp) -> SeenPayment:
    """Make, finish and pay the invoice, as far as that has not been done; what has become of the payment."""
    if top_up.invoice is None and top_up.state not in IN_FLIGHT:
        return SeenPayment(TopUpState(top_up.state))
    attempt = top_up.attempt
    TopUp.objects.filter(pk=top_up.pk).update(attempt=attempt + 1)
    key = f"topup:{client.installation()}:{top_up.pk}:{attempt}"
    account = BillingAccount.objects.get(pk=top_up.organization_id)
    invoice = _invoice(api, top_up, account, key)
    if top_up.state not in IN_FLIGHT:
        return invoice.payment
    if invoice.status == "draft" and not invoice.lines:
        invoice = api.add_invoice_lines(top_up, invoice.id, f"{key}:lines")
    if invoice.status == "draft":
        invoice = api.finalize_invoice(invoice.id, f"{key}:finalize")
    if invoice.status == "open" and not invoice.attempted:
        invoice = _pay(api, top_up, invoice, account, key)
    return invoice.payment


def _invoice(api: StripeApi, top_up: TopUp, account: BillingAccount, key: str) -> SeenInvoice:
    if top_up.invoice:
        return api.invoice(top_up.invoice)
    customer = ensure_customer(api, top_up.organization_id)
    found = api.find_invoice(top_up, customer) if top_up.attempt > 1 else None
    invoice = found or api.create_invoice(top_up, customer, account.payment_method, f"{key}:invoice")
    TopUp.objects.filter(pk=top_up.pk, invoice=None).update(invoice=invoice.id, state=TopUpState.PROCESSING)
    top_up.state = TopUpState.PROCESSING
    return invoice


def _pay(api: StripeApi, top_up: TopUp, invoice: SeenInvoice, account: BillingAccount, key: str) -> SeenInvoice:
    try:
        return api.pay_invoice(invoice.id, account.payment_method, f"{key}:pay")
    except PaymentRefused as refusal:
        found = api.invoice(invoice.id)
        if found.payment.state == TopUpState.SUCCEEDED:
            return found
        log.info("auto_top_up_refused", top_up=top_up.pk, code=refusal.code)
        if CONFIRM in {refusal.code, found.payment.failure}:
            raise PaymentRefused(CONFIRM, str(refusal), found.payment.pay_url) from None
        api.void_invoice(invoice.id)  # so that nobody is asked to pay it later
        raise


def count_failure(top_up: TopUp, now: datetime) -> None:
    """An auto top-up has failed: wait longer each time, and switch it off after several in a row. Called once a
    top-up, in the transaction that ends it."""
    order = AutoTopUp.objects.filter(pk=top_up.organization_id).first()
    if order is None:
        return
    failures = order.failures + 1
    over = failures >= MOST_FAILURES
    AutoTopUp.objects.filter(pk=order.pk).update(
        failures=F("failures") + 1,
        paused_until=now + BACK_OFF * 2 ** (failures - 1),
        enabled=False if over else F("enabled"),
    )
    confirm = top_up.failure == CONFIRM
    kind = notices.AUTO_OFF if over else notices.AUTO_CONFIRM if confirm else notices.AUTO_FAILED
    notices.add(
        f"auto_failed:{top_up.pk}", top_up.organization_id, kind,
        amount=top_up.amount, why=top_up.failure_text, pay_url=top_up.pay_url if confirm else "", failures=failures,
    )  # fmt: skip


def forget_failures(organization_id: int) -> None:
    AutoTopUp.objects.filter(pk=organization_id).update(failures=0, paused_until=None)
