"""What the decoders of all wires share that are not Anthropic's own: see `providers.wire.base.StreamDecoder`.

A wire says what its events mean; when a stream is over, broken, cut off or no stream at all is the same for
all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.base import DecodedResponse
from providers.wire.blocks import THINKING, Blocks
from providers.wire.emitters import MessageEmitter, SseEmitter, message_object, new_message_id
from providers.wire.errors import broken_answer
from providers.wire.request import MessagesRequest
from providers.wire.runs import Run, TextRuns
from providers.wire.shown import shown_usage, stop_details
from providers.wire.sse import EventTooLarge, SseParser, end_of_event, parsed

MAX_HEAD = 16 * 1024 * 1024
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Answer(Protocol):
    """One answer on its way: a wire's own."""

    usage: Usage

    @property
    def blocks(self) -> Blocks: ...

    @property
    def place(self) -> object:
        """Where more text may go as it is right now; None when it has to be looked at."""
        ...


class AnswerDecoder:
    """`message_start` leaves together with the first block's start, so that nothing is sent before
    there is content."""

    def __init__(
        self, answer: Answer, *, emitter: SseEmitter, request: MessagesRequest, target: Target, runs: TextRuns
    ) -> None:
        self._request = request
        self._target = target
        self._emitter = emitter
        self._blocks = answer.blocks
        self._told = answer
        self._runs = runs
        self.usage = answer.usage
        self.has_content = False
        self.finished = False
        self.failure: UpstreamFailure | None = None
        self.stop_reason: str | None = None
        self.output_chars = 0
        self.open_thinking_index: int | None = None

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _break(self, what: str) -> None:
        self.failure = broken_answer(self._target, what)

    def _end(self, stop_reason: str, stop_sequence: str | None = None, **details: Any) -> None:
        """The answer's regular end."""
        usage = shown_usage(self.usage, self._request, self._blocks.chars)
        self._emitter.stop(stop_reason, stop_sequence, usage, **stop_details(stop_reason, details))
        self.stop_reason = stop_reason
        self.finished = True

    def _is_known(self, events: bytes, start: int = 0) -> bool:
        """Whether the short way is open to the event at `start`."""
        place = self._runs.place
        return place is not None and self._runs.knows(events, start) and place is self._told.place

    def _pass_on(self, events: bytes, start: int = 0) -> Run:
        """Take the short way from `start` as far as it goes. A run without texts has not been taken."""
        run = self._runs.run(events, start)
        if run.texts:
            self._emitter.pass_on(run.texts)
            self._blocks.chars += run.chars
            self._note_passed(run, events)
        return run

    def _note_passed(self, run: Run, events: bytes) -> None:
        """What a wire remembers of events that went the short way."""

    def _taken(self) -> bytes:
        self.has_content = self._emitter.started or self.finished
        self.output_chars = self._blocks.chars
        self.open_thinking_index = self._emitter.index if self._blocks.open is THINKING else None
        return self._emitter.take()


class SseDecoder(AnswerDecoder, ABC):
    """Of a stream of server-sent events. Bytes may be cut anywhere."""

    def __init__(
        self, answer: Answer, *, emitter: SseEmitter, request: MessagesRequest, target: Target, runs: TextRuns
    ) -> None:
        super().__init__(answer, emitter=emitter, request=request, target=target, runs=runs)
        self._parser = SseParser()
        self._part = b""
        """The event at hand, as it came."""
        self._head = b""
        """What came before the first event: a stream that has none is an error page or JSON."""
        self._has_events = False

    def feed(self, data: bytes) -> bytes:
        if self._is_over():
            return b""
        try:
            events = self._parser.whole(data)
        except EventTooLarge:
            self._break("sent an event of more than 16 MiB")
            return b""
        if events:
            self._take(events)
        if not self._has_events:
            self._head = (self._head + data)[:MAX_HEAD]
        return self._taken()

    def _take(self, events: bytes) -> None:
        start, decode_until = 0, 0
        while start < len(events) and not self._is_over():
            if start >= decode_until and self._is_known(events, start):
                run = self._pass_on(events, start)
                if run.texts:
                    start = run.end
                    continue
                decode_until = run.end
            end = end_of_event(events, start)
            self._part = events[start:end]
            event = parsed(self._part[:-2])
            if event is not None:
                self._has_events = True
                self._event(*event)
            start = end

    def _learn(self, text: str) -> None:
        """The event at hand says nothing but that `text` goes on."""
        self._runs.learn(self._part, text, self._told.place)

    def close(self) -> bytes:
        if self._is_over():
            return b""
        for name, payload in self._parser.rest():
            # A last event without its blank line counts if it is whole.
            if self._is_whole(payload):
                self._has_events = True
                self._event(name, payload)
        if not self._has_events and not self._is_over():
            self._no_events(self._head)
        if not self._is_over():
            self._cut_off()
        return self._taken()

    def _is_whole(self, payload: bytes) -> bool:
        return is_json(payload)

    # -- what a wire says

    @abstractmethod
    def _event(self, name: str, payload: bytes) -> None:
        """One event."""

    @abstractmethod
    def _no_events(self, head: bytes) -> None:
        """A 200 that is no event stream: an error, or the whole answer as JSON after all, or nothing."""

    def _cut_off(self) -> None:
        """The bytes are over, and the answer was not ended."""
        self._break("cut its answer off before the end")

    def _no_stream(self) -> None:
        self._break("answered with something that is not an event stream")


def decoded_message(
    emitter: MessageEmitter,
    answer: Answer,
    *,
    request: MessagesRequest,
    model: Model,
    stop_reason: str,
    stop_sequence: str | None,
    details: Mapping[str, Any] | None = None,
) -> DecodedResponse:
    """A whole answer that has been written into `emitter`. `details` are what belongs to the stop reason."""
    message = message_object(
        new_message_id(),
        model.name,
        content=emitter.content,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        usage=shown_usage(answer.usage, request, answer.blocks.chars),
    )
    return DecodedResponse(
        body=msgspec.json.encode({**message, **stop_details(stop_reason, details)}),
        usage=answer.usage,
        stop_reason=stop_reason,
        output_chars=answer.blocks.chars,
    )


def is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True
