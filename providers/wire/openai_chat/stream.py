"""A Chat Completions stream, read into Anthropic's events."""

import re

from providers.types import Model, Target
from providers.wire.decoder import UNREADABLE, SseDecoder, is_json
from providers.wire.emitters import SseEmitter
from providers.wire.errors import error_parts
from providers.wire.openai_chat.answer import Answer
from providers.wire.openai_chat.chunks import Chunk, Delta, NotAChunk, decode_chunk, reasoning_of
from providers.wire.openai_chat.errors import failure_in_stream
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest
from providers.wire.runs import TextRuns

DONE = b"[DONE]"
NOISE = re.compile(rb'(?:"obfuscation": ?"|"created": ?)([A-Za-z0-9]*)')


class OpenAIChatStreamDecoder(SseDecoder):
    """The end waits for `[DONE]` or the stream's own end, because usage comes after the finish reason."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        emitter = SseEmitter(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(emitter, request=request, target=target, model=model)
        super().__init__(self._answer, emitter=emitter, request=request, target=target, runs=TextRuns(NOISE))

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
            self._break("sent an event that is not JSON")
        else:
            if chunk is not None:
                self._add(name, chunk, payload)

    def _add(self, name: str, chunk: Chunk, payload: bytes) -> None:
        if name == "error" or (chunk.choices is None and error_parts(payload)[1]):
            self.failure = failure_in_stream(payload, target=self._target)
            return
        self.failure = self._answer.add(chunk, payload)
        if self.failure is None and (text := text_alone(chunk)):
            self._learn(text)

    def _done(self) -> None:
        """`[DONE]` without a finish reason ends an answer too, if the answer is whole."""
        if self._answer.finish_reason is None and not (self._emitter.started and self._answer.assembler.is_whole):
            self._break("ended its answer without content or in the middle of a tool call")
            return
        self._end(*self._answer.end())

    def _is_whole(self, payload: bytes) -> bool:
        return payload == DONE or is_json(payload)

    def _no_events(self, head: bytes) -> None:
        if is_json(head):
            self._event("", head)
        elif head.strip():
            self._no_stream()

    def _cut_off(self) -> None:
        if self._answer.finish_reason is not None:
            self._end(*self._answer.end())
        else:
            super()._cut_off()


def text_alone(chunk: Chunk) -> str:
    """The text or the reasoning of a chunk that says nothing else; "" for any other chunk."""
    if not chunk.choices or len(chunk.choices) != 1 or chunk.usage is not None or chunk.x_groq is not None:
        return ""
    (choice,) = chunk.choices
    delta = choice.delta
    if delta is None or choice.finish_reason is not None or choice.message is not None or choice.index:
        return ""
    if delta.content:
        return delta.content if delta == Delta(content=delta.content) else ""
    text = reasoning_of(delta)
    told = (delta.content, delta.tool_calls, delta.function_call, delta.refusal)
    return text if all(part is None for part in told) else ""
