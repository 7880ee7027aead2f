"""Which limits hold for a request: its key's and its organisation's, or the installation's. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from accounts.types import Limits

WINDOW = 60.0
"""Seconds. A rate is a bucket that holds a minute's worth and fills evenly: a tenant that was idle
may use the minute's worth at once, as with Anthropic's own limits."""

Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens"]
Owner = Literal["API key", "organisation"]
DIMENSIONS: tuple[Dimension, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
WORDS = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "input_tokens": "input tokens per minute",
    "output_tokens": "output tokens per minute",
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """`key` names it in Valkey; `limit` is what it holds."""

    key: str
    owner: Owner
    dimension: Dimension
    limit: int

    @property
    def rate(self) -> float:
        """How much of it comes back in a second."""
        return self.limit / WINDOW


@dataclass(frozen=True, slots=True)
class Slots:
    key: str
    owner: Owner
    limit: int


@dataclass(frozen=True, slots=True)
class Rules:
    buckets: tuple[Bucket, ...] = ()
    slots: tuple[Slots, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.buckets or self.slots)


@lru_cache(maxsize=16_384)
def rules_of(
    organization_id: int, api_key_id: int, of_organization: Limits, of_key: Limits, defaults: tuple[Limits, Limits]
) -> Rules:
    """`defaults` are those of organisations and of keys. All of a tenant's names share a hash tag, so that
    a cluster keeps them together."""
    buckets: list[Bucket] = []
    slots: list[Slots] = []
    prefix = f"ccm:limit:{{{organization_id}}}"
    owners: tuple[tuple[Owner, str, Limits, Limits], ...] = (
        ("API key", f"{prefix}:key:{api_key_id}", of_key, defaults[1]),
        ("organisation", f"{prefix}:organization", of_organization, defaults[0]),
    )
    for owner, name, own, default in owners:
        limits = merged(own, default)
        buckets += (
            Bucket(f"{name}:{dimension}", owner, dimension, limit)
            for dimension in DIMENSIONS
            if (limit := getattr(limits, dimension))
        )
        if limits.concurrency:
            slots.append(Slots(f"{name}:running", owner, limits.concurrency))
    return Rules(tuple(buckets), tuple(slots))


def merged(own: Limits, default: Limits) -> Limits:
    """What is not set is the default."""
    values = {name: getattr(own, name) for name in Limits.__struct_fields__}
    return Limits(**{name: getattr(default, name) if value is None else value for name, value in values.items()})
