"""Corrections by operators: refunds of requests, adjustments that take two people, write-offs.

Each adds to the ledger; nothing that was written before is changed.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone
from msgspec.structs import replace

from accounts.models import User
from credits import ledger, rating, records
from credits.batch import charge_budget
from credits.batch import repay_debt as repay_at_the_end_of
from credits.books import Books, HoldRow
from credits.correction_models import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    Correction,
    HoldWriteOff,
    LotReopening,
)
from credits.entries import OpenBooks, bring_in, lots_changed, open_books, repay_debt, take_out
from credits.errors import CorrectionRefused, HoldClosed, InvalidAmount, LedgerDrift, SamePerson, TransferConflict
from credits.expiry import expire_due, platform_account
from credits.ledger import Posting
from credits.models import (
    AccountKind,
    CreditLot,
    Hold,
    HoldState,
    LotConsumption,
    LotKind,
    Transfer,
    TransferCode,
    Wallet,
)
from credits.money import LARGEST, format_usd
from credits.services import ensure_wallet, grant
from credits.types import MeterReading, UsageSource

log = structlog.get_logger("ccm.credits")

WRITTEN_OFF = "written_off"
GRANTED = (TransferCode.GRANT, TransferCode.PROMO)
BY_HAND = "admin:"
"""What the keys of an operator's own grants begin with."""


# Refunds of requests


def refund(
    request_id: str, amount: int, *, ticket: str, reason: str, by: User, now: datetime | None = None
) -> Correction:
    """Give back `amount` nanos of a request's charge. What was debt is given back first: off what is
    still owed, else as new credits; then the lots that the request used, the last one first, even one
    that has expired since (and expires again). Several refunds together never exceed the charge.

    The same ticket again gives nothing more. Raises HoldClosed (there is no charge), InvalidAmount,
    CorrectionRefused (more than is left), TransferConflict (the ticket was for another amount)."""
    hold = Hold.objects.filter(pk=request_id, state=HoldState.CAPTURED).first()
    if hold is None:
        raise HoldClosed(f"request {request_id} was not charged")
    if not 0 < amount <= LARGEST:
        raise InvalidAmount(f"{format_usd(amount)} cannot be refunded.")
    with open_books(hold.wallet_id, now or timezone.now()) as opened:
        earlier = Correction.objects.filter(hold=hold, ticket=ticket).first()
        if earlier is not None:
            if earlier.amount != amount:
                raise TransferConflict(f"Ticket {ticket} has refunded another amount of this request.")
            return earlier
        correction = _split(hold, amount, opened.wallet.debt)
        correction.ticket, correction.reason, correction.created_by = ticket, reason[:200], by
        correction.created_at = opened.now
        _post_refund(opened, correction)
        correction.save(force_insert=True)
    log.info("request_refunded", request_id=request_id, nanos=amount, by=by.pk)
    return correction


def refundable(hold: Hold) -> int:
    """Nanos of the charge that no correction has given back."""
    return hold.captured - _given_back(hold)["amount"]


def _given_back(hold: Hold) -> dict[str, int]:
    parts = ("amount", "restored", "debt_cancelled", "credited")
    sums = Correction.objects.filter(hold=hold).aggregate(**{f"sum_{part}": Sum(part) for part in parts})
    return {part: int(sums[f"sum_{part}"] or 0) for part in parts}


def _split(hold: Hold, amount: int, debt: int) -> Correction:
    """The correction in its parts, by what the request's debt was and what earlier ones gave back."""
    given = _given_back(hold)
    left = hold.captured - given["amount"]
    if amount > left:
        raise CorrectionRefused(f"Of this request {format_usd(left)} can still be refunded.")
    overage = Transfer.objects.filter(idempotency_key=f"hold:{hold.pk}:overage").values_list("amount", flat=True)
    overage_left = sum(overage) - given["debt_cancelled"] - given["credited"]
    from_overage = min(amount, overage_left)
    debt_cancelled = min(from_overage, debt)
    return Correction(
        hold=hold,
        amount=amount,
        restored=amount - from_overage,
        debt_cancelled=debt_cancelled,
        credited=from_overage - debt_cancelled,
    )


