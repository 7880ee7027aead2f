"""What crosses the border of the accounts app."""

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct


class Limits(Struct, frozen=True, gc=False):
    """How much an organisation or key may ask for: requests and tokens per minute, and requests at
    once. `tokens` are input and output together. None: the installation's default. 0: no limit."""

    requests: int | None = None
    tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: int | None = None


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request is served, and how far: `limits` are the key's own, and
    `allowed_models` the only ones it may use (empty: all)."""

    api_key_id: int
    api_key_name: str
    organization_id: int
    organization_name: str
    own_keys_only: bool = False
    """Where the organisation has provider keys of its own, the platform's are not used instead."""
    keeps_text: bool = False
    """The organisation wants the text of its requests and answers to be kept."""
    expires_at: datetime | None = None
    limits: Limits = DEFAULT_LIMITS
    organization_limits: Limits = DEFAULT_LIMITS
    allowed_models: frozenset[str] = frozenset()
    created_by_id: int | None = None
    masked: str = ""
    is_management: bool = False
    """It manages keys and is refused wherever something would cost credits."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: `secret` can be shown now and never again."""

    id: int
    secret: str
    masked: str
