"""The arithmetic of rates, as `scripts.py` has it in Lua. Pure.

A bucket is stored as one number, the moment at which it is full again (a generic cell rate
algorithm): what is left of it now follows from that and from its rate. A request that needs
more than a whole bucket may have it when the bucket is full; what it used is then owed.
"""

from dataclasses import dataclass

from gateway.limits.rules import Bucket

SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Level:
    """What is `left` of a bucket (negative: owed), in how many seconds it is full again (`reset`), and
    how many a request has to `wait` (0: it need not)."""

    left: float
    reset: float
    wait: float


def level(bucket: Bucket, full_at: float, now: float, cost: float) -> Level:
    """Before a request of this cost. One without a cost as yet needs a bucket that is not used up."""
    full_at = max(full_at, now)
    left = bucket.limit - (full_at - now) * bucket.rate
    need = max(1.0, min(cost, bucket.limit))
    wait = 0.0 if left >= need - SLACK else (need - left) / bucket.rate
    return Level(left, full_at - now, wait)


def full_again(bucket: Bucket, full_at: float, now: float, cost: float) -> float:
    """When the bucket is full again after `cost` was taken from it; a negative cost gives back."""
    return max(full_at, now) + cost / bucket.rate
