"""What crosses the border of the credits app. Money is integer nano-USD throughout."""

from enum import StrEnum
from hashlib import blake2b
from typing import Any, NewType, Self

import msgspec

Nanos = NewType("Nanos", int)

UNKNOWN_COST = "unknown"
"""The `cost` of an attempt in `RequestFacts.attempts` whose provider's prices nobody has entered, or
whose tokens nobody knows. Else it is nanos, and stands where an attempt failed after some work."""


class UsageSource(StrEnum):
    PROVIDER = "provider"
    PROVIDER_PARTIAL = "provider_partial"
    COUNTED = "counted"
    CHECKPOINT = "checkpoint"
    NONE = "none"


class PriceTier(msgspec.Struct, frozen=True, gc=False):
    """The prices of a whole request whose input (plain, read from and written to the cache) is
    more than `above` tokens: nano-USD per million tokens of each class."""

    above: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int


class PriceSnapshot(msgspec.Struct, frozen=True):
    """The prices a request is held and settled with: nano-USD per million tokens of each
    class; `web_search` is nano-USD per search. `tiers` ascend by `above`."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    web_search: int = 0
    tiers: tuple[PriceTier, ...] = ()


class MeterReading(msgspec.Struct, frozen=True, gc=False):
    """Tokens in their classes, which add up without overlap (architecture, section 5).
    `reasoning` is part of `output`."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    web_searches: int = 0
    source: UsageSource = UsageSource.PROVIDER


class HoldRequest(msgspec.Struct, frozen=True):
    """Asks to reserve the worst case of one request.

    `input_tokens` is the estimate with its safety factor; `max_tokens` what the client asks
    for, capped to the model's limit; `web_searches` how many it may make. `context` (route,
    provider, session ...) is stored with the hold, so that a crashed request still leaves a
    complete usage record."""

    request_id: str
    organization_id: int
    api_key_id: int
    model: str
    price: PriceSnapshot
    input_tokens: int
    max_tokens: int
    context: dict[str, Any] = {}
    web_searches: int = 0


class HoldGrant(msgspec.Struct, frozen=True, gc=False):
    """`max_tokens` is what the reserved `amount` affords: send the provider no more."""

    request_id: str
    amount: Nanos
    max_tokens: int


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """Why a request took its route, and which targets it could have gone to: a JSON object with
    `rules` (each `rule`, `matched` and `why`, in the order in which they were asked) and whatever else
    the gateway says. Equal ones are stored once, under `ref`: most requests have one in common."""

    ref: str
    content: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        return cls(blake2b(content, digest_size=16).hexdigest(), content.decode("utf-8", "replace"))


class RequestFacts(msgspec.Struct, frozen=True):
    """What a usage record says beside money and tokens. Times are milliseconds."""

    requested_model: str = ""
    route: str = ""
    explanation: Explanation | None = None
    provider: str = ""
    actual_model: str = ""
    attempts: tuple[dict[str, Any], ...] = ()
    status: int = 200
    error_code: str = ""
    stop_reason: str = ""
    streamed: bool = False
    first_token_ms: int | None = None
    total_ms: int = 0
    session_id: str = ""
    agent_id: str = ""
    parent_agent_id: str = ""
    request_class: str = ""
    client: str = ""


class SettleRequest(msgspec.Struct, frozen=True):
    """Ends a hold. A reading of all zeros voids it; any other is captured.

    `cost_price` is what the operator pays the provider that answered, None when none did. A cost
    that nobody knows is put down as the customer's own price: it claims no margin. `spent` is what
    attempts that failed before it cost the operator besides, in nanos. `price` is set where less than the
    hold's price applies (the organisation's own key was used)."""

    request_id: str
    reading: MeterReading
    cost_price: PriceSnapshot | None
    facts: RequestFacts
    spent: int = 0
    price: PriceSnapshot | None = None


class Settlement(msgspec.Struct, frozen=True, gc=False):
    request_id: str
    charge: Nanos
    cost: Nanos
