"""Reading bodies: limits, gzip, and a client that leaves."""

import asyncio
import gzip
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway import exchange as module
from gateway.errors import GatewayError
from gateway.exchange import Exchange, new_request_id


def make(pieces: list[bytes], headers: dict[str, str] | None = None, sent: list[Any] | None = None) -> Exchange:
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1} for n, piece in enumerate(pieces)
    ]
    queue = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> MutableMapping[str, Any]:
        return next(queue)

    async def send(message: MutableMapping[str, Any]) -> None:
        if sent is not None:
            sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Exchange({"method": "POST", "path": "/v1/messages", "headers": raw}, receive, send)


@pytest.mark.asyncio
async def test_a_body_in_pieces_is_put_together() -> None:
    assert await make([b"ab", b"", b"c"]).body() == b"abc"


@pytest.mark.asyncio
async def test_a_gzipped_body_is_read() -> None:
    body = json.dumps({"a": "b" * 1000}).encode()
    assert await make([gzip.compress(body, mtime=0)], {"content-encoding": "gzip"}).body() == body


@pytest.mark.asyncio
async def test_a_body_over_the_limit_is_refused_with_413(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 10)
    with pytest.raises(GatewayError) as error:
        await make([b"x" * 6, b"x" * 6]).body()
    assert (error.value.status, error.value.type) == (413, "request_too_large")
    assert await make([b"x" * 10]).body() == b"x" * 10


@pytest.mark.asyncio
async def test_a_gzip_bomb_is_refused_without_being_blown_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 100_000)
    bomb = gzip.compress(b"0" * 50_000_000, mtime=0)
    assert len(bomb) < 100_000
    with pytest.raises(GatewayError) as error:
        await make([bomb], {"content-encoding": "gzip"}).body()
    assert error.value.status == 413


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (b"not gzip", "gzip", "not valid gzip"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], "gzip", "cut short"),
        (b"x", "br", "'br' is not supported"),
    ],
)
async def test_a_wrong_encoding_is_named(body: bytes, encoding: str, says: str) -> None:
    with pytest.raises(GatewayError, match=says) as error:
        await make([body], {"content-encoding": encoding}).body()
    assert error.value.status == 400


@pytest.mark.asyncio
async def test_a_client_that_leaves_cancels_the_work() -> None:
    exchange = make([])

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        watcher = asyncio.create_task(exchange.watch_disconnect(task))
        try:
            await asyncio.Event().wait()
        finally:
            await watcher

    with pytest.raises(asyncio.CancelledError):
        await work()
    assert exchange.disconnected


@pytest.mark.asyncio
async def test_the_end_of_an_answer_is_not_taken_for_a_client_that_left() -> None:
    exchange = make([])
    await exchange.answer_json({})
    task = asyncio.current_task()
    assert task is not None
    await exchange.watch_disconnect(task)
    assert not exchange.disconnected


@pytest.mark.asyncio
async def test_every_answer_names_its_request() -> None:
    sent: list[Any] = []
    exchange = make([], sent=sent)
    await exchange.answer_error(GatewayError(402, "billing_error", "Top up.", should_retry=False))
    headers = dict(sent[0]["headers"])
    assert headers[b"request-id"] == headers[b"x-ccm-request-id"] == exchange.request_id.encode()
    assert headers[b"x-should-retry"] == b"false"
    assert json.loads(sent[1]["body"]) == {
        "type": "error",
        "error": {"type": "billing_error", "message": "Top up."},
        "request_id": exchange.request_id,
    }


def test_request_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:15] for i in ids] == sorted(i[:15] for i in ids)
