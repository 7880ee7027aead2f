"""Slows down whoever guesses passwords: a few failures per e-mail address and client address,
then a wait. Counted in Django's cache, which is per process unless CACHES names a shared one;
so the limit holds once per web worker."""

from hashlib import sha256

from django.core.cache import cache

FAILURES = 8
WINDOW_SECONDS = 300


def _name(email: str, address: str) -> str:
    return "sign-in:" + sha256(f"{email.strip().lower()}\n{address}".encode()).hexdigest()


def is_blocked(email: str, address: str) -> bool:
    return int(cache.get(_name(email, address), 0)) >= FAILURES


def failed(email: str, address: str) -> None:
    """Count one failure; the window starts with the first."""
    name = _name(email, address)
    if not cache.add(name, 1, WINDOW_SECONDS):
        try:
            cache.incr(name)
        except ValueError:  # it expired just now
            cache.add(name, 1, WINDOW_SECONDS)


def succeeded(email: str, address: str) -> None:
    cache.delete(_name(email, address))
