"""One answer of Cohere's, streamed or whole: its blocks, its usage, and how it ended."""

import functools
from typing import Any

import msgspec

from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.blocks import TEXT, THINKING, TOOL, Blocks
from providers.wire.cohere.errors import failure_in_answer
from providers.wire.cohere.request import cited_sources
from providers.wire.emitters import Emitter
from providers.wire.enforced import wants_one_call
from providers.wire.errors import broken_answer
from providers.wire.openai_chat.tools import original_names
from providers.wire.request import MessagesRequest
from providers.wire.sequence import BlockSequence

STOP_REASONS = {
    "COMPLETE": "end_turn",
    "TOOL_CALL": "tool_use",
    "MAX_TOKENS": "max_tokens",
    "STOP_SEQUENCE": "stop_sequence",
    "ERROR_TOXIC": "refusal",
    "ERROR_LIMIT": "model_context_window_exceeded",
}
FAILED = {"ERROR": "broke its answer off", "TIMEOUT": "took too long over its answer"}
PLAN = "plan"
PROSE = "TEXT_CONTENT"


class Content(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None


class Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct):
    id: str | None = None
    function: Function | None = None


class CitedSource(msgspec.Struct):
    id: str | None = None


class Citation(msgspec.Struct):
    sources: list[CitedSource] | None = None
    content_index: int | None = None
    type: str = PROSE


class Message(msgspec.Struct):
    """`message` of an answer, and of an event's delta: there it has one part instead of a list."""

    content: Content | list[Content] | None = None
    tool_plan: str | None = None
    tool_calls: Call | list[Call] | None = None
    citations: Citation | list[Citation] | None = None


class Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class Counts(msgspec.Struct):
    """`usage`. The billed units leave Cohere's own prompt out; what a model reads is `tokens`."""

    tokens: Tokens | None = None
    billed_units: Tokens | None = None
    cached_tokens: float | None = None


class Delta(msgspec.Struct):
    message: Message | None = None
    finish_reason: str | None = None
    usage: Counts | None = None
    error: str | None = None


class Event(msgspec.Struct):
    type: str = ""
    index: int | None = None
    delta: Delta | None = None


class WholeAnswer(msgspec.Struct):
    message: Message
    finish_reason: str | None = None
    usage: Counts | None = None


