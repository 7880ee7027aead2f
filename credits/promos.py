"""Promo codes: made by operators, redeemed by customers."""

import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import User
from credits import ledger
from credits.correction_models import PromoCode, PromoRedemption
from credits.entries import DEFAULT_PRIORITY, bring_in, open_books
from credits.errors import InvalidAmount, PromoCodeRefused, WalletFrozen
from credits.expiry import platform_account
from credits.models import AccountKind, LotKind
from credits.money import LARGEST, format_usd
from credits.services import ensure_wallet
from credits.types import Nanos

log = structlog.get_logger("ccm.credits")

SHAPE = re.compile(r"[A-Z0-9]{4,40}")
ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
"""Without letters and digits that are mistaken for one another."""
RANDOM_LENGTH = 16
"""Of 31 letters: 79 bits, which nobody guesses."""
MOST_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a code gave, in nanos, and when that expires. `repaid` of it went to what was owed."""

    amount: Nanos
    repaid: Nanos
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a promo code gives and to whom (models.PromoCode). `amount` is in nanos."""

    amount: int
    expires_in_days: int | None
    max_redemptions: int | None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    note: str = ""


def normalised(code: str) -> str:
    """`code` as it is stored, whatever its case, spaces and hyphens; "" for what can be no code."""
    letters = re.sub(r"[\s\u2010-\u2015_-]", "", unicodedata.normalize("NFKC", code)).upper()
    return letters if SHAPE.fullmatch(letters) else ""


def grouped(code: str) -> str:
    """A generated code as it is handed out: in groups of four."""
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def create_code(code: str, terms: Terms, *, by: User | None = None) -> PromoCode:
    """A code of the operator's own words. Raises PromoCodeRefused (no code, taken, or never valid) and
    InvalidAmount."""
    stored = normalised(code)
    if not stored:
        raise PromoCodeRefused("invalid_promo_code", "A code has 4 to 40 letters and digits.")
    try:
        with transaction.atomic():
            return PromoCode.objects.create(code=stored, **_columns(terms, by))
    except IntegrityError:
        if not PromoCode.objects.filter(code=stored).exists():
            raise
        raise PromoCodeRefused("promo_code_taken", "There is such a code already.") from None


@transaction.atomic
def generate_codes(count: int, terms: Terms, *, by: User | None = None) -> Sequence[PromoCode]:
    """`count` random codes. Raises InvalidAmount and PromoCodeRefused (never valid)."""
    if not 0 < count <= MOST_AT_ONCE:
        raise InvalidAmount(f"Between 1 and {MOST_AT_ONCE:,} codes are made at once.")
    columns = _columns(terms, by)
    codes: set[str] = set()
    while len(codes) < count:
        codes.add("".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH)))
    return PromoCode.objects.bulk_create(
        [PromoCode(code=code, generated=True, **columns) for code in sorted(codes)], batch_size=500
    )


def _columns(terms: Terms, by: User | None) -> dict[str, object]:
    if not 0 < terms.amount <= LARGEST:
        raise InvalidAmount(f"{format_usd(terms.amount)} cannot be given.")
    valid_from = terms.valid_from or timezone.now()
    if terms.valid_until is not None and terms.valid_until <= valid_from:
        raise PromoCodeRefused("invalid_promo_code", "A code must end after it begins.")
    return {
        "amount": terms.amount,
        "expires_in_days": terms.expires_in_days,
        "max_redemptions": terms.max_redemptions,
        "valid_from": valid_from,
        "valid_until": terms.valid_until,
        "priority": terms.priority,
        "note": terms.note[:120],
        "created_by": by,
    }


def redeem(organization_id: int, code: str, *, by: User, now: datetime | None = None) -> Redemption:
    """Give the organisation what `code` gives, once; what it owes is repaid from that first.

    Raises PromoCodeRefused, WalletFrozen, InvalidAmount. Whoever calls this for a person counts
    refusals and stops those who guess."""
    now = now or timezone.now()
    try:
        redemption = _redeem(organization_id, normalised(code), by, now)
    except (PromoCodeRefused, WalletFrozen) as refusal:
        log.info("promo_refused", organization=organization_id, by=by.pk, why=refusal.code)
        raise
    log.info("promo_redeemed", organization=organization_id, by=by.pk, nanos=redemption.amount)
    return redemption


@transaction.atomic
def _redeem(organization_id: int, code: str, by: User, now: datetime) -> Redemption:
    ensure_wallet(organization_id)
    with open_books(organization_id, now) as opened:
        promo = PromoCode.objects.filter(code=code).first() if code else None
        if promo is None or not promo.enabled:
            raise PromoCodeRefused("unknown_promo_code", "This code is not known. Check it for typing errors.")
        if promo.redemptions.filter(organization_id=organization_id).exists():
            raise PromoCodeRefused("promo_code_redeemed", "Your organisation has redeemed this code already.")
        if now < promo.valid_from:
            raise PromoCodeRefused("promo_code_not_yet", "This code is not valid yet.")
        if promo.valid_until is not None and now >= promo.valid_until:
            raise PromoCodeRefused("promo_code_expired", "This code has expired.")
        if opened.wallet.frozen:
            raise WalletFrozen("Your organisation’s credits are frozen. Please write to support.")
        if not take_one(promo):
            raise PromoCodeRefused("promo_code_used_up", "This code has been used up.")
        source = platform_account(opened.books, AccountKind.PROMO_EXPENSE)
        reason = f"Promo code {promo.shown}"
        posting = ledger.redeemed(
            promo.pk, organization_id, source, opened.accounts, promo.amount, reason=reason, by=by.pk
        )
        expires_at = now + timedelta(days=promo.expires_in_days) if promo.expires_in_days else None
        owed = opened.wallet.debt
        bring_in(opened, posting, LotKind.PROMO, expires_at=expires_at, priority=promo.priority)
        PromoRedemption.objects.create(
            promo_code=promo,
            organization_id=organization_id,
            transfer_id=posting.key,
            redeemed_by=by,
            created_at=now,
        )
        return Redemption(Nanos(promo.amount), Nanos(owed - opened.wallet.debt), expires_at)


def take_one(promo: PromoCode) -> bool:
    """Count one redemption, unless the code was used up or disabled meanwhile."""
    left = Q(max_redemptions=None) | Q(redeemed__lt=F("max_redemptions"))
    return PromoCode.objects.filter(left, pk=promo.pk, enabled=True).update(redeemed=F("redeemed") + 1) == 1
