"""Payments that a bank takes back (disputes), or warns of (early fraud warnings).

From the first word of it the organisation's credits are frozen and auto top-up is off. When the funds are withdrawn
the credits go with them; when the dispute is won they come back, and when it is lost what had been spent stays owed,
and the organisation buys nothing more until an operator lifts that.
"""

from datetime import datetime

import structlog
from django.core.mail import mail_admins
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import User
from credits import ledger
from credits.entries import OpenBooks, open_books
from credits.ledger import Returned
from credits.models import TransferCode, Wallet
from credits.money import format_usd
from credits.payments import notices
from credits.payments.amounts import Parts, share
from credits.payments.client import stripe_api
from credits.payments.models import (
    AutoTopUp,
    BillingAccount,
    DisputeKind,
    DisputeState,
    PaymentDispute,
    RefundState,
    TopUp,
)
from credits.payments.returns import Split, clearing, give_back, split, take_back
from credits.payments.types import SeenDispute

log = structlog.get_logger("ccm.payments")

UNFINISHED = (DisputeState.OPEN, DisputeState.WITHDRAWN)


def sync(dispute_id: str) -> str:
    """Look at a dispute at Stripe and apply it; "applied", or "foreign" for a payment that is none of ours."""
    seen = stripe_api().dispute(dispute_id)
    top_up = _top_up_of(seen.payment_intent)
    if top_up is None:
        return "foreign"
    apply(top_up, seen)
    return "applied"


def _top_up_of(payment_intent: str | None) -> TopUp | None:
    from credits.payments.refunds import top_up_of  # it closes warnings here

    return top_up_of(payment_intent) if payment_intent else None


def apply(top_up: TopUp, seen: SeenDispute) -> PaymentDispute:
    """Bring the dispute to what Stripe says: opened, withdrawn, ended, each once and in this order, however they are
    told. An inquiry (`warning_*`) withdraws nothing, but freezes like a dispute."""
    with open_books(top_up.organization_id, timezone.now()) as opened:
        dispute = _opened(opened, top_up, seen.id, DisputeKind.DISPUTE, seen.status, seen.reason)
        if seen.withdrawn and dispute.state == DisputeState.OPEN:
            _withdraw(opened, top_up, dispute, seen.withdrawn)
    # In books of their own: credits come back to lots as they are stored, so they must have been taken before.
    with open_books(top_up.organization_id, timezone.now()) as opened:
        dispute = PaymentDispute.objects.get(pk=seen.id)
        if dispute.state in UNFINISHED:
            _end_as(opened, top_up, dispute, seen)
        PaymentDispute.objects.filter(pk=dispute.pk).update(status=seen.status)
    return PaymentDispute.objects.get(pk=dispute.pk)


def _end_as(opened: OpenBooks, top_up: TopUp, dispute: PaymentDispute, seen: SeenDispute) -> None:
    withdrawn = dispute.state == DisputeState.WITHDRAWN
    if seen.status == "won" and (not withdrawn or seen.reinstated):
        if withdrawn:
            _reinstate(opened, dispute)
        _close(opened, top_up, dispute, DisputeState.WON)
    elif seen.status == "lost":
        if withdrawn:
            parts = Returned(dispute.from_wallet, dispute.from_debt, dispute.fee, dispute.tax)
            opened.books.postings += ledger.dispute_lost(dispute.pk, clearing(opened), parts)
        BillingAccount.objects.filter(pk=top_up.organization_id).update(blocked=True)
        _close(opened, top_up, dispute, DisputeState.LOST)
    elif seen.status in {"warning_closed", "prevented"} and not withdrawn:
        _close(opened, top_up, dispute, DisputeState.CLOSED)


def _opened(opened: OpenBooks, top_up: TopUp, id_: str, kind: DisputeKind, status: str, reason: str) -> PaymentDispute:
    """The row; when it is new the organisation is frozen."""
    dispute, new = PaymentDispute.objects.get_or_create(
        pk=id_,
        defaults={"top_up": top_up, "kind": kind, "status": status, "reason": reason[:60], "created_at": opened.now},
    )
    if new:
        froze = Wallet.objects.filter(pk=top_up.organization_id, frozen=False).update(frozen=True)
        PaymentDispute.objects.filter(pk=id_).update(froze=bool(froze))
        AutoTopUp.objects.filter(pk=top_up.organization_id).update(enabled=False)
        notices.add(f"disputed:{id_}", top_up.organization_id, notices.DISPUTED, amount=top_up.total)
        log.error("payment_disputed", dispute=id_, kind=kind, top_up=top_up.pk, organization=top_up.organization_id)
        transaction.on_commit(lambda: _alert(top_up, id_, kind, reason))
        dispute.refresh_from_db()
    return dispute


