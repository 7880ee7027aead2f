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
from providers.wire.blocks import TEXT, THINKING, Blocks
from providers.wire.emitters import Emitter
from providers.wire.enforced import wants_one_call
from providers.wire.errors import broken_answer
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
from providers.wire.gemini.errors import failure_in_stream
from providers.wire.gemini.search import Findings, web_search_of
from providers.wire.gemini.thinking import Carried, carrying, packed, shows_thinking
from providers.wire.gemini.tools import original_names
from providers.wire.request import MessagesRequest

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

    @property
    def details(self) -> dict[str, Any]:
        if self.stop_reason != "refusal":
            return {}
        return {"stop_details": {"type": "refusal", "category": None, "explanation": self.explanation}}


@dataclass(slots=True)
class _StreamedCall:
    """A call whose input comes in pieces."""

    name: str
    signature: str
    arguments: StreamedArguments = field(default_factory=StreamedArguments)


class Answer:
    """Gets chunks, writes blocks."""

    def __init__(self, emitter: Emitter, *, request: MessagesRequest, target: Target, model: Model) -> None:
        self.blocks = Blocks(emitter)
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
        self._text_signature = ""
        self._streamed: _StreamedCall | None = None
        self.usage = Usage()
        self.finish_reason: str | None = None
        self._explanation: str | None = None

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
    def place(self) -> object:
        """The kind of the block that more of its text may go to as it is: nothing waits."""
        return None if self._holds or self._streamed is not None else self.blocks.open

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
            self.blocks.say(THINKING, part.text or "")
        else:
            self._add_text(part)

    def _add_text(self, part: Part) -> None:
        text = part.text if part.text is not None else _text_of_other(part)
        if part.thought_signature:
            if self.blocks.open is THINKING and text:
                self._emitter.sign(self._carrying("text", part.thought_signature))
            elif not self.blocks.opened and self._thinks and text:
                self.blocks.begin(THINKING)
                self._emitter.sign(self._carrying("text", part.thought_signature))
            else:
                self._text_signature = part.thought_signature
        self.blocks.say(TEXT, text)

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
        if self.blocks.called and self._one_call:
            return
        if self._text_signature:
            self._sign_next("text", self._text_signature)
            self._text_signature = ""
        if signature:
            self._sign_next("call", signature)
        self.blocks.begin_tool(self._names.get(name, name))
        if arguments not in ("", "{}"):
            self.blocks.chars += len(arguments)
            self._emitter.piece(arguments)
        self.blocks.close()

    def _carry_part(self, part: Part) -> None:
        """A step of Google's own tools: it means nothing to the client, and Google wants it back."""
        told: dict[str, Any] = {}
        if part.tool_call is not UNSET:
            told["toolCall"] = part.tool_call
        if part.tool_response is not UNSET:
            told["toolResponse"] = part.tool_response
        if part.thought_signature:
            told["thoughtSignature"] = part.thought_signature
        self.blocks.close()
        self._sign_next("part", packed(told))
        self.blocks.close()

    def _sign_next(self, what: Carried, payload: str) -> None:
        """Let the thinking block before the next block carry `payload`: the one that is open, or a new one."""
        if self.blocks.open is not THINKING:
            self.blocks.begin(THINKING)
        self._emitter.sign(self._carrying(what, payload))
        self.blocks.close()

    def _carrying(self, what: Carried, payload: str) -> str:
        return carrying(what, payload, target=self._target, model=self._model)

    # -- the end

    def end(self) -> Ending | UpstreamFailure:
        """Emit what waits and close the last block; a failure for an answer that is none."""
        mishap = MISHAPS.get(self.finish_reason or "")
        if mishap is not None:
            return broken_answer(self._target, mishap, again=True)
        self._release()
        self._finish_streamed()
        self.blocks.close()
        if self.finish_reason in REFUSALS:
            return Ending("refusal", self._explanation)
        if self.finish_reason in LENGTHS:
            return Ending("max_tokens")
        if not self.blocks.opened:
            return broken_answer(
                self._target, f"gave an empty answer ({self.finish_reason or 'no reason'})", again=True
            )
        return Ending("tool_use" if self.blocks.called else "end_turn")

    def _release(self) -> None:
        """What was held back, in Anthropic's order: searches, text with citations, calls."""
        held, self._held, self._holds = self._held, [], False
        searches = self._findings.searches()
        for query, results in searches:
            self.blocks.search(query, results)
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
                self.blocks.close()
            self.blocks.say(TEXT, text)
            if citations and self.blocks.open is TEXT:
                for citation in citations:
                    self._emitter.cite(citation)
                self.blocks.close()


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
