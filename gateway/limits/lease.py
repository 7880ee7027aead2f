"""What an admitted request holds until it is over, and what the client is told of its limits."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from credits.types import MeterReading
from gateway.errors import LONGEST_WAIT, GatewayError
from gateway.limits.buckets import Level
from gateway.limits.rules import WORDS, Bucket, Dimension, Rules, Slots

Headers = list[tuple[bytes, bytes]]

BUSY_WAIT = 2
"""Seconds. When a running request will be over is not known."""

_TOKENS: frozenset[Dimension] = frozenset({"tokens", "input_tokens", "output_tokens"})
# Anthropic's names; theirs of `tokens` is the tightest of all limits on tokens.
_HEADERS: tuple[tuple[str, frozenset[Dimension]], ...] = (
    ("requests", frozenset({"requests"})),
    ("tokens", _TOKENS),
    ("input-tokens", frozenset({"input_tokens"})),
    ("output-tokens", frozenset({"output_tokens"})),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the limits said: `now` is their clock's (seconds since 1970), `levels` are in the order of
    the buckets, `running` in that of the slots."""

    granted: bool
    now: float
    levels: tuple[Level, ...]
    running: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Lease:
    """`taken` is what was taken from the buckets when the request was admitted, `used` what its
    answers have used so far."""

    id: str
    rules: Rules
    taken: Mapping[Dimension, int]
    headers: Headers
    is_local: bool
    """Admitted while Valkey was away."""
    used: dict[Dimension, int] = field(default_factory=dict)
    released: bool = False

    def add(self, reading: MeterReading) -> None:
        """Count an answer's tokens. Reading from the cache is free of limits, as at Anthropic."""
        read = reading.input + reading.cache_write + reading.cache_write_1h
        for dimension, tokens in (
            ("tokens", read + reading.output),
            ("input_tokens", read),
            ("output_tokens", reading.output),
        ):
            self.used[dimension] = self.used.get(dimension, 0) + tokens  # type: ignore[index,call-overload]

    def owed(self, bucket: Bucket) -> int:
        """What is still to be taken from `bucket`; negative: to be given back."""
        if bucket.dimension == "requests":
            return 0
        return self.used.get(bucket.dimension, 0) - self.taken.get(bucket.dimension, 0)


def costs_of(input_tokens: int) -> dict[Dimension, int]:
    """What is taken in advance. How long an answer gets is not known: it is taken afterwards."""
    return {"requests": 1, "tokens": input_tokens, "input_tokens": input_tokens, "output_tokens": 0}


def headers_of(rules: Rules, outcome: Outcome) -> Headers:
    """Anthropic's headers of the tightest limit in each dimension; when it is reset is in RFC 3339."""
    told: Headers = []
    for name, dimensions in _HEADERS:
        among = [(b, lvl) for b, lvl in zip(rules.buckets, outcome.levels, strict=True) if b.dimension in dimensions]
        if not among:
            continue
        bucket, level = min(among, key=lambda each: each[1].left)
        left = max(0, math.floor(level.left + 1e-6))
        if bucket.dimension != "requests":
            left = round(left, -3) if bucket.limit >= 1000 else left  # they round tokens to thousands
        reset = datetime.fromtimestamp(math.ceil(outcome.now + level.reset), UTC)
        for what, value in (
            ("limit", str(bucket.limit)),
            ("remaining", str(min(left, bucket.limit))),
            ("reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ):
            told.append((f"anthropic-ratelimit-{name}-{what}".encode(), value.encode()))
    return told


def refusal(rules: Rules, outcome: Outcome) -> GatewayError:
    """429. Whoever has to wait for long is told not to try again by itself."""
    blocked = [(lvl.wait, b) for b, lvl in zip(rules.buckets, outcome.levels, strict=True) if lvl.wait > 0]
    if blocked:
        wait, bucket = max(blocked, key=lambda each: each[0])
        what = f"{bucket.owner}'s limit of {bucket.limit:,} {WORDS[bucket.dimension]}"
    else:
        slots = _full(zip(rules.slots, outcome.running, strict=True))
        wait, what = BUSY_WAIT, f"{slots.owner}'s limit of {slots.limit:,} requests at once"
    seconds = max(1, math.ceil(wait))
    text = f"This request would exceed the {what}. It can be repeated in {seconds} second{'s' if seconds > 1 else ''}."
    return GatewayError(
        429,
        "rate_limit_error",
        text,
        retry_after=seconds,
        should_retry=seconds <= LONGEST_WAIT,
        code="rate_limited",
    )


def _full(running: Iterable[tuple[Slots, int]]) -> Slots:
    return next(slots for slots, number in running if number >= slots.limit)
