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
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made: `secret` can be shown now and never again."""

    id: int
    secret: str
    masked: str
