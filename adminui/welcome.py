"""What a new customer is given once their address is verified, once a person as far as can be told."""

import hashlib
import hmac

import structlog
from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, transaction

from accounts.disposable import canonical
from accounts.models import User, WelcomeGift
from credits.models import LotKind
from credits.services import grant

log = structlog.get_logger("ccm.welcome")

MOST_A_DAY = 3
"""Gifts to one client address: a household or an office, not a farm."""

DAY_SECONDS = 86_400


def greet(user: User, *, address: str) -> bool:
    """Give `user` the welcome credits, if there are any to give; whether they were given. A mailbox that had them
    under another spelling, and a client address that had several today, get none, and are told nothing."""
    if not settings.WELCOME_NANOS or _too_many(address):
        return False
    try:
        with transaction.atomic():
            WelcomeGift.objects.create(user=user, mailbox=_digest(canonical(user.email)))
            grant(
                user.personal_organization.pk,
                settings.WELCOME_NANOS,
                reason="Welcome",
                idempotency_key=f"welcome:{user.pk}",
                kind=LotKind.PROMO,
            )
    except IntegrityError:
        log.info("welcome_refused", user=user.pk)
        return False
    return True


def _too_many(address: str) -> bool:
    name = f"welcome:{_digest(address)}"
    if cache.add(name, 1, DAY_SECONDS):
        return False
    try:
        return int(cache.incr(name)) > MOST_A_DAY
    except ValueError:  # it expired just now
        return False


def _digest(text: str) -> str:
    """Of mailboxes only this is kept, so that a deleted account leaves no address behind."""
    return hmac.new(settings.KEY_PEPPER.encode(), text.encode(), hashlib.sha256).hexdigest()
