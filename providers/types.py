"""What crosses the border of the providers app: the catalogue, targets, usage.

Prices are integers: nano-USD per million tokens, and nano-USD per single web search.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec


class Tier(msgspec.Struct, frozen=True):
    """The prices of a whole request whose input tokens, of all input classes together, are more
    than `above`: nano-USD per million tokens of each class."""

    above: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int


class Price(msgspec.Struct, frozen=True):
    """Nano-USD per million tokens of each class; `web_search` is nano-USD per search. `tiers`
    ascend by `above`."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    web_search: int = 0
    tiers: tuple[Tier, ...] = ()


@dataclass(slots=True)
class Usage:
    """The token classes of one answer, as the provider told them. None: it did not tell.

    `input_tokens` never includes cached tokens, on any wire (architecture, section 5).
    `reasoning_tokens` are part of `output_tokens`.
    """

    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    web_searches: int = 0


class RetryClass(StrEnum):
    SAME_TARGET = "same_target"
    NEXT_TARGET = "next_target"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class UpstreamFailure:
    """What went wrong at a provider, in the terms of the Anthropic API.

    `status` and `type` are what the client gets (interfaces.md, errors); `upstream_status`
    is what the provider answered, None when it did not. `body` is set when the provider's
    own error body is to reach the client unmodified (Anthropic wire). `paid` means that the
    provider may charge for the attempt, so it must not be repeated."""

    status: int
    type: str
    message: str
    retry: RetryClass = RetryClass.NEVER
    retry_after: float | None = None
    upstream_status: int | None = None
    body: bytes | None = None
    should_retry: bool | None = None
    paid: bool = False
    drop_reasoning: bool = False
    """Earlier reasoning was refused: the request may pass at the same target without it."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle` is the longest silence between two reads of a stream."""

    connect: float = 10.0
    first_byte: float = 300.0
    idle: float = 300.0
    total: float = 3600.0


@dataclass(frozen=True, slots=True)
class CredentialSecret:
    """`requests_per_minute` and `concurrency` are the operator's own limits, None for none; they are
    the whole installation's."""

    id: int
    weight: int
    secret: str = field(repr=False)
    requests_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def is_limited(self) -> bool:
        return self.requests_per_minute is not None or self.concurrency is not None


class Policy(StrEnum):
    """By what the targets of a model are ordered, those that are well first."""

    PRIORITY = "priority"
    PRICE = "price"
    LATENCY = "latency"
    THROUGHPUT = "throughput"


@dataclass(frozen=True, slots=True)
class Target:
    """A mapping chosen for a request: where it goes and what it costs the operator, None when
    nobody has entered that: unknown, which is not the same as free."""

    mapping_id: int
    provider_id: int
    provider: str
    kind: str
    wire: str
    base_url: str
    actual_model: str
    priority: int
    weight: int
    cost: Price | None
    timeouts: Timeouts
    credentials: tuple[CredentialSecret, ...] = ()
    is_own: bool = False
    """Called with keys of the organisation's own, which pays the provider itself."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields that an operator adds to a Chat Completions request, where there are none."""
    counts_tokens: bool = False
    """Its provider may be asked how many tokens a request has."""


@dataclass(frozen=True, slots=True)
class TokenFactors:
    """A model's input tokens for each one measured here: `counted` with a vocabulary of OpenAI's,
    `estimated` from the request's size."""

    counted: float = 1.0
    estimated: float = 1.0


@dataclass(frozen=True, slots=True)
class Model:
    """What customers ask for and pay for."""

    id: int
    name: str
    display_name: str
    description: str
    context_window: int | None
    max_output: int | None
    vision: bool
    tools: bool
    thinking: bool
    price: Price | None
    targets: tuple[Target, ...]
    created_at: str = "1970-01-01T00:00:00Z"
    discoverable: bool = True
    policy: Policy = Policy.PRIORITY
    own_targets: Mapping[int, tuple[Target, ...]] = field(default_factory=dict)
    """Beside `targets`, which serve everybody: by organisation those that its own keys open."""
    token_factors: TokenFactors = TokenFactors()


class Profile(msgspec.Struct, frozen=True):
    """A router profile. None in a field: not set here, the next wider profile decides."""

    default: str | None = None
    think: str | None = None
    websearch: str | None = None
    image: str | None = None
    long_context: str | None = None
    background: str | None = None
    subagent: str | None = None
    safety: str | None = None
    long_context_threshold: int | None = None
    auto_map_regex: str | None = None
    background_regex: str | None = None
    think_efforts: frozenset[str] | None = None
    think_in_plan_mode: bool | None = None
    pin_explicit_model: bool | None = None


NO_PROFILE = Profile()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The immutable snapshot of everything the gateway needs to know to serve a request.

    `models` holds enabled models by name, each with the targets of enabled mappings on
    enabled providers, best priority first. Profiles are as stored: merge them with
    `profile_for`."""

    version: int = 0
    models: Mapping[str, Model] = field(default_factory=dict)
    providers: frozenset[str] = frozenset()
    platform_profile: Profile = NO_PROFILE
    organization_profiles: Mapping[int, Profile] = field(default_factory=dict)
    key_profiles: Mapping[int, Profile] = field(default_factory=dict)
