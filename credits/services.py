"""The verbs of the credits app beside the writer's: accounts, grants, and the sweepers. Promo codes and
corrections have modules of their own.

Whatever moves money goes through `ledger.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Organization, User
from accounts.services import ensure_personal_organization, get_or_create_organization, get_or_create_user
from credits import journal, ledger
from credits.batch import BatchRunner, ExpireOp, InterruptOp, Operation
from credits.database import Dialect
from credits.entries import DEFAULT_PRIORITY, bring_in, open_books
from credits.errors import CreditsError, HoldClosed, InvalidAmount, TransferConflict
from credits.expiry import expire_due, platform_account
from credits.models import TENANT_KINDS, Hold, HoldState, LedgerAccount, LotKind, Transfer, Wallet
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
    priority: int = DEFAULT_PRIORITY,
    now: datetime | None = None,
) -> Transfer:
    """Give `amount` nanos to the organisation as a lot of their own; debt is repaid from it first.
    A promotion that names no `expires_at` expires as the settings say (PROMO_EXPIRY_DAYS).

    The same key again gives nothing more, and answers with the transfer of the first time. Raises
    InvalidAmount, and TransferConflict when the key was used for another amount or organisation."""
    now = now or timezone.now()
    if not 0 < amount <= LARGEST or kind == LotKind.PAID:
        raise InvalidAmount(f"{format_usd(amount)} cannot be granted.")
    if expires_at is None and kind == LotKind.PROMO:
        expires_at = promo_expiry(now)
    ensure_wallet(organization_id)
    with open_books(organization_id, now) as opened:
        source = platform_account(opened.books, ledger.grant_source(kind))
        posting = ledger.granted(
            idempotency_key,
            kind,
            source,
            opened.accounts,
            amount,
            reason=reason[:200],
            created_by=by.pk if by else None,
        )
        earlier = Transfer.objects.filter(idempotency_key=posting.key).first()
        if earlier is not None:
            if (earlier.amount, earlier.credit_id) != (amount, opened.accounts.wallet):
                raise TransferConflict(f"The key {idempotency_key!r} was used for another grant.")
            return earlier
        if expires_at is not None and expires_at <= now:
            raise InvalidAmount("Credits cannot be granted that have expired already.")
        bring_in(opened, posting, kind, expires_at=expires_at, priority=priority)
    log.info("credits_granted", organization=organization_id, nanos=amount, by=by.pk if by else None)
    return Transfer.objects.get(idempotency_key=posting.key)


def promo_expiry(now: datetime) -> datetime | None:
    """When promotional credits given now expire, unless somebody says otherwise; None: never."""
    days: int = settings.PROMO_EXPIRY_DAYS
    return now + timedelta(days=days) if days else None


def expire_lots(now: datetime | None = None) -> int:
    """Take what has expired out of the wallets, except what unfinished holds need; how many nanos.
    May run twice or beside itself."""
    now = now or timezone.now()
    due = Wallet.objects.filter(next_expiry__lte=now).order_by("next_expiry").values_list("pk", flat=True)
    expired = 0
    for organization_id in list(due[:SWEEP_LIMIT]):
        try:
            with open_books(organization_id, now) as opened:
                taken = expire_due(opened.books, opened.wallet)
        except (CreditsError, DatabaseError):
            log.exception("lots_not_expired", organization=organization_id)
            continue
        expired += taken
        if taken:
            log.info("credits_expired", organization=organization_id, nanos=taken)
    return expired


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

    What a killed process of this machine had in its journal is settled at once. Else, when the lease has run out:
    an `open` hold expires, and a `dispatched` one becomes `needs_settlement`; if another lease long nobody has
    renewed it, it is settled from its checkpoint (without one it costs nothing). The second lease is for
    processes of other machines: after an outage of the database they get to renew theirs before they are taken
    for dead. What stands in a journal of this machine is in somebody's hands and left alone."""
    now = now or timezone.now()
    settled = _settle_journals(now)
    mark_overdue(now, journal.standing(settings.JOURNAL_DIR))
    lapsed, overdue = _left(now)
    # Read after the holds: a request enters its journal before its hold exists, and leaves it when that has ended.
    journaled = journal.standing(settings.JOURNAL_DIR)
    needing = [id_ for id_ in lapsed if id_ not in journaled][:SWEEP_LIMIT]
    settled += _end_all(now, [InterruptOp(id_, lapsed=True) for id_ in needing])[0]
    expired, _ = _end_all(now, [ExpireOp(id_) for id_ in overdue if id_ not in journaled][:SWEEP_LIMIT])
    if settled or expired:
        log.info("holds_swept", settled=settled, expired=expired)
    return Sweep(settled, expired)


def _left(now: datetime) -> tuple[list[str], list[str]]:
    """The holds that have needed settlement for a lease long without a renewal, and the open ones that are overdue."""
    lapsed = Hold.objects.filter(lease_until__lt=now)
    waited = now - timedelta(seconds=settings.HOLD_LEASE_SECONDS)
    needing = lapsed.filter(state=HoldState.NEEDS_SETTLEMENT, updated_at__lte=waited).order_by("updated_at", "pk")
    overdue = lapsed.filter(state=HoldState.OPEN).order_by("lease_until", "pk")
    return list(needing.values_list("pk", flat=True)), list(overdue.values_list("pk", flat=True))


def mark_overdue(now: datetime, journaled: Iterable[str] = ()) -> int:
    """Turn dispatched holds with a lapsed lease into `needs_settlement`, but for those that stand in a
    journal; how many."""
    dialect = Dialect(connection)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE credits_hold SET state = 'needs_settlement', updated_at = %s WHERE state = 'dispatched' AND id IN "
            "(SELECT id FROM credits_hold WHERE state = 'dispatched' AND lease_until < %s "
            f"AND NOT ({dialect.any_of('id')}) ORDER BY lease_until LIMIT {SWEEP_LIMIT}{dialect.skip_locked})",
            (dialect.time(now), dialect.time(now), dialect.values(sorted(journaled))),
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
