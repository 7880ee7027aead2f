"""What servers of the Responses API do differently, by kind: on top of `openai_chat.quirks`.

Sources: translation.md 1.2, 2.2 and 4.2. The default suits a server that we know nothing about.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class ResponsesQuirks:
    search: Literal["web_search", "web_search_preview", ""] = ""
    """The type of its own web search tool; "" where it has none."""
    tells_sources: bool = False
    """Tells a search's sources when asked to."""
    excludes_domains: bool = False
    encrypts: bool = False
    """Hands out its reasoning encrypted, and takes it back; the others take it as plain text."""
    summarises: bool = False
    """Tells its reasoning as a summary, when asked to."""
    safety_identifier: bool = False
    """Takes who asks as `safety_identifier`."""


DEFAULT = ResponsesQuirks()

RESPONSES_QUIRKS: dict[str, ResponsesQuirks] = {
    "openai": ResponsesQuirks(
        search="web_search", tells_sources=True, encrypts=True, summarises=True, safety_identifier=True
    ),
    "azure": ResponsesQuirks(search="web_search_preview", encrypts=True, summarises=True),
    "openrouter": ResponsesQuirks(encrypts=True, summarises=True),
    "xai": ResponsesQuirks(search="web_search", excludes_domains=True, encrypts=True),
}


def responses_quirks_of(kind: str) -> ResponsesQuirks:
    return RESPONSES_QUIRKS.get(kind, DEFAULT)
