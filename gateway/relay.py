"""From the first target to the client's last byte (architecture 3.7).

Targets are tried as `resilience.course` says until one yields its first content; till then nothing
has been sent, so failover is invisible and an error keeps its HTTP status. Afterwards a failure is
an SSE `error` event, never a false end. The answer is settled before its last bytes are
sent, so that nothing that arrived whole is unpaid.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import structlog

from gateway import metrics
from gateway.errors import GatewayError, from_failure
from gateway.exchange import EVENT_STREAM
from gateway.resilience import Attempt
from gateway.resilience.course import Course, Pause
from gateway.run import Run
from gateway.safety import SafetyCheck, check_for
from providers.errors import InvalidRequest, UpstreamError
from providers.types import RetryClass, Target, UpstreamFailure
from providers.wire.base import OutboundRequest, StreamDecoder, Wire
from providers.wire.bounds import TOO_DEEP
from providers.wire.registry import WIRES
from providers.wire.sse import render

if TYPE_CHECKING:
    from providers.transport import UpstreamResponse

log = structlog.get_logger("ccm.relay")

PING = render("ping", b'{"type": "ping"}')
SILENCE_BEFORE_STATUS = 200.0
"""Seconds without content until the status line goes out after all: the client gives up at 300."""
SILENCE_BETWEEN_PINGS = 15.0
SILENCE_BETWEEN_DELTAS = 60.0
READ_OUT_SECONDS = 2.0
MAX_ERROR_BYTES = 1024 * 1024
MAX_RESPONSE_BYTES = 64 * 1024 * 1024


async def relay(run: Run) -> None:
    """Serve the held request. Returns when the client has its answer, be it an error."""
    course = Course(
        run.resilience,
        run.plan,
        session_id=run.decision.session_id,
        model_id=run.model.id,
        model_name=run.model.name,
    )
    refusal: InvalidRequest | None = None
    while (step := course.next()) is not None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            continue
        with contextlib.closing(step):
            try:
                failure = await _attempt(run, course, step)
            except InvalidRequest as error:  # not for this target; another one may take it
                refusal = refusal or error
                course.refused()
                continue
            if failure is None:
                return
            course.failed(step, failure)
        if failure.drop_reasoning:
            run.drop_reasoning()
    if refusal is not None and course.all_refused:
        raise refusal
    await _fail(run, from_failure(course.failure))


async def _outbound(run: Run, target: Target, wire: Wire) -> OutboundRequest:
    """The target's request. Raises InvalidRequest for what cannot be said to this target."""
    request = run.request
    if run.media is not None:
        request = await run.media.inlined(request, wire=wire, target=target, model=run.model)
    try:
        return wire.encode(
            request,
            target=target,
            model=run.model,
            max_tokens=run.max_tokens,
            client_headers=run.exchange.headers,
        )
    except RecursionError:
        raise InvalidRequest(f"messages: {TOO_DEEP}") from None


async def _attempt(run: Run, course: Course, attempt: Attempt) -> UpstreamFailure | None:
    """One call to one target: None when the client has its answer, else why it has not. Raises
    InvalidRequest before the call."""
    target = attempt.target
    wire: Wire = WIRES[target.wire]
    outbound = await _outbound(run, target, wire)
    run.begin_attempt(target)
    try:
        upstream = await run.transport.open(
            outbound, target=target, credential=attempt.credential, messages=run.request
        )
        try:
            if upstream.status >= 300:
                body = await upstream.read(MAX_ERROR_BYTES)
                raise UpstreamError(wire.decode_error(upstream.status, upstream.headers, body, target=target))
            run.request.drop_copies()
            if run.request.stream:
                await _relay_stream(run, upstream, wire, course, attempt)
            else:
                await _relay_whole(run, upstream, wire, course, attempt)
        finally:
            upstream.close()
    except UpstreamError as error:
        run.end_attempt(error.failure)
        return error.failure
    return None


async def _relay_whole(run: Run, upstream: "UpstreamResponse", wire: Wire, course: Course, attempt: Attempt) -> None:
    body = await upstream.read(MAX_RESPONSE_BYTES)
    response = wire.decode_response(body, request=run.request, target=attempt.target, model=run.model)
    course.served(attempt, streamed=False)
    attempt.succeeded()
    run.decoded(response)
    check = check_for(run.request, attempt.target, run.judge)
    answer = await check.whole(response.body) if check else response.body
    if run.search is not None:
        answer = await run.search(answer)
    settlement = await run.settle()
    await run.exchange.answer(200, answer, [*run.headers(), *run.cost_header(settlement)])


async def _relay_stream(run: Run, upstream: "UpstreamResponse", wire: Wire, course: Course, attempt: Attempt) -> None:
    target = attempt.target
    if "text/html" in upstream.headers.get("content-type", ""):
        raise UpstreamError(_not_a_stream(target))
    assert run.stream is not None
    decoder = run.stream.decoder = wire.stream_decoder(request=run.request, target=target, model=run.model)
    check = check_for(run.request, target, run.judge)
    async with contextlib.aclosing(upstream.chunks()) as chunks, contextlib.AsyncExitStack() as ending:
        if check is not None:
            ending.callback(check.cancel)
        served = functools.partial(course.served, attempt, streamed=True)
        tail = await _relay_content(run, decoder, chunks, check, served)
        if decoder.failure is not None:
            await _break_off(run, decoder.failure, decoder, tail, attempt)
            return
        if not run.answering:
            served()
        run.note_first_content()
        run.stream_finished()
        attempt.succeeded(run.reading().output)
        if check is not None:
            tail += await check.finish()
        if run.search is not None:
            tail = await run.search(tail)
        await run.settle()
        await run.stream.end(tail)
        if not upstream.at_end:
            await _read_to_the_end(chunks)


