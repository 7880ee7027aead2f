"""Fake search engines on a loopback socket: the JSON APIs of SearXNG, Brave and Tavily.

Each refuses what the real one refuses (a missing key, a format that is off, a query that is too
long), records every request, and finds the same pages whatever is asked.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "key-of-the-search-engine"


@dataclass(frozen=True)
class Page:
    title: str
    url: str
    text: str = ""
    age: str | None = None


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    """Lower-case names."""
    fields: dict[str, Any]
    """Of the query, or of the JSON body."""

    @property
    def query(self) -> str:
        return str(self.fields.get("q") or self.fields.get("query"))


PAGES = (
    Page(
        "The marzipan museum", "https://museum.example/marzipan", "Opened in 1923 by <strong>K&ouml;hler</strong>.",
        "2026-10-01",
    ),
    Page("Almonds", "https://almonds.test/sweet", "About almonds."),
    Page("A copy", "https://museum.example/marzipan", "The same address again."),
    Page("Not the web", "javascript:alert(1)", "No page at all."),
)  # fmt: skip


@dataclass
class FakeEngine:
    name: str
    url: str = ""
    pages: tuple[Page, ...] = PAGES
    status: int = 200
    """Other than 200: every search is answered with it."""
    body: bytes | None = None
    """Answered as it is, instead of pages."""
    stalled: threading.Event | None = None
    """Where it is set: searches wait for it."""
    asked: list[Asked] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    def clear(self) -> None:
        self.pages, self.status, self.body, self.stalled = PAGES, 200, None, None
        self.asked.clear()
        self.arrived.clear()

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        self.asked.append(asked)
        self.arrived.set()
        if self.stalled is not None:
            self.stalled.wait(30)
        refused = _REFUSALS[self.name](asked)
        if refused:
            return refused, b'{"error": "refused"}'
        if self.status != 200:
            return self.status, b'{"error": "told to fail"}'
        return 200, self.body if self.body is not None else json.dumps(_SHAPES[self.name](self.pages)).encode()


def _refused_by_searxng(asked: Asked) -> int:
    if urlsplit(asked.path).path != "/search" or asked.fields.get("format") != "json":
        return 403
    return 0 if asked.fields.get("q") else 400


def _refused_by_brave(asked: Asked) -> int:
    if (asked.method, urlsplit(asked.path).path) != ("GET", "/web/search"):
        return 404
    if asked.headers.get("x-subscription-token") != KEY:
        return 401
    fits = 0 < len(asked.query) <= 400 and 1 <= int(asked.fields.get("count", 20)) <= 20
    return 0 if fits else 422


def _refused_by_tavily(asked: Asked) -> int:
    if (asked.method, asked.path) != ("POST", "/search"):
        return 404
    if asked.headers.get("authorization") != f"Bearer {KEY}":
        return 401
    known = {"query", "max_results", "search_depth", "include_domains", "exclude_domains", "country"}
    fits = set(asked.fields) <= known and 0 < len(asked.query) <= 400 and 0 <= asked.fields["max_results"] <= 20
    return 0 if fits else 400


_REFUSALS = {"searxng": _refused_by_searxng, "brave": _refused_by_brave, "tavily": _refused_by_tavily}
_SHAPES = {
    "searxng": lambda pages: {
        "query": "",
        "number_of_results": 0,
        "results": [
            {"title": p.title, "url": p.url, "content": p.text, "engine": "fake", "score": 1.0, "publishedDate": p.age}
            for p in pages
        ],
        "unresponsive_engines": [],
    },
    "brave": lambda pages: {
        "type": "search",
        "web": {
            "type": "search",
            "results": [
                {"title": p.title, "url": p.url, "description": p.text, "type": "search_result"}
                | ({"page_age": p.age} if p.age else {})
                for p in pages
            ],
        },
    },
    "tavily": lambda pages: {
        "query": "",
        "answer": None,
        "images": [],
        "results": [
            {"title": p.title, "url": p.url, "content": p.text, "score": 0.9, "published_date": p.age} for p in pages
        ],
        "response_time": 0.1,
    },
}


@contextmanager
def fake_engine(name: str) -> Iterator[FakeEngine]:
    engine = FakeEngine(name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, body = engine.answer(Asked(self.command, self.path, headers, json.loads(raw) if raw else query))
            try:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        do_GET = do_POST = _serve  # noqa: N815  the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that leaves is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    engine.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        if engine.stalled is not None:
            engine.stalled.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
