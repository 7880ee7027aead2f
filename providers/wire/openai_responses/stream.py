"""A stream of the Responses API, read into Anthropic's events."""

import re

import msgspec

from providers.types import Model, Target
from providers.wire.decoder import UNREADABLE, SseDecoder, is_json
from providers.wire.emitters import SseEmitter
from providers.wire.openai_responses.answer import Answer
from providers.wire.openai_responses.assembler import CONTENT, SUMMARY
from providers.wire.openai_responses.errors import failure_in_answer
from providers.wire.openai_responses.events import Event, NotAnEvent, decode_event
from providers.wire.request import MessagesRequest
from providers.wire.runs import Run, TextRuns

DONE = b"[DONE]"
NOISE = re.compile(rb'(?:"obfuscation": ?"|"sequence_number": ?)([A-Za-z0-9]*)')
ENDS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}


PASSED_OVER = tuple(
    b'{"type":"response.%b"' % name
    for name in (
        b"created", b"in_progress", b"queued", b"content_part.added", b"content_part.done", b"output_text.done",
        b"refusal.done", b"reasoning_text.done", b"reasoning_summary_part.added", b"reasoning_summary_part.done",
        b"reasoning_summary_text.done", b"function_call_arguments.done", b"custom_tool_call_input.done",
    )
)  # fmt: skip
"""How events begin that are not decoded: they tell of progress, or repeat what deltas said. The first ones repeat the
request, with all of its tools."""


class OpenAIResponsesStreamDecoder(SseDecoder):
    """The end is the response's own end: nothing else proves that it is whole."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        emitter = SseEmitter(model_name=model.name, signature="")
        self._answer = Answer(emitter, request=request, target=target, model=model)
        self._items = self._answer.items
        super().__init__(self._answer, emitter=emitter, request=request, target=target, runs=TextRuns(NOISE))

    def _event(self, name: str, payload: bytes) -> None:  # noqa: ARG002  the event names itself
        if payload == DONE or not payload or payload.startswith(PASSED_OVER):
            return
        try:
            event = decode_event(payload)
        except NotAnEvent:
            return
        except UNREADABLE:
            self._break("sent an event that is not JSON")
            return
        if event.type in ENDS:
            self._end_of(event)
        elif event.type == "error" or (event.error and not event.type):
            nested = event.error if isinstance(event.error, dict) else None
            told = nested or {"code": event.code, "message": event.message or event.error}
            self.failure = failure_in_answer(told, target=self._target)
        else:
            self._item_event(event)

    def _item_event(self, event: Event) -> None:
        items, text = self._items, event.delta or ""
        match event.type:
            case "response.output_text.delta":
                items.text(event.key, event.content_index, text)
                self._goes_on(event, event.content_index)
            case "response.output_item.added" if event.item is not None:
                items.added(event.key, event.item)
            case "response.output_item.done" if event.item is not None:
                items.done(event.key, event.item)
            case "response.refusal.delta":
                items.text(event.key, event.content_index, text, refusal=True)
            case "response.reasoning_summary_text.delta":
                items.thought(event.key, SUMMARY, event.summary_index, text)
                self._goes_on(event, event.summary_index)
            case "response.reasoning_text.delta":
                items.thought(event.key, CONTENT, event.content_index, text)
                self._goes_on(event, event.content_index)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                items.argument(event.key, text)
            case "response.output_text.annotation.added" if event.annotation is not None:
                items.annotation(event.key, event.content_index, event.annotation)
            case _:
                pass  # progress, and what only repeats deltas

    def _goes_on(self, event: Event, part: int) -> None:
        self._answer.note(event.key, part)
        if event.delta:
            self._learn(event.delta)

    def _note_passed(self, run: Run, events: bytes) -> None:  # noqa: ARG002  the texts are enough
        said = self._answer.place
        assert said is not None
        said.append(msgspec.json.decode(b'"%b"' % b"".join(run.texts), type=str))

    def _end_of(self, event: Event) -> None:
        self.failure = self._answer.end(event.response or {}, ENDS[event.type])
        if self.failure is None:
            self._end(*self._answer.stop_reason())

    def _no_events(self, head: bytes) -> None:
        if not is_json(head):
            if head.strip():
                self._no_stream()
            return
        told = msgspec.json.decode(head)
        if not isinstance(told, dict):
            return
        if isinstance(told.get("output"), list):
            self._end_of(Event(type="response.completed", response=told))
        elif told.get("error") or told.get("message"):
            error = told.get("error")
            self.failure = failure_in_answer(error if isinstance(error, dict) else told, target=self._target)
