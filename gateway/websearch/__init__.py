"""Web search for models that have none (README.md here)."""

from gateway.websearch.loop import SearchLoop, StepExchange
from gateway.websearch.tool import (
    allowed_searches,
    asks_for_search,
    bounded,
    check_can_search,
    searches_itself,
    unsearched,
    without_search,
)

__all__ = [
    "SearchLoop", "StepExchange", "allowed_searches", "asks_for_search", "bounded", "check_can_search",
    "searches_itself", "unsearched", "without_search",
]  # fmt: skip
