"""Auto top-up: credits are bought when few are left, without anybody there.

Decided by Celery, never by a request. One at a time (unique key), and never two for one crossing: whether it is due
is asked under the wallet's lock, in the transaction that makes the top-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from accounts import audit
from accounts.models import User
from credits.errors import InvalidAmount
from credits.models import Wallet
from credits.money import format_usd
from credits.payments import client
from credits.payments.accounts import billing_account
from credits.payments.amounts import NANOS_PER_CENT, check_amount, fee_of
from credits.payments.models import IN_FLIGHT, AutoTopUp, TopUp, TopUpKind, TopUpState
from credits.services import ensure_wallet

log = structlog.get_logger("ccm.payments")

MOST_A_DAY = 10
BURST, BURST_TIME = 3, timedelta(minutes=10)
"""So many in so short a time are worth an operator's look."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an organisation wants: nanos (models.AutoTopUp)."""

    threshold: int
    amount: int
    monthly_cap: int


def order(organization_id: int, wanted: Order, *, by: User) -> AutoTopUp:
    """Switch auto top-up on, or change it. Raises InvalidAmount with a sentence for the customer."""
    check_amount(wanted.amount, settings.TOP_UP_TERMS)
    if wanted.threshold < 0 or wanted.threshold % NANOS_PER_CENT:
        raise InvalidAmount("Enter a threshold in dollars and whole cents, such as 10.")
    least = wanted.amount + fee_of(wanted.amount, settings.TOP_UP_TERMS)
    if wanted.monthly_cap < least:
        raise InvalidAmount(f"The most a month must be at least one top-up with its fee: {format_usd(least)}.")
    account = billing_account(organization_id)
    if account.blocked:
        raise InvalidAmount("Your organisation cannot buy credits. Please write to support.")
    if not account.payment_method:
        raise InvalidAmount("There is no card to charge yet. Buy credits once, or add a card, and come back.")
    ensure_wallet(organization_id)
    with transaction.atomic():
        made, _ = AutoTopUp.objects.update_or_create(
            pk=organization_id,
            defaults={
                "enabled": True, "threshold": wanted.threshold, "amount": wanted.amount,
                "monthly_cap": wanted.monthly_cap, "failures": 0, "paused_until": None, "updated_by": by,
                "updated_at": timezone.now(),
            },
        )  # fmt: skip
        audit.record(
            organization_id, by, "switched on auto top-up", format_usd(wanted.amount),
            f"below {format_usd(wanted.threshold)}, at most {format_usd(wanted.monthly_cap)} a month",
        )  # fmt: skip
    return made


def switch_off(organization_id: int, *, by: User) -> None:
    with transaction.atomic():
        if AutoTopUp.objects.filter(pk=organization_id, enabled=True).update(
            enabled=False, updated_by=by, updated_at=timezone.now()
        ):
            audit.record(organization_id, by, "switched off auto top-up")


def due(now: datetime | None = None) -> Sequence[int]:
    """The organisations whose auto top-up may be due: a first, cheap look; `begin` decides."""
    now = now or timezone.now()
    low = Q(organization__wallet__posted__lt=F("threshold") + F("organization__wallet__held"))
    rested = Q(paused_until=None) | Q(paused_until__lte=now)
    orders = AutoTopUp.objects.filter(
        low, rested, enabled=True, organization__wallet__frozen=False, organization__wallet__debt=0,
        organization__billing__blocked=False,
    )  # fmt: skip
    return list(orders.values_list("pk", flat=True)[:500])


def begin(organization_id: int, now: datetime | None = None) -> TopUp | None:
    """A new auto top-up if one is due now, committed; None if not. Whoever calls this advances it then."""
    now = now or timezone.now()
    try:
        with transaction.atomic():
            wallet = Wallet.objects.select_for_update().get(pk=organization_id)
            wanted = AutoTopUp.objects.get(pk=organization_id)
            if not client.is_on() or not _is_due(wallet, wanted, now):
                return None
            made = TopUp.objects.create(
                organization_id=organization_id,
                kind=TopUpKind.AUTO,
                amount=wanted.amount,
                fee=fee_of(wanted.amount, settings.TOP_UP_TERMS),
                key=f"auto:{organization_id}:{now.timestamp():.6f}",
                created_at=now,
                updated_at=now,
            )
    except IntegrityError:  # another worker's is in flight
        return None
    log.info("auto_top_up_begun", top_up=made.pk, organization=organization_id, nanos=made.amount)
    _watch(organization_id, now)
    return made


def _is_due(wallet: Wallet, wanted: AutoTopUp, now: datetime) -> bool:
    account = billing_account(wallet.pk)
    may = wanted.enabled and account.payment_method and not account.blocked and not wallet.frozen and not wallet.debt
    if not may or wallet.available >= wanted.threshold:
        return False
    if wanted.paused_until is not None and wanted.paused_until > now:
        return False
    mine = TopUp.objects.filter(organization_id=wallet.pk, kind=TopUpKind.AUTO)
    if mine.filter(state__in=IN_FLIGHT).exists():
        return False
    if mine.filter(created_at__gt=now - timedelta(days=1)).exclude(state=TopUpState.CANCELED).count() >= MOST_A_DAY:
        log.warning("auto_top_up_capped", organization=wallet.pk, cap="day")
        return False
    price = wanted.amount + fee_of(wanted.amount, settings.TOP_UP_TERMS)
    if bought_this_month(wallet.pk, now) + price > wanted.monthly_cap:
        log.info("auto_top_up_capped", organization=wallet.pk, cap="month")
        return False
    return True


def bought_this_month(organization_id: int, now: datetime) -> int:
    """Nanos that auto top-ups have cost this calendar month (UTC), fees and taxes included."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    mine = TopUp.objects.filter(
        organization_id=organization_id, kind=TopUpKind.AUTO, created_at__gte=first,
        state__in=(*IN_FLIGHT, TopUpState.SUCCEEDED),
    )  # fmt: skip
    return int(mine.aggregate(total=Sum(F("amount") + F("fee") + F("tax")))["total"] or 0)


def _watch(organization_id: int, now: datetime) -> None:
    recent = TopUp.objects.filter(
        organization_id=organization_id, kind=TopUpKind.AUTO, created_at__gt=now - BURST_TIME
    ).count()
    if recent >= BURST:
        log.error("auto_top_up_burst", organization=organization_id, count=recent)
