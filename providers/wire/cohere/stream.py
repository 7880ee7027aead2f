"""Cohere's event stream, read into Anthropic's events."""

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.cohere.answer import Answer, Event
from providers.wire.cohere.errors import broken_answer, failure_in_answer
from providers.wire.errors import error_parts
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest
from providers.wire.sequence import BlockSseEmitter
from providers.wire.sse import EventTooLarge, SseParser

MAX_HEAD = 64 * 1024
_event = msgspec.json.Decoder(Event)


class CohereStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere. The answer ends with `message-end`, which
    holds its usage; whatever comes later is not read."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._target = target
        self._parser = SseParser()
        self._emitter = BlockSseEmitter(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(self._emitter, request=request, target=target, model=model)
        self._blocks = self._answer.blocks
        self._head = b""
        """What came before the first event: a stream that has none is an error page or JSON."""
        self._has_events = False
        self.usage = self._answer.usage
        self.has_content = False
        self.finished = False
        self.failure: UpstreamFailure | None = None
        self.stop_reason: str | None = None
        self.output_chars = 0
        self.open_thinking_index: int | None = None

    def feed(self, data: bytes) -> bytes:
        if self._is_over():
            return b""
        try:
            events = self._parser.feed(data)
        except EventTooLarge:
            self.failure = broken_answer(self._target, "sent an event of more than 16 MiB")
            return b""
        if not self._has_events:
            self._has_events = bool(events)
            self._head = b"" if events else (self._head + data)[:MAX_HEAD]
        for _, payload in events:
            self._take(payload)
            if self._is_over():
                break
        return self._taken()

    def close(self) -> bytes:
        if self._is_over():
            return b""
        if not self._has_events and not self._head.lstrip().startswith((b"event:", b"data:")):
            self.failure = self._no_stream()
            return b""
        for _, payload in self._parser.rest():
            if not self._is_over() and _is_whole(payload):
                self._take(payload)
        if not self._is_over():
            self.failure = broken_answer(self._target, "cut its answer off before the end")
        return self._taken()

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _take(self, payload: bytes) -> None:
        if not payload.startswith(b"{"):
            return
        try:
            event = _event.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.failure = broken_answer(self._target, "sent an event that cannot be read")
            return
        if not event.type and (said := error_parts(payload)[1]):
            self.failure = failure_in_answer(said, target=self._target)
            return
        self.failure = self._answer.add(event)
        if self._answer.ended:
            self.stop_reason, stop_sequence = self._answer.end()
            self._emitter.stop(self.stop_reason, stop_sequence, self.usage)
            self.finished = True

    def _taken(self) -> bytes:
        self.has_content = self._emitter.started or self.finished
        self.output_chars = self._blocks.chars
        self.open_thinking_index = self._emitter.index if self._blocks.open == "thinking" else None
        return self._emitter.take()

    def _no_stream(self) -> UpstreamFailure:
        """A 200 that holds no event at all: an error after all, a page, or nothing."""
        said = error_parts(self._head)[1]
        if said:
            return failure_in_answer(said, target=self._target)
        if self._head.strip():
            return broken_answer(self._target, "answered with something that is not an event stream")
        return broken_answer(self._target, "cut its answer off before the end")


def _is_whole(payload: bytes) -> bool:
    """Whether the last event, which no blank line ended, has arrived entirely."""
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
