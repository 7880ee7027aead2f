"""The search engines: how each is asked, and what its answers mean. A row an engine.

The requests and answers are those of SearXNG's "Search API", Brave's "Web Search" and Tavily's "Search";
tested against fakes of them, not yet against the engines.
"""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
import structlog

from providers.search.domains import host_of
from providers.search.places import TAVILY_COUNTRIES
from providers.search.types import ErrorCode, Query, Result, SearchFailed
from providers.transport import Call, FetchFailed, Transport

log = structlog.get_logger("ccm.search")

MAX_RESULTS = 10
ASKED_RESULTS = 20
"""Asked of the engine where domains are restricted: some of what it finds will not be shown."""
TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_TEXT = 4000
MAX_TITLE = 300
MAX_URL = 2000
MARKUP = re.compile(r"</?(?:strong|b|em|mark|span)\b[^<>]{0,200}>")
STATUSES: dict[int, ErrorCode] = {
    413: "query_too_long", 414: "query_too_long", 429: "too_many_requests",
    432: "too_many_requests", 433: "too_many_requests",
}  # fmt: skip
"""432 and 433: Tavily's limits of the plan and of what was paid for."""


@dataclass(frozen=True, slots=True)
class Engine:
    """`url` is the default address, "" when every installation has its own. `max_query` is in
    characters; `call` makes the request and `results` reads its answer."""

    name: str
    label: str
    url: str
    needs_key: bool
    max_query: int
    call: Callable[[Query, str, str], Call]
    results: Callable[[Mapping[str, Any]], Any]
    text: str
    age: tuple[str, ...]


def _searxng(query: Query, url: str, key: str) -> Call:
    headers = {"accept": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    fields = {"q": _with_sites(query, BACKENDS["searxng"].max_query), "format": "json"}
    return Call("GET", f"{url}/search?{urlencode(fields)}", headers)


def _brave(query: Query, url: str, key: str) -> Call:
    place = query.place
    told = {"city": place.city, "state-name": place.region, "country": place.country, "timezone": place.timezone}
    headers = {"accept": "application/json", "x-subscription-token": key}
    # Header values are ASCII; a name that is not can be left out, since it is a hint only.
    headers |= {f"x-loc-{name}": value for name, value in told.items() if value and _is_plain(value)}
    fields = {
        "q": _with_sites(query, BACKENDS["brave"].max_query),
        "count": str(_count(query)),
        "text_decorations": "false",
        "result_filter": "web",
    }
    return Call("GET", f"{url}/web/search?{urlencode(fields)}", headers)


def _tavily(query: Query, url: str, key: str) -> Call:
    body: dict[str, Any] = {"query": query.text, "max_results": _count(query), "search_depth": "basic"}
    if query.domains.allowed:
        body["include_domains"] = _hosts(query.domains.allowed)
    # Only whole domains: a blocked path must not take the rest of its site away.
    blocked = [entry for entry in query.domains.blocked if "/" not in entry]
    if blocked:
        body["exclude_domains"] = blocked
    if country := TAVILY_COUNTRIES.get(query.place.country.upper()):
        body["country"] = country
    headers = {"accept": "application/json", "content-type": "application/json", "authorization": f"Bearer {key}"}
    return Call("POST", f"{url}/search", headers, msgspec.json.encode(body))


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _count(query: Query) -> int:
    return ASKED_RESULTS if query.domains.restrict else MAX_RESULTS


def _hosts(entries: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(host_of(entry) for entry in entries))


def _with_sites(query: Query, limit: int) -> str:
    """The query with `site:` operators, as far as it may be that long. What they do not keep out
    is left out afterwards."""
    allowed = " OR ".join(f"site:{host}" for host in _hosts(query.domains.allowed))
    blocked = [f"-site:{entry}" for entry in query.domains.blocked if "/" not in entry]
    text = " ".join([query.text, *([f"({allowed})" if " " in allowed else allowed] if allowed else []), *blocked])
    return text if len(text) <= limit else query.text


BACKENDS: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            "searxng", "SearXNG", "", False, 1000, _searxng, lambda told: told.get("results"), "content",
            ("publishedDate",),
        ),
        Engine(
            "brave", "Brave Search", "https://api.search.brave.com/res/v1", True, 400, _brave,
            lambda told: (told.get("web") or {}).get("results"), "description", ("page_age", "age"),
        ),
        Engine(
            "tavily", "Tavily", "https://api.tavily.com", True, 400, _tavily, lambda told: told.get("results"),
            "content", ("published_date",),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine as the operator has set it up."""

    engine: Engine
    url: str
    key: str
    transport: Transport

    async def search(self, query: Query) -> list[Result]:
        """What the engine finds, best first, at most MAX_RESULTS, only from domains that `query`
        admits. Raises SearchFailed."""
        name = self.engine.label
        if len(query.text) > self.engine.max_query:
            raise SearchFailed("query_too_long", f"{name} takes at most {self.engine.max_query} characters.")
        call = self.engine.call(query, self.url, self.key)
        try:
            status, body = await self.transport.fetch(call, seconds=TIMEOUT_SECONDS, limit=MAX_ANSWER_BYTES)
        except FetchFailed as error:
            log.warning("search_failed", engine=self.engine.name, reason=error.reason)
            raise SearchFailed("unavailable", f"{name} could not be asked.") from None
        if status != 200:
            log.warning("search_failed", engine=self.engine.name, status=status)
            raise SearchFailed(STATUSES.get(status, "unavailable"), f"{name} answered {status}.")
        found = self._read(body)
        return [result for result in found if query.domains.admit(result.url)][:MAX_RESULTS]

    def _read(self, body: bytes) -> list[Result]:
        try:
            told = msgspec.json.decode(body)
            items = self.engine.results(told) or []
            results = [self._result(item) for item in items if isinstance(item, dict) and item.get("url")]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, TypeError):
            log.warning("search_failed", engine=self.engine.name, reason="an answer of another shape")
            raise SearchFailed("unavailable", f"{self.engine.label} answered with something else.") from None
        first: dict[str, Result] = {}
        for result in results:
            if len(result.url) <= MAX_URL:
                first.setdefault(result.url, result)
        return list(first.values())

    def _result(self, item: Mapping[str, Any]) -> Result:
        url = str(item["url"])
        ages = (item.get(name) for name in self.engine.age)
        return Result(
            title=_plain(item.get("title"), MAX_TITLE) or url,
            url=url,
            text=_plain(item.get(self.engine.text), MAX_TEXT),
            age=next((age[:100] for age in ages if isinstance(age, str) and age), None),
        )


def _plain(text: object, limit: int) -> str:
    """An engine's text without its highlights and entities."""
    if not isinstance(text, str):
        return ""
    return " ".join(html.unescape(MARKUP.sub("", text[: 4 * limit])).split())[:limit]


def backend_named(name: str, *, url: str, key: str, transport: Transport) -> Backend | None:
    """The operator's search engine; None for an empty name. Raises KeyError for an unknown one."""
    if not name:
        return None
    engine = BACKENDS[name]
    return Backend(engine=engine, url=(url or engine.url).rstrip("/"), key=key, transport=transport)
