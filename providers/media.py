"""Images and documents that a customer gives by their address, fetched for targets that read no addresses.

The address is a stranger's: only http and https, only public addresses (checked right before connecting,
for every redirect anew), only the usual ports, only so many bytes and seconds, and only what is an image or
a PDF by its own first bytes. Whatever was fetched is kept for a while by its address, so that each turn of a
conversation is sent the same bytes and prompt caches hold.
"""

import asyncio
import base64
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from yarl import URL

from providers.errors import InvalidRequest, ProvidersError
from providers.transport import MALFORMED, Call, Fetched, FetchFailed, Transport
from providers.types import Model, Target
from providers.wire.base import MediaKind, ReadsAddresses, Wire
from providers.wire.request import MessagesRequest

SECONDS = 10.0
MOST_ADDRESSES = 20
"""Different ones in one request."""
MOST_BYTES: dict[MediaKind, int] = {"image": 10 * 1024 * 1024, "document": 24 * 1024 * 1024}
MOST_BYTES_TOGETHER = 30 * 1024 * 1024
AT_ONCE = 4
MOST_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
LONGEST_ADDRESS = 8_192
PORTS = {"http": 80, "https": 443}
KEPT_CHARS = 32 * 1024 * 1024
KEPT_SECONDS = 3_600.0
"""After its last use."""
PDF = "application/pdf"
MOST_DEPTH = 4


class _Refused(ProvidersError):
    """Why an address was not fetched, in words that go behind its place in the request."""


@dataclass(frozen=True, slots=True)
class Media:
    media_type: str
    data: str
    """base64"""


@dataclass(frozen=True, slots=True)
class _Given:
    """An address in a request: where it stands, and its source, which may be replaced."""

    place: str
    kind: MediaKind
    url: str
    block: dict[str, Any]


