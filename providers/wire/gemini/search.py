"""Google Search: asking for it, and what it found as Anthropic's search blocks and citations.

Source: translation.md 4. Google cannot be told how often to search (`max_uses`), nor, at the
Developer API, where: the sites that the client allows or blocks are told to the model, and sources
from elsewhere are left out of the results.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from providers.wire.gemini.chunks import Grounding, GroundingSupport, Web
from providers.wire.request import MessagesRequest
from providers.wire.toolset import WEB_SEARCH

MOST_CITED = 150
"""Characters of the cited text in a citation, as at Anthropic."""


@dataclass(frozen=True, slots=True)
class WebSearch:
    """The web search tool of a request."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    place: str = ""

    def declaration(self, *, excludes: bool) -> dict[str, Any]:
        """The tool for Google; `excludes`: it can leave sites out (Vertex AI)."""
        return {"googleSearch": {"excludeDomains": list(self.blocked)} if excludes and self.blocked else {}}

    @property
    def instruction(self) -> str:
        lines = []
        if self.allowed:
            lines.append(f"Use only what you find on these sites when you search the web: {', '.join(self.allowed)}.")
        if self.blocked:
            lines.append(f"Use nothing from these sites when you search the web: {', '.join(self.blocked)}.")
        if self.place:
            lines.append(f"The user is in {self.place}.")
        return "\n".join(lines)

    def takes(self, web: Web) -> bool:
        """Whether a source comes from a site that the client wants."""
        site = _site(web)
        if any(_is_within(site, blocked) for blocked in self.blocked):
            return False
        return not self.allowed or not site or any(_is_within(site, allowed) for allowed in self.allowed)


def web_search_of(request: MessagesRequest) -> WebSearch | None:
    if not request.toolset.searches_web:
        return None
    told = next(t for t in request.value("tools") if str(t.get("type") or "").startswith(WEB_SEARCH))
    where = told.get("user_location")
    places = [where.get(name) for name in ("city", "region", "country")] if isinstance(where, dict) else []
    return WebSearch(
        allowed=_domains(told.get("allowed_domains")),
        blocked=_domains(told.get("blocked_domains")),
        place=", ".join(place for place in places if isinstance(place, str) and place),
    )


def _domains(value: Any) -> tuple[str, ...]:
    return tuple(domain for domain in value if isinstance(domain, str)) if isinstance(value, list) else ()


def _site(web: Web) -> str:
    """The source's site. Its address is one of Google's own redirects; its title is the site, for
    want of a domain."""
    site = (web.domain or web.title or "").strip().lower()
    return site if "." in site and " " not in site else ""


def _is_within(site: str, domain: str) -> bool:
    wanted = domain.lower().removeprefix("*.").split("/")[0]
    return bool(site) and (site == wanted or site.endswith("." + wanted))


class Findings:
    """What Google says about the searches of one answer."""

    def __init__(self, search: WebSearch | None, question: str) -> None:
        self._search = search or WebSearch()
        self._question = question
        self._queries: list[str] = []
        self._sources: list[Web | None] = []
        self._supports: list[GroundingSupport] = []

    def add(self, told: Grounding) -> None:
        """Of several chunks that tell the same, the last one counts."""
        self._queries = told.web_search_queries or self._queries
        if told.grounding_chunks:
            self._sources = [chunk.web for chunk in told.grounding_chunks]
        self._supports = told.grounding_supports or self._supports

    @property
    def queries(self) -> list[str]:
        return self._queries or ([self._question or "web search"] if self._sources else [])

    def searches(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """(query, results) of each search. Google does not say which search found what: the sources
        are dealt out to the searches in order."""
        queries = self.queries
        sources = [web for web in self._sources if web is not None and web.uri and self._search.takes(web)]
        results = [_result(web) for web in sources]
        share = -(-len(results) // len(queries)) if queries else 0
        return [(query, results[n * share : (n + 1) * share]) for n, query in enumerate(queries)]

    def cited(self, parts: list[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The answer's text, given as its `parts`, in pieces with their citations. Nothing of it is lost."""
        raw = "".join(parts).encode()
        done = 0
        for start, end, support in sorted(self._placed(raw, parts), key=lambda placed: placed[:2]):
            citations = self._citations(support)
            if not citations or start < done:
                continue
            if start > done:
                yield raw[done:start].decode("utf-8", "replace"), []
            yield raw[start:end].decode("utf-8", "replace"), citations
            done = end
        if done < len(raw):
            yield raw[done:].decode("utf-8", "replace"), []

    def _placed(self, raw: bytes, parts: list[str]) -> Iterator[tuple[int, int, GroundingSupport]]:
        """Each support with the bytes of the text that it is about. Offsets count from the beginning of
        their part or of the whole text; the segment's own words decide, and find it if neither fits."""
        for support in self._supports:
            segment = support.segment
            words = (segment.text or "").encode() if segment is not None else b""
            if segment is None or not words:
                continue
            offset = segment.start_index or 0
            before = len("".join(parts[: segment.part_index or 0]).encode())
            fitting = (at for at in (before + offset, offset) if raw[at : at + len(words)] == words)
            start = next(fitting, raw.find(words))
            if start >= 0:
                yield start, start + len(words), support

    def _citations(self, support: GroundingSupport) -> list[dict[str, Any]]:
        words = (support.segment.text or "") if support.segment else ""
        return [_citation(web, words) for web in self._named(support.grounding_chunk_indices or ())]

    def _named(self, indices: Iterable[int]) -> Iterator[Web]:
        for index in indices:
            web = self._sources[index] if 0 <= index < len(self._sources) else None
            if web is not None and web.uri and self._search.takes(web):
                yield web


def _result(web: Web) -> dict[str, Any]:
    return {
        "type": "web_search_result",
        "url": web.uri,
        "title": web.title or web.domain or web.uri,
        "encrypted_content": "",
        "page_age": None,
    }


def _citation(web: Web, words: str) -> dict[str, Any]:
    return {
        "type": "web_search_result_location",
        "url": web.uri,
        "title": web.title or web.domain or web.uri,
        "encrypted_index": "",
        "cited_text": words[:MOST_CITED],
    }
