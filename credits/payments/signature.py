"""Stripe's signature of a webhook (https://docs.stripe.com/webhooks/signature). Pure: the SDK would do the same, but it
takes a web process a long time and much memory to load."""

import hashlib
import hmac
from collections.abc import Iterable

TOLERANCE_SECONDS = 300


def is_signed(body: bytes, header: str, secrets: Iterable[str], now: float) -> bool:
    """Whether `header` (`Stripe-Signature`) is a signature of `body` by one of `secrets`, and not old. Without a secret
    nothing is: an empty one could be forged by anybody."""
    fields = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in fields if name.strip() == "t"]
    signatures = [value.strip() for name, _, value in fields if name.strip() == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) < 15):
        return False
    if now - int(times[0]) > TOLERANCE_SECONDS:
        return False
    signed = times[0].encode() + b"." + body
    return any(
        hmac.compare_digest(hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode(), given.encode())
        for secret in secrets
        if secret
        for given in signatures
    )
