"""Google's GenerateContentResponse, typed as far as we read it. A stream's chunks and a whole
answer have the same shape."""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from providers.families import Family
from providers.types import Usage


class _Told(msgspec.Struct, rename="camel"):
    """Google leaves out what is unset, zero or empty."""


class PartialArg(_Told):
    """A piece of a streamed call's input, at a JSON path (RFC 9535)."""

    json_path: str = ""
    string_value: str | None = None
    number_value: int | float | None = None
    bool_value: bool | None = None
    null_value: str | None = None
    will_continue: bool | None = None


class FunctionCall(_Told):
    name: str | None = None
    args: Raw = Raw()
    partial_args: list[PartialArg] | None = None
    will_continue: bool | None = None


class Blob(_Told):
    mime_type: str | None = None
    data: str | None = None


class Code(_Told):
    """`executableCode` and `codeExecutionResult` alike."""

    code: str | None = None
    language: str | None = None
    output: str | None = None


class Part(_Told):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: FunctionCall | None = None
    inline_data: Blob | None = None
    executable_code: Code | None = None
    code_execution_result: Code | None = None
    tool_call: Raw | UnsetType = UNSET
    tool_response: Raw | UnsetType = UNSET


class Content(_Told):
    parts: list[Part] | None = None


class Web(_Told):
    uri: str | None = None
    title: str | None = None
    domain: str | None = None


class GroundingChunk(_Told):
    web: Web | None = None


class Segment(_Told):
    start_index: int | None = None
    end_index: int | None = None
    part_index: int | None = None
    text: str | None = None


class GroundingSupport(_Told):
    segment: Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class Grounding(_Told):
    web_search_queries: list[str] | None = None
    grounding_chunks: list[GroundingChunk] | None = None
    grounding_supports: list[GroundingSupport] | None = None


class Candidate(_Told):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    grounding_metadata: Grounding | None = None
    index: int | None = None


class PromptFeedback(_Told):
    block_reason: str | None = None
    block_reason_message: str | None = None


class UsageMetadata(_Told):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class Chunk(_Told):
    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    error: Any = None


# Not strict: counts may come as texts, as protocol buffers write large ones.
_chunk = msgspec.json.Decoder(Chunk, strict=False)
_chunks = msgspec.json.Decoder(list[Chunk], strict=False)


def decode_chunk(data: bytes) -> Chunk:
    """Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError when it is no chunk."""
    return _chunk.decode(data)


def decode_chunks(data: bytes) -> list[Chunk]:
    """A whole answer; or a list of chunks, which is how Google streams without server-sent events.
    Raises as `decode_chunk`."""
    return _chunks.decode(data) if data.lstrip()[:1] == b"[" else [_chunk.decode(data)]


def merge_usage(known: UsageMetadata, told: UsageMetadata) -> None:
    """Take the counts of `told` over into `known`. Every chunk repeats them, cumulatively: the last one
    counts, but a count that it leaves out, or a zero placeholder, replaces nothing (translation.md 1.7)."""
    known.prompt_token_count = told.prompt_token_count or _kept(known.prompt_token_count, told.prompt_token_count)
    known.cached_content_token_count = told.cached_content_token_count or known.cached_content_token_count
    known.tool_use_prompt_token_count = told.tool_use_prompt_token_count or known.tool_use_prompt_token_count
    known.candidates_token_count = told.candidates_token_count or _kept(
        known.candidates_token_count, told.candidates_token_count
    )
    known.thoughts_token_count = told.thoughts_token_count or _kept(
        known.thoughts_token_count, told.thoughts_token_count
    )


def _kept(known: int | None, told: int | None) -> int | None:
    """A zero counts where nothing is known yet."""
    return told if known is None else known


def update_usage(usage: Usage, known: UsageMetadata) -> None:
    """The counts in Anthropic's classes. What tools have read comes on top of the prompt's count; what
    was cached is within it; thoughts come on top of the candidates' count."""
    prompt = known.prompt_token_count
    if prompt is not None:
        usage.cache_read_tokens = min(known.cached_content_token_count or 0, prompt)
        usage.cache_write_tokens = 0
        usage.input_tokens = prompt - usage.cache_read_tokens + (known.tool_use_prompt_token_count or 0)
    written, thought = known.candidates_token_count, known.thoughts_token_count
    if written is not None or thought is not None:
        usage.output_tokens = (written or 0) + (thought or 0)
    usage.reasoning_tokens = thought


def billed_searches(queries: int, family: Family) -> int:
    """How many searches Google bills for an answer that made `queries`."""
    return min(queries, 1) if family.searches_billed == "answer" else queries
