"""One answer of Google's, streamed or whole: its parts become Anthropic's blocks, one after the other.

Parts come complete and in order, but for two things. A text's pieces are parts of their own. And what a
search found comes last, while Anthropic's clients want it before the text: an answer that may search
is held back until its end, but for its thoughts.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET

from providers.families import family_of
from providers.types import Model, Target, UpstreamFailure, Usage
from providers.wire.enforced import wants_one_call
from providers.wire.gemini.arguments import StreamedArguments
from providers.wire.gemini.chunks import (
    Candidate,
    Chunk,
    Code,
    FunctionCall,
    Part,
    UsageMetadata,
    billed_searches,
    merge_usage,
    update_usage,
)
from providers.wire.gemini.emitters import GeminiEmitter
from providers.wire.gemini.errors import broken_answer, failure_in_stream
from providers.wire.gemini.search import Findings, web_search_of
from providers.wire.gemini.thinking import Carried, carrying, packed, shows_thinking
from providers.wire.gemini.tools import original_names
from providers.wire.request import MessagesRequest

TEXT = "text"
THINKING = "thinking"
UNNAMED = "unnamed_tool"

REFUSALS = frozenset(
    {
        "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "JAILBREAK", "ESCALATION",
        "PUP_LIMITED_DISABLED", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip
LENGTHS = frozenset({"MAX_TOKENS", "CONTINUATION"})
"""An answer that Google broke off for its length; how to continue one is told to no client of ours."""
MISHAPS = {
    "MALFORMED_FUNCTION_CALL": "wrote a tool call that cannot be read",
    "UNEXPECTED_TOOL_CALL": "called a tool that there is not",
    "TOO_MANY_TOOL_CALLS": "made too many tool calls",
    "MALFORMED_RESPONSE": "wrote an answer that cannot be read",
    "MISSING_THOUGHT_SIGNATURE": "missed a thought's signature",
}
"""Mishaps of the model: the same request may well go right the next time (translation.md 1.6)."""


@dataclass(slots=True)
class Ending:
    """Anthropic's `stop_reason` and what belongs to it."""

    stop_reason: str
    explanation: str | None = None

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"stop_reason": self.stop_reason, "stop_sequence": None}
        if self.stop_reason == "refusal":
            fields["stop_details"] = {"type": "refusal", "category": None, "explanation": self.explanation}
        return fields


@dataclass(slots=True)
class _StreamedCall:
    """A call whose input comes in pieces."""

    name: str
    signature: str
    arguments: StreamedArguments = field(default_factory=StreamedArguments)


