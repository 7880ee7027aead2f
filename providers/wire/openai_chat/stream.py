"""A Chat Completions stream, read into Anthropic's events."""

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.errors import error_parts
from providers.wire.openai_chat.answer import Answer
from providers.wire.openai_chat.assembler import THINKING
from providers.wire.openai_chat.chunks import Chunk, NotAChunk, decode_chunk
from providers.wire.openai_chat.emitters import SseEmitter
from providers.wire.openai_chat.errors import broken_answer, failure_in_stream
from providers.wire.openai_chat.reasoning import signature
from providers.wire.openai_chat.shortcut import TextShortcut
from providers.wire.request import MessagesRequest
from providers.wire.sse import EventTooLarge, SseParser

DONE = b"[DONE]"
MAX_HEAD = 1024 * 1024
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class OpenAIChatStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere.

    `message_start` leaves together with the first block's start, so that nothing is sent
    before there is content. The end waits for `[DONE]` or the stream's own end, because
    usage comes after the finish reason."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._target = target
        self._parser = SseParser()
        self._emitter = SseEmitter(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(self._emitter, request=request, target=target)
        self._blocks = self._answer.blocks
        self._shortcut = TextShortcut()
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
        if self._shortcut.is_known and self._blocks.takes_text and self._parser.is_between_events:
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
        for name, payload in events:
            self._event(name, payload)
            if self._is_over():
                break
        return self._taken()

    def _pass_text_on(self, data: bytes) -> bytes:
        """Take the short way as far as it goes; what is left of `data`."""
        start = 0
        while (end := data.find(b"\n\n", start)) >= 0:
            text = self._shortcut.text(data[start:end])
            if text is None:
                break
            try:
                chars = len(text) if text.isascii() else len(text.decode())
            except UnicodeDecodeError:
                break
            self._emitter.json_piece(text)
            self._blocks.chars += chars
            start = end + 2
        return data[start:]

    def close(self) -> bytes:
        if self._is_over():
            return b""
        for name, payload in self._parser.rest():
            self._has_events = True
            if payload == DONE or _is_json(payload):
                self._event(name, payload)
        if not self._has_events:
            self._read_head()
        if not self._is_over():
            if self._answer.finish_reason is not None:
                self._end()
            else:
                self.failure = broken_answer(self._target, "cut its answer off before the end")
        return self._taken()

    def _is_over(self) -> bool:
        return self.failure is not None or self.finished

    def _taken(self) -> bytes:
        self.has_content = self._emitter.started or self.finished
        self.output_chars = self._blocks.chars
        self.open_thinking_index = self._emitter.index if self._blocks.open is THINKING else None
        return self._emitter.take()

    def _event(self, name: str, payload: bytes) -> None:
        if payload == DONE:
            self._done()
            return
        if not payload:
            return
        try:
            chunk = decode_chunk(payload)
        except NotAChunk as said:
            self.failure = failure_in_stream(payload if said.text else b"", target=self._target)
        except UNREADABLE:
            self.failure = broken_answer(self._target, "sent an event that is not JSON")
        else:
            if chunk is not None:
                self._add(name, chunk, payload)

    def _add(self, name: str, chunk: Chunk, payload: bytes) -> None:
        if name == "error" or (chunk.choices is None and error_parts(payload)[1]):
            self.failure = failure_in_stream(payload, target=self._target)
        else:
            self.failure = self._answer.add(chunk, payload)
            if self.failure is None and not name:
                self._shortcut.learn(payload, chunk)

    def _done(self) -> None:
        """`[DONE]` without a finish reason ends an answer too, if the answer is whole."""
        if self._answer.finish_reason is None and not (self._emitter.started and self._blocks.is_whole):
            self.failure = broken_answer(
                self._target, "ended its answer without content or in the middle of a tool call"
            )
            return
        self._end()

    def _end(self) -> None:
        stop_reason, stop_sequence = self._answer.end()
        self._emitter.stop(stop_reason, stop_sequence, self.usage)
        self.stop_reason = stop_reason
        self.finished = True

    def _read_head(self) -> None:
        """A 200 that is no event stream: an error, or the whole answer as JSON after all."""
        if not _is_json(self._head):
            if self._head.strip():
                self.failure = broken_answer(self._target, "answered with something that is not an event stream")
            return
        self._event("", self._head)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True