class Answer:
    def __init__(self, emitter: Emitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self.blocks = Blocks(emitter)
        self._sequence = BlockSequence(self.blocks, names=original_names(request), one_call=wants_one_call(request))
        self.usage = Usage()
        self.ended = False
        self._finish_reason = ""
        self._request = request
        self._target = target
        self._model = model
        self._text: str | None = None
        """The key of the latest text block: it stays open until another block starts, because
        citations come after a text."""

    @property
    def place(self) -> object:
        return self._sequence.place

    # -- streamed

    def add(self, event: Event) -> UpstreamFailure | None:
        """Take over `event`; a failure when it reports one."""
        message = event.delta.message if event.delta is not None else None
        index = event.index or 0
        match event.type:
            case "content-delta" | "content-start" if message is not None:
                for content in _listed(message.content):
                    self._add_content(index, content)
            case "tool-plan-delta" if message is not None and message.tool_plan:
                self._add_text(PLAN, message.tool_plan)
            case "tool-call-start" | "tool-call-delta" if message is not None:
                for call in _listed(message.tool_calls):
                    self._add_call(index, call, starts=event.type == "tool-call-start")
            case "tool-call-end":
                self._sequence.stop(f"call {index}")
            case "content-end":
                self._sequence.stop(f"thinking {index}")
            case "citation-start" if message is not None:
                for citation in _listed(message.citations):
                    self._cite(citation)
            case "message-end":
                return self._end_of_message(event.delta or Delta())
        return None

    def _add_content(self, index: int, content: Content) -> None:
        if content.thinking:
            self._close_text()
            self._sequence.add(f"thinking {index}", THINKING, content.thinking)
        if content.text:
            self._add_text(f"text {index}", content.text)

    def _add_text(self, key: str, text: str) -> None:
        if key != self._text:
            self._close_text()
            self._text = key
        self._sequence.add(key, TEXT, text)

    def _close_text(self) -> None:
        if self._text is not None:
            self._sequence.stop(self._text)
            self._text = None

    def _add_call(self, index: int, call: Call, *, starts: bool) -> None:
        key = f"call {index}"
        function = call.function or Function()
        if starts:
            self._close_text()
            self._sequence.start(key, TOOL, function.name or "")
        arguments = function.arguments
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        self._sequence.add(key, TOOL, arguments or "")

    def _cite(self, citation: Citation) -> None:
        if self._text is None or citation.type != PROSE:
            return
        for source in citation.sources or ():
            known = self._sources.get(source.id or "")
            if known is not None:
                self._sequence.cite(self._text, known.citation)

    @functools.cached_property
    def _sources(self) -> Any:
        return cited_sources(self._request, self._model)

    # -- whole

    def add_whole(self, answer: WholeAnswer) -> UpstreamFailure | None:
        message = answer.message
        contents, citations = _listed(message.content), _listed(message.citations)
        for index, content in enumerate(contents):
            self._add_content(index, content)
            self._sequence.stop(f"thinking {index}")
            is_last = index == len(contents) - 1
            for citation in citations:
                if citation.content_index == index or (citation.content_index is None and is_last):
                    self._cite(citation)
        if message.tool_plan:
            self._add_text(PLAN, message.tool_plan)
        for index, call in enumerate(_listed(message.tool_calls)):
            self._add_call(index, call, starts=True)
            self._sequence.stop(f"call {index}")
        return self._end_of_message(Delta(finish_reason=answer.finish_reason, usage=answer.usage))

    # -- its end

    def _end_of_message(self, delta: Delta) -> UpstreamFailure | None:
        if delta.usage is not None:
            update_usage(self.usage, delta.usage)
        self._finish_reason = delta.finish_reason or ""
        failed = FAILED.get(self._finish_reason)
        if delta.error:
            return failure_in_answer(delta.error, target=self._target)
        if failed:
            return broken_answer(self._target, f"{failed} ({self._finish_reason})")
        self.ended = True
        return None

    def end(self) -> tuple[str, str | None]:
        """Close the last block: Anthropic's (stop_reason, stop_sequence)."""
        self._sequence.finish()
        reason = STOP_REASONS.get(self._finish_reason, "end_turn")
        if reason in {"end_turn", "tool_use"}:
            return ("tool_use" if self.blocks.called else "end_turn"), None
        stops: list[str] = self._request.value("stop_sequences") or []
        # Cohere does not tell which sequence it stopped at.
        return reason, stops[0] if reason == "stop_sequence" and len(stops) == 1 else None


def text_alone(event: Event) -> str:
    """The text or the thought that `event` says, and nothing else; "" for any other event."""
    message = event.delta.message if event.delta is not None else None
    content = message.content if message is not None else None
    if event.type != "content-delta" or not isinstance(content, Content):
        return ""
    text = content.text or content.thinking or ""
    return text if content in (Content(content.type, text), Content(content.type, thinking=text)) else ""


def update_usage(usage: Usage, told: Counts) -> None:
    """Input without what came out of the cache (translation.md 1.7)."""
    tokens = told.tokens or told.billed_units
    if tokens is None:
        return
    if tokens.input_tokens is not None:
        whole = int(tokens.input_tokens)
        cached = min(int(told.cached_tokens or 0), whole)
        usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens = whole - cached, cached, 0
    if tokens.output_tokens is not None:
        usage.output_tokens = int(tokens.output_tokens)


def _listed(told: Any) -> Any:
    """One part, a list of them, or none: as a list."""
    if told is None:
        return ()
    return told if isinstance(told, list) else (told,)