class MediaFetcher:
    """One per process."""

    def __init__(self, transport: Transport, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._monotonic = monotonic
        self._kept: OrderedDict[tuple[MediaKind, str], tuple[Media, float]] = OrderedDict()
        self._kept_chars = 0
        self._under_way: dict[tuple[MediaKind, str], asyncio.Task[Media]] = {}

    async def inlined(self, request: MessagesRequest, *, wire: Wire, target: Target, model: Model) -> MessagesRequest:
        """`request` with the bytes of what `target` does not read from its address. Raises
        InvalidRequest, which names the address's place."""
        if not request.has_media or not isinstance(wire, ReadsAddresses) or not request.mentions(b'"url"', "messages"):
            return request
        messages = request.value("messages")
        wanted = [
            given
            for given in _given(messages)
            if not wire.reads_address(given.kind, given.url, target=target, model=model)
        ]
        if not wanted:
            return request
        await self._replace(wanted)
        return request.with_fields(messages=messages)

    async def _replace(self, wanted: list[_Given]) -> None:
        first = {(given.kind, given.url): given for given in reversed(wanted)}
        if len(first) > MOST_ADDRESSES:
            raise InvalidRequest(
                f"messages: {len(first)} images and documents are given by their addresses, which this model cannot "
                f"read itself; at most {MOST_ADDRESSES} are fetched for one request. Send them as base64."
            )
        turns = asyncio.Semaphore(AT_ONCE)
        fetched = await asyncio.gather(*(self._get(given, turns) for given in first.values()))
        found = dict(zip(first, fetched, strict=True))
        if sum(len(media.data) for media in found.values()) * 3 // 4 > MOST_BYTES_TOGETHER:
            raise InvalidRequest(
                f"messages: what is given by addresses is more than {MOST_BYTES_TOGETHER // 2**20} MB together."
            )
        for given in wanted:
            media = found[given.kind, given.url]
            given.block["source"] = {"type": "base64", "media_type": media.media_type, "data": media.data}

    async def _get(self, given: _Given, turns: asyncio.Semaphore) -> Media:
        key = given.kind, given.url
        if (kept := self._recall(key)) is not None:
            return kept
        # Requests that ask for the same at the same time share one call, which none of them can cancel.
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._fetch(given.kind, given.url, turns))
            task.add_done_callback(functools.partial(self._done, key))
        try:
            media = await asyncio.shield(task)
        except _Refused as refused:
            raise InvalidRequest(f"{given.place}: {refused}. Send the {given.kind} as base64 instead.") from None
        self._keep(key, media)
        return media

    def _done(self, key: tuple[MediaKind, str], task: asyncio.Task[Media]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # all who wait may be gone

    async def _fetch(self, kind: MediaKind, url: str, turns: asyncio.Semaphore) -> Media:
        async with turns:
            try:
                async with asyncio.timeout(SECONDS):
                    body = await self._follow(kind, url)
            except TimeoutError:
                raise _Refused(f"could not be fetched (no answer within {SECONDS:g} seconds)") from None
        return Media(_sniffed(kind, body), base64.b64encode(body).decode())

    async def _follow(self, kind: MediaKind, url: str) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            fetched = await self._call(kind, self._checked(url))
            if fetched.status not in REDIRECTS or not fetched.location:
                break
            url = urljoin(url, fetched.location)
        else:
            raise _Refused(f"could not be fetched (more than {MOST_REDIRECTS} redirects)")
        if fetched.status != 200:
            raise _Refused(f"could not be fetched (its server answered HTTP {fetched.status})")
        return fetched.body

    async def _call(self, kind: MediaKind, url: str) -> Fetched:
        accept = "image/*" if kind == "image" else PDF
        try:
            return await self._transport.fetch_public(
                Call("GET", url, {"accept": accept}), seconds=SECONDS, limit=MOST_BYTES[kind]
            )
        except FetchFailed as failed:
            why = "it is malformed" if failed.reason == MALFORMED else failed.reason
            raise _Refused(f"could not be fetched ({why})") from None

    def _checked(self, url: str) -> str:
        """`url` as it is called. Raises _Refused for one that may not be."""
        if len(url) > LONGEST_ADDRESS:
            raise _Refused(f"has more than {LONGEST_ADDRESS} characters")
        try:
            parts = urlsplit(url)
            port = parts.port
            text = url if url.isascii() and url.isprintable() and " " not in url else str(URL(url))
        except ValueError:
            raise _Refused("is not an address") from None
        if parts.scheme not in PORTS or not parts.hostname:
            raise _Refused("is not an http or https address")
        if parts.username is not None or parts.password is not None:
            raise _Refused("holds a log-in, which is not sent")
        if port not in {None, PORTS[parts.scheme]} and not self._transport.allow_private_media:
            raise _Refused("names a port other than 80 or 443")
        return text.partition("#")[0]

    def _recall(self, key: tuple[MediaKind, str]) -> Media | None:
        media, until = self._kept.get(key, (None, 0.0))
        if media is None:
            return None
        if self._monotonic() > until:
            self._forget(key)
            return None
        self._kept[key] = media, self._monotonic() + KEPT_SECONDS
        self._kept.move_to_end(key)
        return media

    def _keep(self, key: tuple[MediaKind, str], media: Media) -> None:
        if key in self._kept or len(media.data) > KEPT_CHARS // 2:
            return
        self._kept[key] = media, self._monotonic() + KEPT_SECONDS
        self._kept_chars += len(media.data)
        while self._kept_chars > KEPT_CHARS:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: tuple[MediaKind, str]) -> None:
        media, _ = self._kept.pop(key)
        self._kept_chars -= len(media.data)


def _sniffed(kind: MediaKind, body: bytes) -> str:
    """The media type by the first bytes, whatever the server called it."""
    if kind == "document":
        if b"%PDF-" in body[:1024]:
            return PDF
        raise _Refused("is not a PDF file")
    for start, media_type in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
    ):
        if body.startswith(start):
            return media_type
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "image/webp"
    raise _Refused("is not a PNG, JPEG, GIF or WebP image")


def _given(messages: Any) -> Iterator[_Given]:
    """Every address of an image or a document in `messages` (decoded), in order."""
    for number, message in enumerate(messages):
        content = message.get("content")
        if message.get("role") == "user" and isinstance(content, list):
            yield from _in_blocks(content, f"messages.{number}.content")


def _in_blocks(blocks: list[Any], place: str, level: int = 0) -> Iterator[_Given]:
    if level > MOST_DEPTH:
        return
    for number, block in enumerate(blocks):
        if not isinstance(block, dict):
            continue
        here = f"{place}.{number}"
        kind, source, content = block.get("type"), block.get("source"), block.get("content")
        if kind == "tool_result" and isinstance(content, list):
            yield from _in_blocks(content, f"{here}.tool_result.content", level + 1)
        elif kind in ("image", "document") and isinstance(source, dict):
            if source.get("type") == "url" and isinstance(source.get("url"), str):
                yield _Given(f"{here}.{kind}.source.url", kind, source["url"], block)
            elif isinstance(source.get("content"), list):
                yield from _in_blocks(source["content"], f"{here}.{kind}.source.content", level + 1)
