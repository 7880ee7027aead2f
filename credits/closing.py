"""What becomes of an organisation's money when it is closed.

Its open requests are let finish and are charged as always. What is free leaves the wallet as expired credits do:
given credits go back to where they came from, paid ones become income. The ledger keeps everything.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

import structlog
from django.db import DatabaseError
from django.utils import timezone

from credits.entries import open_books
from credits.errors import CreditsError
from credits.expiry import expire_due
from credits.models import Wallet
from credits.money import format_usd
from credits.selectors import balance
from credits.services import SWEEP_LIMIT

log = structlog.get_logger("ccm.credits")

Objection = Callable[[int], str]
"""Why the organisation cannot be closed now, for its owner; "" when nothing is against it."""


def _debt(organization_id: int) -> str:
    owed = balance(organization_id).debt
    return f"{format_usd(owed)} is owed from earlier usage: top up first." if owed else ""


def _dispute(organization_id: int) -> str:
    frozen = Wallet.objects.filter(pk=organization_id, frozen=True).exists()
    return "A payment is disputed: close when that is decided." if frozen else ""


OBJECTIONS: list[Objection] = [_debt, _dispute]
"""Whatever takes payments adds its own: a top-up that is under way must be over first."""


def objections(organization_id: int) -> list[str]:
    return [reason for objection in OBJECTIONS if (reason := objection(organization_id))]


def forfeit(organization_id: int, now: datetime | None = None) -> int:
    """Take what is free out of the wallet of a closed organisation; how many nanos. May be repeated: it takes
    what has become free since."""
    with open_books(organization_id, now or timezone.now()) as opened:
        taken = expire_due(opened.books, opened.wallet, closing=True)
    if taken:
        log.info("credits_forfeited", organization=organization_id, nanos=taken)
    return taken


def forfeit_closed() -> int:
    """What finished requests, late refunds and the like left to organisations that are closed; how many nanos."""
    return sum(_forfeited())


def _forfeited() -> Iterator[int]:
    closed = Wallet.objects.filter(organization__closed_at__isnull=False, posted__gt=0).order_by("pk")
    for organization_id in list(closed.values_list("pk", flat=True)[:SWEEP_LIMIT]):
        try:
            yield forfeit(organization_id)
        except (CreditsError, DatabaseError):
            log.exception("credits_not_forfeited", organization=organization_id)
