"""Slows down whoever guesses passwords or promo codes: a few failures per e-mail address and client
address, then a wait. Counted in Django's cache, which is per process unless CACHES names a shared one;
so the limit holds once per web worker."""

from hashlib import sha256

from django.core.cache import cache

FAILURES = 8
WINDOW_SECONDS = 300
SIGNING_IN, REDEEMING = "sign-in", "redeem"


def _name(email: str, address: str, what: str) -> str:
    return f"{what}:" + sha256(f"{email.strip().lower()}\n{address}".encode()).hexdigest()


def is_blocked(email: str, address: str, *, what: str = SIGNING_IN) -> bool:
    return int(cache.get(_name(email, address, what), 0)) >= FAILURES


def failed(email: str, address: str, *, what: str = SIGNING_IN) -> None:
    """Count one failure; the window starts with the first."""
    name = _name(email, address, what)
    if not cache.add(name, 1, WINDOW_SECONDS):
        try:
            cache.incr(name)
        except ValueError:  # it expired just now
            cache.add(name, 1, WINDOW_SECONDS)


def succeeded(email: str, address: str, *, what: str = SIGNING_IN) -> None:
    cache.delete(_name(email, address, what))