class Answer:
    """Gets chunks, drives an emitter. `open` is the kind of the block that is open, None between blocks."""

    def __init__(self, emitter: GeminiEmitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self._emitter = emitter
        self._target = target
        self._model = model
        self._names = original_names(request)
        self._one_call = wants_one_call(request)
        self._thinks = shows_thinking(request)
        search = web_search_of(request)
        self._findings = Findings(search, _question(request) if search else "")
        self._holds = search is not None
        self._held: list[Part] = []
        self._told = UsageMetadata()
        self._blank = ""
        self._text_signature = ""
        self._streamed: _StreamedCall | None = None
        self.usage = Usage()
        self.finish_reason: str | None = None
        self._explanation: str | None = None
        self.open: str | None = None
        self.called = False
        self.emitted = False
        self.chars = 0

    def add(self, chunk: Chunk, data: bytes) -> UpstreamFailure | None:
        """Take over `chunk`, which was read from `data`. A failure when it reports an error."""
        if chunk.error:
            return failure_in_stream(data, target=self._target)
        self.count(chunk)
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason:
            self.finish_reason = "SAFETY"
            self._explanation = feedback.block_reason_message or f"The prompt was blocked ({feedback.block_reason})."
        for candidate in chunk.candidates or ():
            if not candidate.index:
                self._add_candidate(candidate)
        return None

    def count(self, chunk: Chunk) -> None:
        """Take over the counts of `chunk` alone."""
        if chunk.usage_metadata is not None:
            merge_usage(self._told, chunk.usage_metadata)
            update_usage(self.usage, self._told)

    @property
    def takes_text(self) -> bool:
        """Whether a text block is open and nothing waits, so that more text just goes on."""
        return self.open is TEXT and not self._holds and self._streamed is None

    def _add_candidate(self, candidate: Candidate) -> None:
        if candidate.grounding_metadata is not None:
            self._findings.add(candidate.grounding_metadata)
        for part in (candidate.content.parts if candidate.content else None) or ():
            if self._holds and not part.thought:
                self._held.append(part)
            else:
                self._add_part(part)
        if candidate.finish_reason:
            self.finish_reason = candidate.finish_reason
            self._explanation = candidate.finish_message or self._explanation

    # -- parts

    def _add_part(self, part: Part) -> None:
        if self._streamed is not None and (part.function_call is None or part.function_call.name):
            self._finish_streamed()
        if part.function_call is not None:
            self._add_call(part.function_call, part.thought_signature or "")
        elif part.tool_call is not UNSET or part.tool_response is not UNSET:
            self._carry_part(part)
        elif part.thought:
            self._write(THINKING, part.text or "")
        else:
            self._add_text(part)

    def _add_text(self, part: Part) -> None:
        text = part.text if part.text is not None else _text_of_other(part)
        if part.thought_signature:
            if self.open is THINKING and text:
                self._emitter.sign(self._carrying("text", part.thought_signature))
            elif not self.emitted and self._thinks and text:
                self._open_block(THINKING)
                self._emitter.sign(self._carrying("text", part.thought_signature))
            else:
                self._text_signature = part.thought_signature
        self._write(TEXT, text)

    def _add_call(self, call: FunctionCall, signature: str) -> None:
        if self._streamed is None and (call.partial_args is not None or call.will_continue):
            self._streamed = _StreamedCall(call.name or "", signature)
        if self._streamed is None:
            arguments = _json_object(bytes(call.args))
            if call.name or arguments:
                self._emit_call(call.name or "", arguments, signature)
            return
        for told in call.partial_args or ():
            self._streamed.arguments.add(told)
        if not call.will_continue:
            self._finish_streamed()

    def _finish_streamed(self) -> None:
        streamed, self._streamed = self._streamed, None
        if streamed is not None:
            self._emit_call(streamed.name, msgspec.json.encode(streamed.arguments.value).decode(), streamed.signature)

    def _emit_call(self, name: str, arguments: str, signature: str) -> None:
        if self.called and self._one_call:
            return
        if self._text_signature:
            self._sign_next("text", self._text_signature)
            self._text_signature = ""
        if signature:
            self._sign_next("call", signature)
        self._close_block()
        self.called = self.emitted = True
        self._emitter.open_tool(self._names.get(name, name) or UNNAMED)
        if arguments not in ("", "{}"):
            self.chars += len(arguments)
            self._emitter.piece(arguments)
        self._emitter.close()

    def _carry_part(self, part: Part) -> None:
        """A step of Google's own tools: it means nothing to the client, and Google wants it back."""
        told: dict[str, Any] = {}
        if part.tool_call is not UNSET:
            told["toolCall"] = part.tool_call
        if part.tool_response is not UNSET:
            told["toolResponse"] = part.tool_response
        if part.thought_signature:
            told["thoughtSignature"] = part.thought_signature
        self._close_block()
        self._sign_next("part", packed(told))
        self._close_block()

    def _sign_next(self, what: Carried, payload: str) -> None:
        """Let the thinking block before the next block carry `payload`: the one that is open, or a new one."""
        if self.open is not THINKING:
            self._open_block(THINKING)
        self._emitter.sign(self._carrying(what, payload))
        self._close_block()

    def _carrying(self, what: Carried, payload: str) -> str:
        return carrying(what, payload, target=self._target, model=self._model)

    # -- blocks

    def _write(self, kind: str, text: str) -> None:
        if not text:
            return
        if self.open is not kind:
            text = self._blank + text if kind is TEXT else text
            if kind is TEXT and text.isspace():
                # Anthropic refuses blank blocks when they come back: open one for real text only.
                self._blank = text
                return
            self._open_block(kind)
        self.chars += len(text)
        self._emitter.piece(text)

    def _open_block(self, kind: str) -> None:
        self._close_block()
        self._blank = ""
        self.open = kind
        self.emitted = True
        if kind is TEXT:
            self._emitter.open_text()
        else:
            self._emitter.open_thinking()

    def _close_block(self) -> None:
        if self.open is not None:
            self._emitter.close()
            self.open = None

    # -- the end

    def end(self) -> Ending | UpstreamFailure:
        """Emit what waits and close the last block; a failure for an answer that is none."""
        mishap = MISHAPS.get(self.finish_reason or "")
        if mishap is not None:
            return broken_answer(self._target, mishap, again=True)
        self._release()
        self._finish_streamed()
        self._close_block()
        if self.finish_reason in REFUSALS:
            return Ending("refusal", self._explanation)
        if self.finish_reason in LENGTHS:
            return Ending("max_tokens")
        if not self.emitted:
            return broken_answer(
                self._target, f"gave an empty answer ({self.finish_reason or 'no reason'})", again=True
            )
        return Ending("tool_use" if self.called else "end_turn")

    def _release(self) -> None:
        """What was held back, in Anthropic's order: searches, text with citations, calls."""
        held, self._held, self._holds = self._held, [], False
        searches = self._findings.searches()
        if searches:
            self._close_block()
            self.emitted = True
            for query, results in searches:
                self._emitter.search(query, results)
        self.usage.web_searches = billed_searches(len(searches), family_of(self._target.actual_model))
        texts = [part for part in held if _is_text(part)]
        cited = list(self._findings.cited([part.text or "" for part in texts])) if searches else []
        for part in held:
            if part not in texts or not cited:
                self._add_part(part)
            elif part is texts[0]:
                self._write_cited(cited)

    def _write_cited(self, cited: list[tuple[str, list[dict[str, Any]]]]) -> None:
        for text, citations in cited:
            if citations:
                self._close_block()
            self._write(TEXT, text)
            if citations and self.open is TEXT:
                for citation in citations:
                    self._emitter.cite(citation)
                self._close_block()


def _is_text(part: Part) -> bool:
    return bool(part.text) and part.function_call is None and not part.thought


def _text_of_other(part: Part) -> str:
    """Parts that Anthropic's answers do not know, as text."""
    for code in (part.executable_code, part.code_execution_result):
        if code is not None:
            return _fenced(code)
    if part.inline_data is not None:
        return f"[{part.inline_data.mime_type or 'a file'} omitted: CCM carries text only]"
    return ""


def _fenced(code: Code) -> str:
    return f"\n```{(code.language or '').lower()}\n{code.code or code.output or ''}\n```\n"


def _json_object(raw: bytes) -> str:
    return "" if raw in (b"", b"null") else raw.decode()


def _question(request: MessagesRequest) -> str:
    """The user's last text."""
    texts = [block.text for message in request.messages if message.role == "user" for block in message.blocks]
    return next((text.strip() for text in reversed(texts) if text.strip()), "")
