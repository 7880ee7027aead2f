"""A stream of the Responses API, read into Anthropic's events."""

import msgspec

from providers.types import Model, Target, UpstreamFailure
from providers.wire.openai_responses.answer import Answer
from providers.wire.openai_responses.assembler import CONTENT, SUMMARY
from providers.wire.openai_responses.blocks import THINKING
from providers.wire.openai_responses.emitters import SseEmitter
from providers.wire.openai_responses.errors import broken_answer, failure_in_answer
from providers.wire.openai_responses.events import Event, NotAnEvent, decode_event
from providers.wire.openai_responses.shortcut import TextShortcut
from providers.wire.request import MessagesRequest
from providers.wire.sse import EventTooLarge, SseParser

DONE = b"[DONE]"
MAX_HEAD = 1024 * 1024
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}


class OpenAIResponsesStreamDecoder:
    """See `StreamDecoder`. Bytes may be cut anywhere.

    `message_start` leaves together with the first block's start, so that nothing is sent before
    there is content. The end is the response's own end: nothing else proves that it is whole."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._target = target
        self._parser = SseParser()
        self._emitter = SseEmitter(model_name=model.name, signature="")
        self._answer = Answer(self._emitter, request=request, target=target, model=model)
        self._blocks = self._answer.blocks
        self._items = self._answer.items
        self._shortcut = TextShortcut()
        self._text_key: int | str | None = None
        self._text_part = 0
        self._said: list[str] | None = None
        """Where the texts go that the item under `_text_key` says, while it is the one being written."""
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
        if self._said is not None and self._shortcut.is_known and self._parser.is_between_events:
            data = self._pass_text_on(data, self._said)
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

    def _pass_text_on(self, data: bytes, said: list[str]) -> bytes:
        """Take the short way as far as it goes; what is left of `data`."""
        start = 0
        while self._blocks.takes_text and (found := self._shortcut.match(data, start)) is not None:
            try:
                text = found[1].decode()
            except UnicodeDecodeError:
                break
            start = found.end()
            if text:
                said.append(text)
                self._emitter.json_piece(found[1])
                self._blocks.chars += len(text)
        return data[start:]

    def close(self) -> bytes:
        if self._is_over():
            return b""
        for name, payload in self._parser.rest():
            self._has_events = True
            if _is_json(payload):
                self._event(name, payload)
        if not self._has_events:
            self._read_head()
        if not self._is_over():
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
        if payload == DONE or not payload:
            return
        try:
            event = decode_event(payload)
        except NotAnEvent:
            return
        except UNREADABLE:
            self.failure = broken_answer(self._target, "sent an event that is not JSON")
            return
        if event.type == "response.output_text.delta" and event.delta is not None:
            self._text(event)
            if self._said is not None:
                self._shortcut.learn(name, payload)
        else:
            self._said = None
            self._other(event)

    def _text(self, event: Event) -> None:
        """Most of a stream is text of the block that is open: it goes on without another look."""
        assert event.delta is not None
        if (
            self._said is not None
            and self._text_key == event.key
            and self._text_part == event.content_index
            and self._blocks.takes_text
        ):
            if event.delta:
                self._said.append(event.delta)
                self._blocks.more_text(event.delta)
            return
        self._items.text(event.key, event.content_index, event.delta)
        self._text_key, self._text_part = event.key, event.content_index
        self._said = self._items.texts_being_written(event.key, event.content_index)

    def _other(self, event: Event) -> None:
        if event.type in ENDS:
            self._end(event)
        elif event.type == "error" or (event.error and not event.type):
            nested = event.error if isinstance(event.error, dict) else None
            told = nested or {"code": event.code, "message": event.message or event.error}
            self.failure = failure_in_answer(told, target=self._target)
        else:
            self._item_event(event)

    def _item_event(self, event: Event) -> None:
        items, text = self._items, event.delta or ""
        match event.type:
            case "response.output_item.added" if event.item is not None:
                items.added(event.key, event.item)
            case "response.output_item.done" if event.item is not None:
                items.done(event.key, event.item)
            case "response.refusal.delta":
                items.text(event.key, event.content_index, text, refusal=True)
            case "response.reasoning_summary_text.delta":
                items.thought(event.key, SUMMARY, event.summary_index, text)
            case "response.reasoning_text.delta":
                items.thought(event.key, CONTENT, event.content_index, text)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                items.argument(event.key, text)
            case "response.output_text.annotation.added" if event.annotation is not None:
                items.annotation(event.key, event.content_index, event.annotation)
            case _:
                pass  # progress, and what only repeats deltas

    def _end(self, event: Event) -> None:
        self.failure = self._answer.end(event.response or {}, ENDS[event.type])
        if self.failure is not None:
            return
        stop_reason, stop_sequence = self._answer.stop_reason()
        self._emitter.stop(stop_reason, stop_sequence, self.usage)
        self.stop_reason = stop_reason
        self.finished = True

    def _read_head(self) -> None:
        """A 200 that is no event stream: an error, or the whole answer as JSON after all."""
        head = self._head
        if not _is_json(head):
            if head.strip():
                self.failure = broken_answer(self._target, "answered with something that is not an event stream")
            return
        told = msgspec.json.decode(head)
        if not isinstance(told, dict):
            return
        if isinstance(told.get("output"), list):
            self._end(Event(type="response.completed", response=told))
        elif told.get("error") or told.get("message"):
            error = told.get("error")
            self.failure = failure_in_answer(error if isinstance(error, dict) else told, target=self._target)


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True
