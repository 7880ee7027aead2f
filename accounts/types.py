"""What crosses the border of the accounts app."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request is served."""

    api_key_id: int
    api_key_name: str
    organization_id: int
    organization_name: str
    own_keys_only: bool = False
    """Where the organisation has provider keys of its own, the platform's are not used instead."""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: `secret` can be shown now and never again."""

    id: int
    secret: str
    masked: str
