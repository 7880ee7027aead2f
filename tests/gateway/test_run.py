"""One request under way: kept alive in silence, and what is written down of it."""

import gc
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from credits.types import HoldGrant, Nanos
from gateway.exchange import Exchange
from gateway.relay import PING, SILENCE_BEFORE_STATUS, SILENCE_BETWEEN_DELTAS, SILENCE_BETWEEN_PINGS, StreamState
from gateway.routing import Decision
from gateway.run import Run
from providers.types import Model, Price
from providers.wire.request import MessagesRequest

MODEL = Model(1, "m", "M", "", None, None, True, True, True, Price(1, 1, 1, 1, 1), ())
BODY = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}'


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sent() -> list[MutableMapping[str, Any]]:
    return []


@pytest.fixture
def run(clock: Clock, sent: list[MutableMapping[str, Any]]) -> Run:
    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    exchange = Exchange({"method": "POST", "path": "/v1/messages", "headers": []}, receive, send)
    made = Run(
        exchange=exchange,
        decision=Decision("default", MODEL, "m", MessagesRequest.parse(BODY)),
        plan=(),
        grant=HoldGrant(exchange.request_id, Nanos(1), 9),
        estimated_input=1,
        writer=None,  # type: ignore[arg-type]
        transport=None,  # type: ignore[arg-type]
        began=0.0,
        now=clock,
    )
    made.stream = StreamState(made)
    return made


def state_of(run: Run) -> StreamState:
    assert run.stream is not None
    return run.stream


def bodies(sent: list[MutableMapping[str, Any]]) -> list[bytes]:
    return [message["body"] for message in sent if message["type"] == "http.response.body"]


@pytest.mark.asyncio
async def test_before_any_content_the_status_waits_and_then_goes_out_with_a_ping(
    run: Run, clock: Clock, sent: list[MutableMapping[str, Any]]
) -> None:
    state = state_of(run)
    assert not state.keep_alive_due(SILENCE_BEFORE_STATUS - 1)
    assert state.keep_alive_due(SILENCE_BEFORE_STATUS)
    clock.now = SILENCE_BEFORE_STATUS
    await state.keep_alive()
    assert (sent[0]["type"], sent[0]["status"]) == ("http.response.start", 200)
    assert bodies(sent) == [PING]


@pytest.mark.asyncio
async def test_a_sent_piece_puts_the_next_ping_off(
    run: Run, clock: Clock, sent: list[MutableMapping[str, Any]]
) -> None:
    state = state_of(run)
    await state.send(b"event: x\n\n")
    assert not state.keep_alive_due(SILENCE_BETWEEN_PINGS - 1)
    clock.now = SILENCE_BETWEEN_PINGS - 1
    await state.send(b"event: y\n\n")
    assert not state.keep_alive_due(SILENCE_BETWEEN_PINGS)
    assert state.keep_alive_due(2 * SILENCE_BETWEEN_PINGS)
    await state.end(b"")
    assert not state.keep_alive_due(1000), "nothing follows the end"


@pytest.mark.asyncio
async def test_in_an_open_thinking_block_an_empty_delta_resets_the_client_s_watchdog(
    run: Run, clock: Clock, sent: list[MutableMapping[str, Any]]
) -> None:
    state = state_of(run)
    state.decoder = SimpleNamespace(open_thinking_index=3)
    run.answering = True
    await state.send(b"event: x\n\n")
    clock.now = SILENCE_BETWEEN_PINGS
    await state.keep_alive()
    assert bodies(sent)[-1] == PING
    clock.now = SILENCE_BETWEEN_DELTAS
    await state.keep_alive()
    delta = b'{"type":"content_block_delta","index":3,"delta":{"type":"thinking_delta","thinking":""}}'
    assert bodies(sent)[-1] == PING + b"event: content_block_delta\ndata: " + delta + b"\n\n"
    state.decoder = SimpleNamespace(open_thinking_index=None)
    clock.now = 3 * SILENCE_BETWEEN_DELTAS
    await state.keep_alive()
    assert bodies(sent)[-1] == PING


@pytest.mark.asyncio
async def test_a_client_that_is_gone_does_not_break_the_keeper(run: Run) -> None:
    async def broken(_: MutableMapping[str, Any]) -> None:
        raise OSError("gone")

    run.exchange._send = broken
    await state_of(run).keep_alive()


def test_what_is_written_down_of_an_attempt_under_way_is_of_that_moment(run: Run, clock: Clock) -> None:
    run.attempts.append({"provider": "p"})
    clock.now = 3.0
    early = run.facts()
    clock.now = 60.0
    late = run.facts()
    assert [facts.attempts[-1]["ms"] for facts in (early, late)] == [3000, 60000]


def test_a_run_that_is_over_is_freed_without_the_garbage_collector(run: Run) -> None:
    """It holds the request's body: some hundred of them are a lot of memory until the collector looks."""

    def referring_to_it() -> list[Any]:
        return [each for each in gc.get_referrers(run) if isinstance(each, StreamState)]

    assert referring_to_it()
    run.let_go()
    assert not referring_to_it()
