"""A stream of GenerateContentResponses, read into Anthropic's events."""

import re

from providers.types import Model, Target
from providers.wire.decoder import UNREADABLE, SseDecoder
from providers.wire.emitters import SseEmitter
from providers.wire.gemini.answer import Answer, Ending
from providers.wire.gemini.chunks import Candidate, Chunk, Content, Part, decode_chunk, decode_chunks
from providers.wire.openai_chat.reasoning import signature
from providers.wire.request import MessagesRequest
from providers.wire.runs import Run, TextRuns
from providers.wire.sse import parsed

COUNTS = re.compile(rb'okenCount": ?([0-9]+)')
"""They are cumulative: those of the last chunk that went the short way are read when something else comes."""


class GeminiStreamDecoder(SseDecoder):
    """The answer ends with the stream itself: older models say a finish reason in every chunk, and usage and
    sources may come after it."""

    def __init__(self, *, request: MessagesRequest, target: Target, model: Model) -> None:
        emitter = SseEmitter(model_name=model.name, signature=signature(target, model))
        self._answer = Answer(emitter, request=request, target=target, model=model)
        self._passed = b""
        super().__init__(self._answer, emitter=emitter, request=request, target=target, runs=TextRuns(COUNTS))

    def _note_passed(self, run: Run, events: bytes) -> None:
        self._passed = events[: run.end]

    def _count_passed(self) -> None:
        if not self._passed:
            return
        last = parsed(self._passed[:-2].rpartition(b"\n\n")[2])
        self._passed = b""
        if last is not None:
            self._answer.count(decode_chunk(last[1]))

    def close(self) -> bytes:
        self._count_passed()
        return super().close()

    def _event(self, name: str, payload: bytes) -> None:  # noqa: ARG002  Google's events have no names
        if not payload:
            return
        self._count_passed()
        try:
            chunk = decode_chunk(payload)
        except UNREADABLE:
            self._break("sent an event that cannot be read")
            return
        self.failure = self._answer.add(chunk, payload)
        if text := text_alone(chunk):
            self._learn(text)

    def _no_events(self, head: bytes) -> None:
        try:
            chunks = decode_chunks(head)
        except UNREADABLE:
            if head.strip():
                self._no_stream()
            return
        for chunk in chunks:
            self.failure = self.failure or self._answer.add(chunk, head)

    def _cut_off(self) -> None:
        if self._answer.finish_reason is None:
            super()._cut_off()
            return
        ending = self._answer.end()
        if isinstance(ending, Ending):
            self._end(ending.stop_reason, **ending.details)
        else:
            self.failure = ending


def text_alone(chunk: Chunk) -> str:
    """The text or the thought of a chunk that says nothing else; "" for any other chunk."""
    candidate = chunk.candidates[0] if chunk.candidates and len(chunk.candidates) == 1 else None
    parts = candidate.content.parts if candidate is not None and candidate.content is not None else None
    if candidate is None or not parts or len(parts) != 1 or not parts[0].text or candidate.index:
        return ""
    part = Part(text=parts[0].text, thought=parts[0].thought)
    alone = Candidate(content=Content(parts=[part]), index=candidate.index)
    return parts[0].text if chunk == Chunk(candidates=[alone], usage_metadata=chunk.usage_metadata) else ""
