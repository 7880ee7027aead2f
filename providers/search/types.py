"""A search, what it finds, and how it fails."""

from dataclasses import dataclass, field
from typing import Literal

from providers.errors import ProvidersError
from providers.search.domains import Domains

ErrorCode = Literal["unavailable", "too_many_requests", "query_too_long", "max_uses_exceeded", "invalid_tool_input"]
"""Anthropic's codes of a `web_search_tool_result_error`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Roughly where the user is, "" for what is not known; `country` is ISO 3166's two letters."""

    city: str = ""
    region: str = ""
    country: str = ""
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    domains: Domains = field(default_factory=Domains)
    place: Place = field(default_factory=Place)


@dataclass(frozen=True, slots=True)
class Result:
    """`text` is what the engine tells of the page; `age` is when it was published, in the engine's words."""

    title: str
    url: str
    text: str = ""
    age: str | None = None


class SearchFailed(ProvidersError):
    """The engine did not search; `error` is what the model and the client are told."""

    code = "search_failed"

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error: ErrorCode = error
