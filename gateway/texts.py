"""Prompt logging: the text of requests and answers, for organisations that switched it on (`Principal.keeps_text`).

While it is off a request pays one look at an attribute. While it is on its bytes are collected on their way out, up to
MOST_BYTES; they are compressed, encrypted and stored after the answer, on a thread of the database. What cannot be
stored is dropped, and the log says so without the text."""

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from gateway.models import RequestText
from providers import crypto

log = structlog.get_logger("ccm.texts")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_BYTES = 512 * 1024
"""Kept of a request, and of its answer."""
MOST_WAITING = 64
BATCH = 500


class Recording:
    """Stands where an exchange sends: passes everything on, and keeps a copy of the body."""

    __slots__ = ("_send", "_size", "answer", "organization_id", "request", "request_id")

    def __init__(self, send: Send, request_id: str, organization_id: int, request: bytes) -> None:
        self._send = send
        self._size = 0
        self.request_id = request_id
        self.organization_id = organization_id
        self.request = request[:MOST_BYTES]
        self.answer: list[bytes] = []

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        body = message.get("body")
        if body and self._size < MOST_BYTES:
            part = body[: MOST_BYTES - self._size]
            self._size += len(part)
            self.answer.append(part)
        await self._send(message)


class TextKeeper:
    """Stores recordings one after the other; `run_blocking` is the runtime's database thread."""

    def __init__(self, run_blocking: Callable[..., Awaitable[Any]]) -> None:
        self._run_blocking = run_blocking
        self._waiting: deque[Recording] = deque()
        self._wake = asyncio.Event()

    def keep(self, recording: Recording) -> None:
        """Never waits and never fails."""
        if len(self._waiting) >= MOST_WAITING:
            log.warning("text_not_kept", request_id=recording.request_id, error="too many are waiting")
            return
        self._waiting.append(recording)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        while self._waiting:
            recording = self._waiting.popleft()
            try:
                await self._run_blocking(store, recording)
            except Exception as error:
                log.warning("text_not_kept", request_id=recording.request_id, error=type(error).__name__)


def store(recording: Recording) -> None:
    """Nothing is stored for an organisation that has switched it off meanwhile."""
    content = msgspec.msgpack.encode((recording.request, b"".join(recording.answer)))
    sealed = crypto.encrypt_bytes(zlib.compress(content))
    with transaction.atomic():
        wanted = Organization.objects.select_for_update().filter(pk=recording.organization_id, keeps_text=True)
        if wanted.values_list("pk", flat=True).first() is not None:
            RequestText.objects.create(
                request_id=recording.request_id, organization_id=recording.organization_id, sealed=sealed
            )


@dataclass(frozen=True, slots=True)
class Text:
    """`request` and `answer` as they went over the wire; `cut` tells that one was longer than is kept."""

    request_id: str
    at: datetime
    request: str
    answer: str
    cut: bool


def text_of(organization_id: int, request_id: str) -> Text | None:
    row = RequestText.objects.filter(organization_id=organization_id, request_id=request_id).first()
    return None if row is None else _opened(row)


def texts_of(organization_id: int) -> Iterator[Text]:
    """All that are kept, by request id, each batch a query of its own."""
    last = ""
    rows = RequestText.objects.filter(organization_id=organization_id).order_by("request_id")
    while batch := list(rows.filter(request_id__gt=last)[:20]):
        yield from filter(None, map(_opened, batch))
        last = batch[-1].request_id


def _opened(row: RequestText) -> Text | None:
    """None when no key fits any more."""
    content = crypto.decrypt_bytes(row.sealed)
    if content is None:
        return None
    request, answer = msgspec.msgpack.decode(zlib.decompress(content), type=tuple[bytes, bytes])
    cut = MOST_BYTES in {len(request), len(answer)}
    return Text(row.request_id, row.created_at, request.decode(errors="replace"), answer.decode(errors="replace"), cut)


def forget(organization_id: int) -> None:
    """Delete all of an organisation's."""
    RequestText.objects.filter(organization_id=organization_id).delete()


def delete_old(now: datetime | None = None) -> int:
    """How many were older than TEXT_RETENTION_DAYS. May run twice, or beside itself."""
    before = (now or timezone.now()) - timedelta(days=settings.TEXT_RETENTION_DAYS)
    deleted = 0
    while ids := list(RequestText.objects.filter(created_at__lt=before).values_list("pk", flat=True)[:BATCH]):
        deleted += RequestText.objects.filter(pk__in=ids).delete()[0]
    return deleted
