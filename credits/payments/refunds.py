"""Payments that go back to customers: asked for by an operator here, or made at Stripe.

What was asked for here takes the credits at once, so that they cannot be spent meanwhile, and only then asks Stripe.
A refund may fail days later: then everything comes back. What is made at Stripe is a fact when we hear of it, and
takes what is left; what had been spent becomes debt.
"""

import secrets
from datetime import datetime, timedelta

import structlog
from django.db.models import Q, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import User
from credits import ledger
from credits.entries import open_books
from credits.errors import CorrectionRefused, InvalidAmount, PaymentRefused, PaymentsUnavailable
from credits.ledger import Returned
from credits.models import TransferCode
from credits.money import format_usd
from credits.payments import client, disputes, notices, topups
from credits.payments.amounts import Parts, share, to_cents
from credits.payments.client import stripe_api
from credits.payments.models import PaymentRefund, RefundState, TopUp, TopUpState
from credits.payments.returns import Split, clearing, give_back, left_of, split, take_back
from credits.payments.types import SeenRefund

log = structlog.get_logger("ccm.payments")

OVER = (RefundState.FAILED, RefundState.CANCELED)
STATES = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.CANCELED,
}
RANKS = {state: rank for rank, state in enumerate(RefundState)}
SEND_AGAIN = timedelta(minutes=1)
KEY_LIFE = timedelta(hours=23)
"""How long a repeated idempotency key is sure to be known at Stripe."""


def parts_paid(top_up: TopUp) -> Parts:
    return Parts(credit=top_up.amount, fee=top_up.fee, tax=top_up.tax)


def given_back(top_up: TopUp) -> int:
    """Nanos of the payment that have gone back, or are about to."""
    total = top_up.refunds.exclude(state__in=OVER).aggregate(total=Sum("amount"))["total"]
    return int(total or 0)


