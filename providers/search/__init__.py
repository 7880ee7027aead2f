"""Web search engines behind one interface: for models whose providers do not search themselves.

`backends` has one row an engine; `domains` is which results a request lets through (pure).
"""

from providers.search.backends import BACKENDS, Backend, backend_named
from providers.search.domains import Domains, InvalidDomain
from providers.search.types import Place, Query, Result, SearchFailed

__all__ = [
    "BACKENDS", "Backend", "Domains", "InvalidDomain", "Place", "Query", "Result", "SearchFailed", "backend_named",
]  # fmt: skip