def _post_refund(opened: OpenBooks, correction: Correction) -> None:
    books, wallet = opened.books, opened.wallet
    revenue = platform_account(books, AccountKind.REVENUE)
    postings = ledger.corrected(
        (correction.ticket, correction.hold_id),
        opened.accounts,
        revenue,
        restored=correction.restored,
        debt_cancelled=correction.debt_cancelled,
        credited=correction.credited,
        reason=correction.reason,
        by=correction.created_by_id,
    )
    group = postings[0].group
    credited = next((posting for posting in postings if posting.key == f"{group}:credit"), None)
    books.postings += [posting for posting in postings if posting is not credited]
    books.changed_wallets.add(wallet.organization_id)
    wallet.debt -= correction.debt_cancelled
    wallet.posted += correction.restored
    if correction.restored:
        _reopen(opened, correction, group)
    if credited is not None:
        bring_in(opened, credited, LotKind.ADJUSTMENT)
    elif wallet.debt:
        repay_debt(opened, group)


def _reopen(opened: OpenBooks, correction: Correction, key: str) -> None:
    """Put `restored` back into the lots of the request's capture, the last one first."""
    keys = [
        ledger.correction_key(ticket, correction.hold_id)
        for ticket in Correction.objects.filter(hold_id=correction.hold_id).values_list("ticket", flat=True)
    ]
    sums = LotReopening.objects.filter(transfer_id__in=keys).values_list("lot").annotate(total=Sum("amount")).order_by()
    reopened = dict(sums)
    capture = ledger.capture_key(correction.hold_id)
    left, reopenings = correction.restored, []
    for lot_id, used in LotConsumption.objects.filter(transfer_id=capture).order_by("-id").values_list("lot", "amount"):
        part = min(left, used - reopened.get(lot_id, 0))
        if part > 0:
            reopenings.append(LotReopening(transfer_id=key, lot_id=lot_id, amount=part))
            CreditLot.objects.filter(pk=lot_id).update(remaining=F("remaining") + part)
            left -= part
    if left:
        raise LedgerDrift(f"the capture of {correction.hold_id} used fewer credits than are to be restored")
    LotReopening.objects.bulk_create(reopenings)
    lots = CreditLot.objects.filter(pk__in=[reopening.lot_id for reopening in reopenings])
    lots_changed(opened, lots.values_list("expires_at", flat=True))


# Adjustments: one proposes, another decides


