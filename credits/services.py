"""The verbs of the credits app beside the writer's: accounts, grants, and the sweeper.

Whatever moves money goes through `ledger.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Organization, User
from accounts.services import ensure_personal_organization, get_or_create_organization, get_or_create_user
from credits import journal, ledger
from credits.batch import BatchRunner, ExpireOp, InterruptOp, Operation
from credits.database import Dialect
from credits.errors import CreditsError, HoldClosed, InvalidAmount, TransferConflict
from credits.ledger import Lot, TenantAccounts
from credits.models import (
    TENANT_KINDS,
    AccountKind,
    CreditLot,
    Hold,
    HoldState,
    LedgerAccount,
    LotKind,
    Transfer,
    Wallet,
)
from credits.money import LARGEST, format_usd

log = structlog.get_logger("ccm.credits")

SWEEP_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Account:
    """A customer: a user and the organisation that pays for them."""

    user: User
    organization: Organization
    created: bool


@transaction.atomic
def open_account(*, email: str, password: str | None = None, organization_name: str = "") -> Account:
    """The user with this e-mail address, made if new, and their organisation with its wallet: the
    personal one, or the one named (made if new, with the user as its owner). `created` says
    whether the user is new. Raises InvalidAccountData."""
    user, created = get_or_create_user(email=email, password=password)
    personal = ensure_personal_organization(user=user)
    ensure_wallet(personal.pk)
    if not organization_name:
        return Account(user, personal, created)
    organization = get_or_create_organization(name=organization_name, owner=user)
    ensure_wallet(organization.pk)
    return Account(user, organization, created)


@transaction.atomic
def ensure_wallet(organization_id: int) -> Wallet:
    """The organisation's wallet, made with its ledger accounts if there is none."""
    wallet, created = Wallet.objects.get_or_create(organization_id=organization_id)
    if created:
        LedgerAccount.objects.bulk_create(
            [LedgerAccount(kind=kind, organization_id=organization_id) for kind in TENANT_KINDS]
        )
    return wallet


@transaction.atomic
def grant(
    organization_id: int,
    amount: int,
    *,
    reason: str,
    idempotency_key: str,
    by: User | None = None,
    kind: LotKind = LotKind.ADJUSTMENT,
    expires_at: datetime | None = None,
) -> Transfer:
    """Give `amount` nanos to the organisation as a lot of their own; debt is repaid from it first.

    The same key again gives nothing more, and answers with the transfer of the first time. Raises
    InvalidAmount, and TransferConflict when the key was used for another amount or organisation."""
    if not 0 < amount <= LARGEST or kind == LotKind.PAID:
        raise InvalidAmount(f"{format_usd(amount)} cannot be granted.")
    ensure_wallet(organization_id)
    wallet = Wallet.objects.select_for_update().get(pk=organization_id)
    if wallet.posted + amount > LARGEST:
        raise InvalidAmount(f"With {format_usd(amount)} more the wallet would hold too much.")
    accounts = _accounts(organization_id)
    source = LedgerAccount.objects.get(kind=ledger.grant_source(kind), organization=None)
    posting = ledger.granted(
        idempotency_key, kind, source.pk, accounts, amount, reason=reason[:200], created_by=by.pk if by else None
    )
    earlier = Transfer.objects.filter(idempotency_key=posting.key).first()
    if earlier is not None:
        if (earlier.amount, earlier.credit_id) != (amount, accounts.wallet):
            raise TransferConflict(f"The key {idempotency_key!r} was used for another grant.")
        return earlier
    _add_lot(wallet, posting, kind, expires_at)
    _repay_debt(wallet, posting.group, accounts)
    wallet.save(update_fields=["posted", "debt", "next_expiry"])
    log.info("credits_granted", organization=organization_id, nanos=amount, by=by.pk if by else None)
    return Transfer.objects.get(idempotency_key=posting.key)


def _accounts(organization_id: int) -> TenantAccounts:
    ids = dict(LedgerAccount.objects.filter(organization_id=organization_id).values_list("kind", "pk"))
    return TenantAccounts(ids[AccountKind.WALLET], ids[AccountKind.RECEIVABLE])


def _add_lot(wallet: Wallet, posting: ledger.Posting, kind: LotKind, expires_at: datetime | None) -> None:
    now = timezone.now()
    dialect = Dialect(connection)
    with dialect.cursor() as cursor:
        ledger.post(cursor, [posting], dialect.time(now))
    CreditLot.objects.create(
        wallet=wallet,
        kind=kind,
        amount=posting.amount,
        remaining=posting.amount,
        expires_at=expires_at,
        source_id=posting.key,
        created_at=now,
    )
    wallet.posted += posting.amount
    if expires_at is not None and (wallet.next_expiry is None or expires_at < wallet.next_expiry):
        wallet.next_expiry = expires_at