async def _relay_content(
    run: Run,
    decoder: StreamDecoder,
    chunks: AsyncGenerator[bytes],
    check: SafetyCheck | None,
    served: Callable[[], None],
) -> bytes:
    """Send on what the decoder makes of the stream, from its first content to its end or failure.
    Returns the last piece, unsent. `check` reads along and keeps the end back; `served` is called
    when the first content is here."""
    assert run.stream is not None
    passed = check.feed if check is not None else bytes
    held: list[bytes] = []
    try:
        async for piece in chunks:
            data = passed(decoder.feed(piece))
            if decoder.finished or decoder.failure is not None:
                return b"".join((*held, data))
            if run.answering:
                if data:
                    run.note_progress(decoder.output_chars)
                    await run.stream.send(data)
                continue
            held.append(data)
            if decoder.has_content:
                served()
                run.note_first_content()
                await run.stream.send(b"".join(held))
                held.clear()
    except UpstreamError as error:
        rest = passed(decoder.close())
        if not decoder.finished:
            decoder.failure = error.failure
        return b"".join((*held, rest))
    return b"".join((*held, passed(decoder.close())))


async def _break_off(run: Run, failure: UpstreamFailure, decoder: StreamDecoder, tail: bytes, attempt: Attempt) -> None:
    """The stream failed: as an attempt while it had no content, else to the client's face."""
    assert run.stream is not None
    if not run.answering and not decoder.has_content:
        raise UpstreamError(failure)
    attempt.failed(failure)
    run.note_first_content()
    run.end_attempt(failure)
    if tail:
        await run.stream.send(tail)
    await _fail(run, from_failure(failure))


async def _read_to_the_end(chunks: AsyncGenerator[bytes]) -> None:
    """After the regular end a provider has next to nothing more to say. Reading it lets the
    connection serve the next request."""
    with contextlib.suppress(TimeoutError, UpstreamError):
        async with asyncio.timeout(READ_OUT_SECONDS):
            async for _ in chunks:
                pass


async def _fail(run: Run, error: GatewayError) -> None:
    """Tell the client: with a status while none was sent, else as an event in the stream."""
    run.failed(error)
    await run.settle()
    if run.stream is not None and run.exchange.started:
        await run.stream.end(render("error", error.event_data(run.exchange.request_id)))
    else:
        await run.exchange.answer_error(error, run.headers())


def _not_a_stream(target: Target) -> UpstreamFailure:
    return UpstreamFailure(
        status=500,
        type="api_error",
        message=(
            f"The provider {target.provider} answered with a web page instead of a stream. "
            "Its base URL is probably wrong; this is the operator's to mend. Nothing was charged."
        ),
        retry=RetryClass.NEXT_TARGET,
        should_retry=False,
    )


class StreamState:
    """The client's side of a stream: what was sent when, and keeping it alive in silence."""

    __slots__ = ("_ended", "_last_delta", "_last_sent", "_run", "_sending", "decoder")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sending = False
        self._ended = False
        self._last_sent = self._last_delta = run.now()
        self.decoder: StreamDecoder | None = None

    async def send(self, data: bytes) -> None:
        """Send whole events; the status line first where it has not gone out yet."""
        self._sending = True
        if not self._run.exchange.started:
            await self._start()
        await self._run.exchange.write(data)
        self._last_sent = self._last_delta = self._run.now()
        self._sending = False

    async def end(self, data: bytes) -> None:
        self._ended = True
        if not self._run.exchange.started:
            await self._start()
        await self._run.exchange.finish(data)

    async def _start(self) -> None:
        await self._run.exchange.start(
            200,
            [EVENT_STREAM, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"), *self._run.headers()],
        )

    def keep_alive_due(self, now: float) -> bool:
        if self._ended or self._sending:
            return False
        limit = SILENCE_BETWEEN_PINGS if self._run.exchange.started else SILENCE_BEFORE_STATUS
        return now - self._last_sent >= limit

    async def keep_alive(self) -> None:
        """A ping; where a thinking block is open also an empty delta of it, since pings alone do
        not reset the older client's watchdog (claude-code-client.md, streaming failures)."""
        now = self._run.now()
        data = PING
        index = self.decoder.open_thinking_index if self.decoder else None
        if index is not None and self._run.answering and now - self._last_delta >= SILENCE_BETWEEN_DELTAS:
            self._last_delta = now
            delta = b'{"type":"content_block_delta","index":%d,"delta":{"type":"thinking_delta","thinking":""}}'
            data += render("content_block_delta", delta % index)
        self._last_sent = now
        metrics.PINGS.inc()
        try:
            if not self._run.exchange.started:
                await self._start()
            if not self._ended:
                await self._run.exchange.write(data)
        except (OSError, asyncio.CancelledError):
            log.debug("keep_alive_failed", request_id=self._run.exchange.request_id)