def _alert(top_up: TopUp, id_: str, kind: DisputeKind, reason: str) -> None:
    """To the operators: a full refund now keeps a warning from becoming a dispute, which costs a fee."""
    try:
        mail_admins(
            f"{kind.label}: {top_up} of organisation {top_up.organization_id}",
            f"{id_} ({reason}) about {format_usd(top_up.total)}. The organisation's credits are frozen.\n",
        )
    except Exception as error:
        log.error("alert_not_sent", error=type(error).__name__, dispute=id_)


def _withdraw(opened: OpenBooks, top_up: TopUp, dispute: PaymentDispute, amount: int) -> None:
    parts = share(Parts(credit=top_up.amount, fee=top_up.fee, tax=top_up.tax), amount)
    shares = split(opened, top_up, parts.credit)
    returned = Returned(shares.from_wallet, shares.from_debt, parts.fee, parts.tax)
    postings = ledger.disputed(dispute.pk, clearing(opened), opened.accounts, returned)
    take_back(opened, top_up, f"dispute:{dispute.pk}", postings, shares)
    dispute.state, dispute.amount = DisputeState.WITHDRAWN, amount
    dispute.credit, dispute.fee, dispute.tax = parts.credit, parts.fee, parts.tax
    dispute.from_wallet, dispute.from_debt = shares
    dispute.save(update_fields=["state", "amount", "credit", "fee", "tax", "from_wallet", "from_debt"])


def _reinstate(opened: OpenBooks, dispute: PaymentDispute) -> None:
    accounts = clearing(opened)
    opened.books.postings.append(ledger.dispute_won(dispute.pk, accounts, dispute.amount))
    shares = Split(dispute.from_wallet, dispute.from_debt)
    give_back(opened, f"dispute:{dispute.pk}", accounts.reserve, TransferCode.DISPUTE, shares)


def _close(opened: OpenBooks, top_up: TopUp, dispute: PaymentDispute, state: DisputeState) -> None:
    dispute.state = state
    PaymentDispute.objects.filter(pk=dispute.pk).update(state=state, closed_at=opened.now)
    _thaw(top_up.organization_id, dispute)
    log.info("payment_dispute_closed", dispute=dispute.pk, state=state)


def _thaw(organization_id: int, ended: PaymentDispute) -> None:
    """Lift the freeze that this dispute brought, unless another one is open: then it is that one's. What an operator
    has frozen stays so."""
    if not ended.froze:
        return
    others = PaymentDispute.objects.filter(top_up__organization_id=organization_id, state__in=UNFINISHED)
    other = others.exclude(pk=ended.pk).first()
    if other is None:
        Wallet.objects.filter(pk=organization_id).update(frozen=False)
    else:
        PaymentDispute.objects.filter(pk=other.pk).update(froze=True)


# Early fraud warnings


def sync_warning(warning_id: str) -> str:
    """Look at an early fraud warning at Stripe and freeze the organisation; an operator decides."""
    seen = stripe_api().warning(warning_id)
    top_up = _top_up_of(seen.payment_intent)
    if top_up is None:
        return "foreign"
    with open_books(top_up.organization_id, timezone.now()) as opened:
        _opened(opened, top_up, seen.id, DisputeKind.WARNING, "warned", seen.reason)
    close_warnings(top_up)
    return "applied"


def close_warnings(top_up: TopUp) -> None:
    """A payment that went back whole cannot be disputed any more."""
    done = top_up.refunds.filter(state=RefundState.SUCCEEDED).values_list("amount", flat=True)
    if sum(done) >= top_up.total:
        for warning in _open_warnings(top_up):
            close_warning(warning.pk, by=None)


def _open_warnings(top_up: TopUp) -> list[PaymentDispute]:
    return list(top_up.disputes.filter(kind=DisputeKind.WARNING, state=DisputeState.OPEN))


def close_warning(warning_id: str, *, by: User | None, now: datetime | None = None) -> PaymentDispute:
    """An operator has looked, or the payment went back: the organisation may go on."""
    warning = PaymentDispute.objects.select_related("top_up").get(pk=warning_id, kind=DisputeKind.WARNING)
    with open_books(warning.top_up.organization_id, now or timezone.now()) as opened:
        warning = PaymentDispute.objects.select_related("top_up").get(pk=warning_id)
        if warning.state == DisputeState.OPEN:
            _close(opened, warning.top_up, warning, DisputeState.CLOSED)
            audit.record(warning.top_up.organization_id, by, "closed a payment warning", warning_id)
    return PaymentDispute.objects.get(pk=warning_id)


def unblock(organization_id: int, *, by: User) -> None:
    """An operator lets the organisation buy again after a lost dispute."""
    with transaction.atomic():
        if BillingAccount.objects.filter(pk=organization_id, blocked=True).update(blocked=False):
            audit.record(organization_id, by, "allowed to buy credits again")