def _repay_debt(wallet: Wallet, group: str, accounts: TenantAccounts) -> None:
    amount = min(wallet.debt, wallet.posted - wallet.held)
    if amount <= 0:
        return
    posting = ledger.repay(group, accounts, amount)
    lots = [Lot(lot.pk, lot.remaining) for lot in open_lots(wallet)]
    consumptions = ledger.consume(lots, posting.key, amount)
    dialect = Dialect(connection)
    with dialect.cursor() as cursor:
        ledger.post(cursor, [posting], dialect.time(timezone.now()))
        ledger.record_consumption(cursor, consumptions)
    for lot in lots:
        CreditLot.objects.filter(pk=lot.id).update(remaining=lot.remaining)
    wallet.posted -= amount
    wallet.debt -= amount


def open_lots(wallet: Wallet) -> list[CreditLot]:
    """In the order in which they are used up (the writer's own SQL for it: `Books.read_lots`)."""
    lots = CreditLot.objects.filter(wallet=wallet, remaining__gt=0)
    return sorted(
        lots,
        key=lambda lot: (
            lot.priority,
            lot.expires_at is None,
            lot.expires_at.timestamp() if lot.expires_at else 0,
            lot.kind != LotKind.PROMO,
            lot.pk,
        ),
    )


def dispatch(request_id: str) -> None:
    """Mark an open hold as sent to a provider: from now on it is settled, never expired.

    Raises HoldClosed when it is not open."""
    changed = Hold.objects.filter(pk=request_id, state=HoldState.OPEN).update(
        state=HoldState.DISPATCHED, updated_at=timezone.now()
    )
    if not changed:
        raise HoldClosed(f"hold {request_id} is not open")


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many holds a sweep ended."""

    settled: int
    expired: int


def sweep(now: datetime | None = None) -> Sweep:
    """End the holds that their processes left behind; may run beside itself and late settlements.

    What a killed process of this machine had in its journal is settled at once. Else, when the
    lease has run out: an `open` hold expires, a `dispatched` one becomes `needs_settlement` and
    is settled from its checkpoint (without one it costs nothing)."""
    now = now or timezone.now()
    settled = _settle_journals(now)
    mark_overdue(now)
    waiting = Hold.objects.filter(state=HoldState.NEEDS_SETTLEMENT).order_by("updated_at")
    settled += _end_all(now, map(InterruptOp, list(waiting.values_list("pk", flat=True)[:SWEEP_LIMIT])))[0]
    overdue = Hold.objects.filter(state=HoldState.OPEN, lease_until__lt=now).order_by("lease_until")
    expired, _ = _end_all(now, map(ExpireOp, list(overdue.values_list("pk", flat=True)[:SWEEP_LIMIT])))
    if settled or expired:
        log.info("holds_swept", settled=settled, expired=expired)
    return Sweep(settled, expired)


def mark_overdue(now: datetime) -> int:
    """Turn dispatched holds with a lapsed lease into `needs_settlement`; how many."""
    dialect = Dialect(connection)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE credits_hold SET state = 'needs_settlement', updated_at = %s WHERE state = 'dispatched' AND id IN "
            "(SELECT id FROM credits_hold WHERE state = 'dispatched' AND lease_until < %s "
            f"ORDER BY lease_until LIMIT {SWEEP_LIMIT}{dialect.skip_locked})",
            (dialect.time(now), dialect.time(now)),
        )
        marked: int = cursor.rowcount
        return marked


def _settle_journals(now: datetime) -> int:
    """A journal whose readings could not all be settled is kept for the next sweep."""
    try:
        with journal.recover(settings.JOURNAL_DIR) as readings:
            ended, errors = _end_all(now, [InterruptOp(id_, reading) for id_, reading in readings.items()])
            if errors:
                raise errors[0]
            return ended
    except (CreditsError, DatabaseError) as error:
        log.error("journal_kept", error=type(error).__name__)
        return 0


def _end_all(now: datetime, operations: Iterable[Operation]) -> tuple[int, list[Exception]]:
    """How many were ended, and what stood in the way of others. Each in a transaction of its own,
    so that one that cannot be ended does not stop the rest."""
    runner = BatchRunner(connection, owner="sweeper", lease_seconds=0, clock=lambda: now)
    ended = 0
    errors: list[Exception] = []
    for operation in operations:
        try:
            outcome = runner.run([operation])[0]
            if isinstance(outcome, CreditsError):
                raise outcome
            ended += outcome is True
        except (CreditsError, DatabaseError) as error:
            log.exception("hold_not_swept", request_id=operation.request_id)
            errors.append(error)
    return ended, errors
