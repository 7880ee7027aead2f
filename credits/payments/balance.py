"""Our balance at Stripe, line by line: what Stripe keeps of each payment is posted, and the rest is what check R6
compares the ledger with."""

from datetime import datetime, timedelta

import structlog
from django.db import connection, transaction
from django.utils import timezone

from credits import ledger
from credits.database import Dialect
from credits.errors import LedgerDrift
from credits.ledger import Clearing
from credits.models import AccountKind, LedgerAccount
from credits.payments.client import is_on, stripe_api
from credits.payments.models import BalanceTransaction, StripeProgress
from credits.payments.types import SeenTransaction

log = structlog.get_logger("ccm.payments")

NAME = "balance"
OVERLAP = timedelta(hours=2)
LOOK_BACK = timedelta(days=30)
OURS_ALONE = ("payout", "payout_cancel", "payout_failure", "transfer", "topup", "stripe_fee", "tax_fee")
"""Movements between our balance and our bank, and Stripe's own bills: they concern no customer and no transfer."""


def read(now: datetime | None = None) -> int:
    """Store the lines since the last reading, and post the fees; how many were new. Raises PaymentsUnavailable."""
    if not is_on():
        return 0
    now = now or timezone.now()
    progress = StripeProgress.objects.filter(pk=NAME).first()
    since = progress.read_to - OVERLAP if progress else now - LOOK_BACK
    found = list(stripe_api().balance_transactions(since))
    known = set(BalanceTransaction.objects.filter(pk__in=[seen.id for seen in found]).values_list("pk", flat=True))
    new = [seen for seen in reversed(found) if seen.id not in known]
    for seen in new:
        _store(seen, now)
    StripeProgress.objects.update_or_create(pk=NAME, defaults={"read_to": now, "read_at": now})
    return len(new)


@transaction.atomic
def _store(seen: SeenTransaction, now: datetime) -> None:
    """With its fee, if it has one and is a customer's. Two workers at once: the second finds nothing to do."""
    _, new = BalanceTransaction.objects.get_or_create(
        pk=seen.id,
        defaults={
            "type": seen.type[:60], "source": seen.source, "amount": seen.amount, "fee": seen.fee,
            "created_at": seen.created_at, "seen_at": now,
        },
    )  # fmt: skip
    if new and seen.fee and seen.type not in OURS_ALONE:
        dialect = Dialect(connection)
        with dialect.cursor() as cursor:
            ledger.post(cursor, [ledger.stripe_fee(seen.id, _clearing(), seen.fee)], dialect.time(now))


def _clearing() -> Clearing:
    ids = dict(LedgerAccount.objects.filter(organization=None).values_list("kind", "id"))
    kinds = (AccountKind.STRIPE_CLEARING, AccountKind.STRIPE_FEES, AccountKind.TAX_PAYABLE, AccountKind.DISPUTE_RESERVE)
    if not set(kinds) <= set(ids):
        raise LedgerDrift("the platform's ledger accounts are missing: run manage.py migrate")
    return Clearing(*(ids[kind] for kind in kinds))