def give(
    organization_id: int,
    amount: int,
    *,
    reason: str,
    key: str,
    by: User,
    kind: LotKind = LotKind.ADJUSTMENT,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Transfer | Adjustment:
    """Grant `amount` nanos on one operator's word, up to GRANT_LIMIT_NANOS an organisation in a day from each
    operator. More is proposed instead, and given when somebody else approves it; credits that expire are refused
    then, since an adjustment cannot say so. The same `key` again does nothing more.

    Raises CorrectionRefused, InvalidAmount, TransferConflict."""
    now = now or timezone.now()
    ensure_wallet(organization_id)
    with transaction.atomic():
        wallet = Wallet.objects.select_for_update().get(pk=organization_id)  # so that two forms at once both count
        if amount <= _may_grant(wallet, key, by, now):
            return grant(
                organization_id, amount, reason=reason, idempotency_key=f"{BY_HAND}{key}", by=by, kind=kind,
                expires_at=expires_at, now=now,
            )  # fmt: skip
        if kind == LotKind.PROMO or expires_at is not None:
            raise CorrectionRefused(
                f"Above {format_usd(settings.GRANT_LIMIT_NANOS)} a day (CCM_GRANT_LIMIT_USD) somebody else has to "
                "approve what is given, and that cannot be a promotion or expire: leave both out."
            )
        return propose(organization_id, AdjustmentKind.CREDIT, amount, reason=reason, key=key, by=by)


def _may_grant(wallet: Wallet, key: str, by: User, now: datetime) -> int:
    """Nanos that `by` may still grant alone today; for a form that was sent before, what lets it do the same again."""
    if Adjustment.objects.filter(key=key).exists():
        return 0
    mine = Transfer.objects.filter(
        credit__kind=AccountKind.WALLET, credit__organization_id=wallet.pk, code__in=GRANTED, created_by=by,
        idempotency_key__startswith=f"grant:{BY_HAND}",
    )  # fmt: skip
    if mine.filter(idempotency_key=f"grant:{BY_HAND}{key}").exists():
        return LARGEST
    given = mine.filter(created_at__gt=now - timedelta(days=1)).aggregate(total=Sum("amount"))["total"]
    limit: int = settings.GRANT_LIMIT_NANOS
    return limit - (given or 0)


def propose(
    organization_id: int, kind: AdjustmentKind, amount: int, *, reason: str, key: str, by: User, ticket: str = ""
) -> Adjustment:
    """Ask for an adjustment of `amount` nanos; nothing is posted before somebody else approves it.
    The same `key` again proposes nothing more. Raises InvalidAmount, TransferConflict."""
    if not 0 < amount <= LARGEST:
        raise InvalidAmount(f"{format_usd(amount)} cannot be posted.")
    ensure_wallet(organization_id)
    asked = {"organization_id": organization_id, "kind": kind, "amount": amount, "proposed_by": by}
    adjustment, new = Adjustment.objects.get_or_create(
        key=key, defaults={**asked, "reason": reason[:200], "ticket": ticket[:60]}
    )
    if not new and any(getattr(adjustment, name) != value for name, value in asked.items()):
        raise TransferConflict("This form has proposed another adjustment.")
    return adjustment


def approve(adjustment_id: int, *, by: User, decision: str = "", now: datetime | None = None) -> Adjustment:
    """Post a proposed adjustment. What takes credits takes at most what is free, a write-off at most
    what is owed; more is refused. Raises SamePerson, CorrectionRefused, InvalidAmount."""
    adjustment = Adjustment.objects.get(pk=adjustment_id)
    with open_books(adjustment.organization_id, now or timezone.now()) as opened:
        decide(adjustment_id, AdjustmentState.APPROVED, by=by, decision=decision, now=opened.now)
        _post_adjustment(opened, adjustment, by)
    log.info("adjustment_approved", adjustment=adjustment_id, by=by.pk)
    return Adjustment.objects.get(pk=adjustment_id)


def reject(adjustment_id: int, *, by: User, decision: str = "", now: datetime | None = None) -> Adjustment:
    """Decide that a proposed adjustment is not made. Raises SamePerson, CorrectionRefused."""
    decide(adjustment_id, AdjustmentState.REJECTED, by=by, decision=decision, now=now or timezone.now())
    log.info("adjustment_rejected", adjustment=adjustment_id, by=by.pk)
    return Adjustment.objects.get(pk=adjustment_id)


def decide(adjustment_id: int, state: AdjustmentState, *, by: User, decision: str, now: datetime) -> None:
    if Adjustment.objects.filter(pk=adjustment_id, proposed_by=by).exists():
        raise SamePerson("Somebody else must decide what you have proposed.")
    changed = Adjustment.objects.filter(pk=adjustment_id, state=AdjustmentState.PROPOSED).update(
        state=state, decided_by=by, decided_at=now, decision=decision[:200]
    )
    if not changed:
        raise CorrectionRefused("This adjustment has been decided already.")


def _post_adjustment(opened: OpenBooks, adjustment: Adjustment, by: User) -> None:
    wallet, accounts, amount = opened.wallet, opened.accounts, adjustment.amount
    ours = platform_account(opened.books, AccountKind.ADJUSTMENT)
    if adjustment.kind == AdjustmentKind.CREDIT:
        bring_in(opened, _adjusting(adjustment, ours, accounts.wallet, by), LotKind.ADJUSTMENT)
    elif adjustment.kind == AdjustmentKind.DEBIT:
        if wallet.expiry_due:
            expire_due(opened.books, wallet)
        if amount > wallet.free:
            raise CorrectionRefused(f"Only {format_usd(wallet.free)} is free in this wallet.")
        take_out(opened, _adjusting(adjustment, accounts.wallet, ours, by))
    else:
        if amount > wallet.debt:
            raise CorrectionRefused(f"Only {format_usd(wallet.debt)} is owed.")
        opened.books.postings.append(_adjusting(adjustment, ours, accounts.receivable, by))
        opened.books.changed_wallets.add(wallet.organization_id)
        wallet.debt -= amount


def _adjusting(adjustment: Adjustment, debit: int, credit: int, by: User) -> Posting:
    code = TransferCode.WRITE_OFF if adjustment.kind == AdjustmentKind.WRITE_OFF else TransferCode.ADJUST
    return ledger.adjusted(
        adjustment.pk, debit, credit, adjustment.amount, code=code, reason=adjustment.reason, by=by.pk
    )


# Holds that cannot be settled


def write_off_hold(request_id: str, *, reason: str, by: User, now: datetime | None = None) -> HoldWriteOff:
    """Give up a hold that needs settlement: the customer gets it back and pays nothing for the request,
    whose usage record tells what it used and cost as far as that is known. Raises HoldClosed when the
    hold does not need settlement."""
    organization_id = Hold.objects.filter(pk=request_id).values_list("wallet", flat=True).first()
    if organization_id is None:
        raise HoldClosed(f"there is no hold {request_id}")
    with open_books(organization_id, now or timezone.now()) as opened:
        books, wallet = opened.books, opened.wallet
        books.read_holds([request_id])
        hold = books.holds[request_id]
        if hold.state != HoldState.NEEDS_SETTLEMENT:
            raise HoldClosed(f"hold {request_id} does not need settlement")
        books.usage.append(_usage_without_charge(books, hold))
        wallet.held -= hold.amount
        repay_at_the_end_of(books, hold, wallet)
        books.read_budgets([hold.api_key_id])
        charge_budget(books, hold, 0)
        books.close_hold(hold, HoldState.WRITTEN_OFF.value, 0)
        written_off = HoldWriteOff.objects.create(
            hold_id=request_id, amount=hold.amount, reason=reason[:200], created_by=by, created_at=opened.now
        )
    log.info("hold_written_off", request_id=request_id, nanos=hold.amount, by=by.pk)
    return written_off


def _usage_without_charge(books: Books, hold: HoldRow) -> tuple[Any, ...]:
    """Whatever cannot be read or stored is left out: it may be why nobody could settle the hold."""
    try:
        context, checkpoint = books.context_and_checkpoint(hold.id)
    except (ValueError, msgspec.MsgspecError):
        context, checkpoint = {}, None
    reading, cost = MeterReading(source=UsageSource.NONE), 0
    facts = records.facts_of_context(context, status=500, error_code=WRITTEN_OFF)
    if checkpoint is not None:
        if checkpoint.facts is not None:
            facts = replace(checkpoint.facts, status=500, error_code=WRITTEN_OFF)
        sane = rating.sane(checkpoint.reading)
        sane_cost = rating.charge(sane, checkpoint.cost_price) if checkpoint.cost_price else 0
        if sane_cost <= LARGEST:
            reading, cost = sane, sane_cost
    about = (hold.id, hold.organization_id, hold.api_key_id, hold.model, hold.price_id)
    return records.usage_values(about, facts, reading, charge=0, cost=cost, stored_now=books.stamp)
