"""A stream of GenerateContentResponses, read into Anthropic's events."""

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.gemini.answer import THINKING, Answer, Ending
from providers.wire.gemini.chunks import decode_chunk, decode_chunks
from providers.wire.gemini.emitters import GeminiSse
from providers.wire.gemini.errors import broken_answer
from providers.wire.gemini.shortcut import TextShortcut
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest
from providers.wire.sse import EventTooLarge, SseParser

MAX_HEAD = 16 * 1024 * 1024
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class GeminiStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere.

    `message_start` leaves together with the first block's start, so that nothing is sent before
    there is content. The answer ends with the stream itself: older models say a finish reason in
    every chunk, and usage and sources may come after it."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._target = target
        self._parser = SseParser()
        self._emitter = GeminiSse(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(self._emitter, request=request, target=target, model=model)
        self._shortcut = TextShortcut()
        self._skipped = b""
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
        if self._shortcut.is_known and self._answer.takes_text and self._parser.is_between_events:
            data = self._pass_text_on(data)
            if not data:
                return self._taken()
        try:
            events = self._parser.feed(data)
        except EventTooLarge:
            self.failure = broken_answer(self._target, "sent an event of more than 16 MiB")
            return b""
        if not self._has_events:
            self._has_events = bool(events)
            self._head = b"" if events else (self._head + data)[:MAX_HEAD]
        for _, payload in events:
            self._event(payload)
            if self._is_over():
                break
        return self._taken()

    def _pass_text_on(self, data: bytes) -> bytes:
        """Take the short way as far as it goes; what is left of `data`."""
        blank = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
        start = 0
        while (end := data.find(blank, start)) >= 0:
            known = self._shortcut.text(data[start:end])
            if known is None:
                break
            self._emitter.json_piece(known[0])
            self._answer.chars += known[1]
            self._skipped = data[start:end]
            start = end + len(blank)
        return data[start:]

    def _count_skipped(self) -> None:
        """The counts of the last chunk that went the short way: later ones may leave them out."""
        if self._skipped:
            payload, self._skipped = self._skipped.removeprefix(b"data: "), b""
            self._answer.count(decode_chunk(payload))

    def close(self) -> bytes:
        if self._is_over():
            return b""
        self._count_skipped()
        for _, payload in self._parser.rest():
            # A last event without its blank line counts if it is whole.
            if _is_json(payload):
                self._has_events = True
                self._event(payload)
        if not self._has_events:
            self._read_head()
        if not self._is_over():
            self._end()
        return self._taken()

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _taken(self) -> bytes:
        self.has_content = self._emitter.started or self.finished
        self.output_chars = self._answer.chars
        self.open_thinking_index = self._emitter.index if self._answer.open is THINKING else None
        return self._emitter.take()

    def _event(self, payload: bytes) -> None:
        if not payload:
            return
        self._count_skipped()
        try:
            chunk = decode_chunk(payload)
        except UNREADABLE:
            self.failure = broken_answer(self._target, "sent an event that cannot be read")
            return
        self.failure = self._answer.add(chunk, payload)
        if self._answer.takes_text:
            self._shortcut.learn(payload, chunk)

    def _end(self) -> None:
        if self._answer.finish_reason is None:
            self.failure = broken_answer(self._target, "cut its answer off before the end")
            return
        ending = self._answer.end()
        if not isinstance(ending, Ending):
            self.failure = ending
            return
        self._emitter.end(ending.fields(), self.usage)
        self.stop_reason = ending.stop_reason
        self.finished = True

    def _read_head(self) -> None:
        """A 200 that is no event stream: an error, or the answer as JSON after all."""
        try:
            chunks = decode_chunks(self._head)
        except UNREADABLE:
            if self._head.strip():
                self.failure = broken_answer(self._target, "answered with something that is not an event stream")
            return
        for chunk in chunks:
            self.failure = self.failure or self._answer.add(chunk, self._head)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True
