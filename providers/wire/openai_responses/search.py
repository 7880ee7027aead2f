"""The web search that a provider runs itself (translation.md 4.2)."""

from typing import Any
from urllib.parse import urlsplit

import msgspec

from providers.wire.openai_responses.quirks import ResponsesQuirks
from providers.wire.request import MessagesRequest
from providers.wire.toolset import Toolset

SERVER_TOOL = "web_search"
MAX_EXCLUDED = 5
MAX_CITED = 150


def search_tool(request: MessagesRequest) -> dict[str, Any] | None:
    """The client's declaration of the server-side web search, if it has one."""
    if not request.toolset.once(_has_search):
        return None
    tools: list[dict[str, Any]] = request.value("tools")
    return next(tool for tool in tools if str(tool.get("type") or "").startswith(SERVER_TOOL))


def _has_search(toolset: Toolset) -> bool:
    return any((tool.type or "").startswith(SERVER_TOOL) for tool in toolset.tools)


def searches_only(request: MessagesRequest) -> bool:
    """Whether the request exists for a web search, as Claude Code's are."""
    tools = request.tools
    return bool(tools) and all((tool.type or "").startswith(SERVER_TOOL) for tool in tools)


def provider_tool(declared: dict[str, Any], own: ResponsesQuirks) -> dict[str, Any]:
    tool: dict[str, Any] = {"type": own.search}
    filters: dict[str, Any] = {}
    if declared.get("allowed_domains") and own.search == SERVER_TOOL:
        filters["allowed_domains"] = declared["allowed_domains"]
    elif declared.get("blocked_domains") and own.excludes_domains:
        filters["excluded_domains"] = declared["blocked_domains"][:MAX_EXCLUDED]
    if filters:
        tool["filters"] = filters
    location = declared.get("user_location")
    if isinstance(location, dict):
        known = ("type", "city", "region", "country", "timezone")
        tool["user_location"] = {name: location[name] for name in known if location.get(name)}
    return tool


class Results:
    """What the searches of one answer found, as far as the client lets it through.

    Providers that cannot exclude domains search them all the same: their results are dropped."""

    def __init__(self, declared: dict[str, Any] | None) -> None:
        self._allowed = _domains(declared, "allowed_domains")
        self._blocked = _domains(declared, "blocked_domains")
        self._titles: dict[str, str] = {}
        self._listed: set[str] = set()

    def cited(self, annotation: dict[str, Any]) -> None:
        """Learn a page's title from a citation; searches themselves tell none."""
        url, title = annotation.get("url"), annotation.get("title")
        if isinstance(url, str):
            self._titles.setdefault(url, title if isinstance(title, str) else "")

    def blocks(self, urls: list[str]) -> list[dict[str, Any]]:
        """`web_search_result` blocks for what a search found, and for what was cited so far without
        any search having listed it."""
        urls = [*urls, *(url for url in self._titles if url not in self._listed)]
        self._listed.update(urls)
        return [
            {
                "type": "web_search_result",
                "url": url,
                "title": self._titles.get(url) or urlsplit(url).hostname or url,
                "encrypted_content": "",
                "page_age": None,
            }
            for url in dict.fromkeys(urls)
            if self._passes(url)
        ]

    def _passes(self, url: str) -> bool:
        host = urlsplit(url).hostname or ""
        if self._allowed and not _within(host, self._allowed):
            return False
        return not _within(host, self._blocked)


def _domains(declared: dict[str, Any] | None, name: str) -> tuple[str, ...]:
    told = (declared or {}).get(name)
    # An entry may hold a path ("example.com/blog"): the host decides here.
    return tuple(str(domain).partition("/")[0].lower() for domain in told) if isinstance(told, list) else ()


def _within(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith("." + domain) for domain in domains)


def is_search(action: Any) -> bool:
    """A search, and not a page opened or looked through. Without an action: a search as well."""
    return not isinstance(action, dict) or action.get("type", "search") == "search"


def query_of(item: dict[str, Any]) -> str:
    """The words searched for; xAI tells them as arguments."""
    action = item.get("action")
    if isinstance(action, dict):
        queries = action.get("queries")
        query = action.get("query") or ("; ".join(map(str, queries)) if isinstance(queries, list) else "")
        return str(query or "")
    arguments = item.get("arguments")
    if isinstance(arguments, str):
        try:
            told = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return ""
        return str(told.get("query") or "") if isinstance(told, dict) else ""
    return ""


def urls_of(item: dict[str, Any]) -> list[str]:
    """The pages that a search found, or that were opened."""
    action = item.get("action")
    if not isinstance(action, dict):
        return []
    sources = action.get("sources")
    found = [source.get("url") for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [url for url in [*found, action.get("url")] if isinstance(url, str) and url]


def citation_of(annotation: dict[str, Any], text: str) -> dict[str, Any]:
    """Anthropic's citation for an annotation of `text`, whose offsets count characters."""
    start, end = annotation.get("start_index"), annotation.get("end_index")
    has_span = isinstance(start, int) and isinstance(end, int) and 0 <= start < end
    return {
        "type": "web_search_result_location",
        "url": str(annotation.get("url") or ""),
        "title": annotation.get("title") if isinstance(annotation.get("title"), str) else None,
        "encrypted_index": "",
        "cited_text": text[start:end][:MAX_CITED] if has_span else "",
    }