def refundable(top_up: TopUp) -> int:
    """Nanos of the payment that an operator may give back: as much as pays for credits that are still there, in
    whole cents; the fee's and tax's part comes with them."""
    if top_up.state != TopUpState.SUCCEEDED:
        return 0
    with open_books(top_up.organization_id, timezone.now()) as opened:
        credit_left = left_of(opened, top_up)
    paid = parts_paid(top_up)
    gross = min(credit_left * paid.total // paid.credit, paid.total - given_back(top_up))
    return max(0, gross - gross % 10_000_000)


def request(top_up_id: int, amount: int, *, reason: str, key: str, by: User) -> PaymentRefund:
    """Give `amount` nanos of the payment back. The credits are taken now; `send` then asks Stripe. The same `key` (a
    form sent twice) is the same refund.

    Raises InvalidAmount and CorrectionRefused (not paid, or the credits have been spent)."""
    to_cents(amount)
    top_up = TopUp.objects.get(pk=top_up_id)
    with open_books(top_up.organization_id, timezone.now()) as opened:
        earlier = PaymentRefund.objects.filter(pk=f"ccm_{key}").first()
        if earlier is not None:
            return earlier
        if top_up.state != TopUpState.SUCCEEDED:
            raise CorrectionRefused("This top-up has not been paid.")
        left = top_up.total - given_back(top_up)
        if not 0 < amount <= left:
            raise InvalidAmount(f"Of this payment {format_usd(left)} can still go back.")
        parts = share(parts_paid(top_up), amount)
        shares = split(opened, top_up, parts.credit)
        if shares.from_debt:
            raise CorrectionRefused(
                f"Of these credits {format_usd(shares.from_wallet)} is left; "
                f"this refund needs {format_usd(parts.credit)}."
            )
        made = _record(f"ccm_{key}", top_up, parts, shares, opened.now)
        made.reason, made.created_by = reason[:200], by
        made.save(force_insert=True)
        returned = Returned(shares.from_wallet, shares.from_debt, parts.fee, parts.tax)
        postings = ledger.refunded(made.pk, clearing(opened), opened.accounts, returned, reason=made.reason, by=by.pk)
        take_back(opened, top_up, f"refund:{made.pk}", postings, shares)
        audit.record(top_up.organization_id, by, "refunded", f"{format_usd(amount)} of a payment", reason)
    log.info("payment_refund_requested", refund=made.pk, top_up=top_up.pk, nanos=amount, by=by.pk)
    return made


def new_key() -> str:
    return secrets.token_hex(16)


def _record(id_: str, top_up: TopUp, parts: Parts, shares: Split, now: datetime) -> PaymentRefund:
    return PaymentRefund(
        id=id_, top_up=top_up, state=RefundState.REQUESTED, amount=parts.total, credit=parts.credit, fee=parts.fee,
        tax=parts.tax, from_wallet=shares.from_wallet, from_debt=shares.from_debt, created_at=now, updated_at=now,
    )  # fmt: skip


def send(refund_id: str) -> PaymentRefund:
    """Ask Stripe for a refund that was requested here. May be repeated. Raises PaymentsUnavailable."""
    refund = PaymentRefund.objects.select_related("top_up").get(pk=refund_id)
    if refund.stripe_id or refund.state != RefundState.REQUESTED:
        return refund
    api, intent = stripe_api(), str(refund.top_up.payment_intent)
    age = timezone.now() - refund.created_at
    if age > SEND_AGAIN:  # an answer may have been lost
        for seen in api.refunds_of(intent):
            if seen.metadata.get(client.REFUND) == refund.pk:
                return apply(refund.top_up, seen)
    key = f"refund:{client.installation()}:{refund.pk}:{age // KEY_LIFE}"
    try:
        seen = api.create_refund(intent, refund.amount, refund.pk, key)
    except PaymentRefused as refusal:
        return _end(refund, RefundState.FAILED, str(refusal))
    return apply(refund.top_up, seen)


def sync(stripe_id: str) -> str:
    """Look at a refund at Stripe and apply it; "applied", or "foreign" for a payment that is none of ours."""
    seen = stripe_api().refund(stripe_id)
    if seen.payment_intent is None:
        return "foreign"
    top_up = top_up_of(seen.payment_intent)
    if top_up is None:
        return "foreign"
    apply(top_up, seen)
    return "applied"


def top_up_of(payment_intent: str) -> TopUp | None:
    """The top-up of a payment, brought up to date first: money that goes back has come in before."""
    top_up = topups.of_payment(payment_intent)
    if top_up is not None and top_up.state != TopUpState.SUCCEEDED:
        top_up = topups.look(top_up)
        if top_up.state != TopUpState.SUCCEEDED:
            raise PaymentsUnavailable(f"{top_up} is not seen as paid yet")
    return top_up


def apply(top_up: TopUp, seen: SeenRefund) -> PaymentRefund:
    """Bring the refund to what Stripe says; states only move on, whatever the order in which they are told."""
    state = STATES.get(seen.status, RefundState.PENDING)
    ours = (
        seen.metadata.get(client.REFUND, "") if seen.metadata.get(client.INSTALLATION) == client.installation() else ""
    )
    found = Q(stripe_id=seen.id) | Q(pk=ours, top_up=top_up)
    refund = PaymentRefund.objects.filter(found).first() or _discover(top_up, seen)
    if state in OVER:
        return _end(refund, state, seen.failure or seen.status, seen.id)
    if RANKS[state] > RANKS[RefundState(refund.state)] or not refund.stripe_id:
        lower = [each for each in RefundState if RANKS[each] <= RANKS[state]]
        PaymentRefund.objects.filter(pk=refund.pk, state__in=lower).update(
            state=state, stripe_id=seen.id, updated_at=timezone.now()
        )
    if state == RefundState.SUCCEEDED:
        notices.add(
            f"refunded:{refund.pk}", top_up.organization_id, notices.REFUNDED, amount=refund.amount, top_up=top_up.pk
        )
        disputes.close_warnings(top_up)
    return PaymentRefund.objects.get(pk=refund.pk)


def _discover(top_up: TopUp, seen: SeenRefund) -> PaymentRefund:
    """A refund that was made at Stripe: take the credits, and owe what has been spent."""
    with open_books(top_up.organization_id, timezone.now()) as opened:
        earlier = PaymentRefund.objects.filter(stripe_id=seen.id).first()
        if earlier is not None:
            return earlier
        parts = share(parts_paid(top_up), seen.amount)
        shares = split(opened, top_up, parts.credit)
        made = _record(seen.id, top_up, parts, shares, opened.now)
        made.stripe_id, made.reason = seen.id, "Refunded at Stripe"
        made.save(force_insert=True)
        returned = Returned(shares.from_wallet, shares.from_debt, parts.fee, parts.tax)
        postings = ledger.refunded(made.pk, clearing(opened), opened.accounts, returned, by=None)
        take_back(opened, top_up, f"refund:{made.pk}", postings, shares)
    log.info("payment_refund_found", refund=made.pk, top_up=top_up.pk, nanos=seen.amount, owed=shares.from_debt)
    return made


def _end(refund: PaymentRefund, state: RefundState, failure: str, stripe_id: str | None = None) -> PaymentRefund:
    """The refund did not come about, or came back: so do the credits, once."""
    with open_books(refund.top_up.organization_id, timezone.now()) as opened:
        ended = (
            PaymentRefund.objects.filter(pk=refund.pk)
            .exclude(state__in=OVER)
            .update(state=state, failure=failure[:200], stripe_id=stripe_id or refund.stripe_id, updated_at=opened.now)
        )
        if ended:
            group, accounts = f"refund:{refund.pk}", clearing(opened)
            parts = Returned(refund.from_wallet, refund.from_debt, refund.fee, refund.tax)
            opened.books.postings += ledger.refund_failed(refund.pk, accounts, parts)
            shares = Split(refund.from_wallet, refund.from_debt)
            give_back(opened, group, accounts.stripe, TransferCode.REFUND, shares)
            log.error("payment_refund_failed", refund=refund.pk, why=failure)
    return PaymentRefund.objects.get(pk=refund.pk)


def sweep(now: datetime | None = None) -> int:
    """Send what was requested and never sent, and look at what has been pending for a day; how many."""
    now = now or timezone.now()
    unsent = Q(state=RefundState.REQUESTED, updated_at__lt=now - SEND_AGAIN)
    waiting = Q(state=RefundState.PENDING, updated_at__lt=now - timedelta(days=1), stripe_id__isnull=False)
    due = list(PaymentRefund.objects.filter(unsent | waiting).order_by("updated_at")[:50])
    for refund in due:
        PaymentRefund.objects.filter(pk=refund.pk).update(updated_at=now)
        try:
            if refund.state == RefundState.REQUESTED:
                send(refund.pk)
            else:
                sync(str(refund.stripe_id))
        except (PaymentRefused, PaymentsUnavailable) as error:
            log.warning("payment_refund_not_sent", refund=refund.pk, error=type(error).__name__)
    return len(due)
