"""Web search for models that have none (README.md here)."""

from gateway.websearch.loop import SearchLoop, StepExchange
from gateway.websearch.tool import asks_for_search, check_can_search, searches_itself, without_search

__all__ = [
    "SearchLoop", "StepExchange", "asks_for_search", "check_can_search", "searches_itself", "without_search",
]  # fmt: skip
