"""Cohere's event stream, read into Anthropic's events."""

import msgspec

from providers.types import Model, Target
from providers.wire.cohere.answer import Answer, Event, text_alone
from providers.wire.cohere.errors import failure_in_answer
from providers.wire.decoder import UNREADABLE, SseDecoder
from providers.wire.emitters import SseEmitter
from providers.wire.errors import error_parts
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest
from providers.wire.runs import TextRuns

_event = msgspec.json.Decoder(Event)


class CohereStreamDecoder(SseDecoder):
    """The answer ends with `message-end`, which holds its usage; whatever comes later is not read."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        emitter = SseEmitter(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(emitter, request=request, target=target, model=model)
        super().__init__(self._answer, emitter=emitter, request=request, target=target, runs=TextRuns())

    def _event(self, name: str, payload: bytes) -> None:  # noqa: ARG002  the event names itself
        if not payload.startswith(b"{"):
            return
        try:
            event = _event.decode(payload)
        except UNREADABLE:
            self._break("sent an event that cannot be read")
            return
        if not event.type and (said := error_parts(payload)[1]):
            self.failure = failure_in_answer(said, target=self._target)
            return
        self.failure = self._answer.add(event)
        if self._answer.ended:
            self._end(*self._answer.end())
        elif text := text_alone(event):
            self._learn(text)

    def _no_events(self, head: bytes) -> None:
        if head.lstrip().startswith((b"event:", b"data:")):
            return
        said = error_parts(head)[1]
        if said:
            self.failure = failure_in_answer(said, target=self._target)
        elif head.strip():
            self._no_stream()
