"""Slows down whoever guesses promo codes: a few failures a person, then a wait. Counted in Django's cache, for all web
processes together. (Signing in is allauth's, with limits of its own: ACCOUNT_RATE_LIMITS.)"""

from hashlib import sha256

from django.core.cache import cache

FAILURES = 8
WINDOW_SECONDS = 300


def _name(email: str) -> str:
    return "redeem:" + sha256(email.strip().lower().encode()).hexdigest()


def is_blocked(email: str) -> bool:
    return int(cache.get(_name(email), 0)) >= FAILURES


def failed(email: str) -> None:
    """Count one failure; the window starts with the first."""
    name = _name(email)
    if not cache.add(name, 1, WINDOW_SECONDS):
        try:
            cache.incr(name)
        except ValueError:  # it expired just now
            cache.add(name, 1, WINDOW_SECONDS)
