"""The providers' chunks and answers, typed, and read with tolerance.

The strict decoder takes what nearly all providers send, in a microsecond. What it refuses (a
list for a text, a string for a number) is read field by field instead, and a field that makes
no sense counts as absent.
"""

from typing import Any

import msgspec

from providers.types import Usage
from providers.wire.openai_chat.quirks import Quirks

MAX_COUNT = 10**12


class Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None
    """A JSON text, or the object itself."""


class ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct):
    """`delta` of a chunk and `message` of a whole answer alike."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct):
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    index: int = 0
    stop_reason: Any = None
    """The stop sequence that matched, at vLLM; SGLang calls it `matched_stop`."""
    matched_stop: Any = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None
    x_groq: dict[str, Any] | None = None
    citations: list[Any] | None = None
    """Addresses, of the whole answer (Perplexity)."""
    search_results: list[Any] | None = None


_chunk = msgspec.json.Decoder(Chunk)


class NotAChunk(ValueError):
    """JSON, but no object. `text` holds what a server said in a bare string."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text


def decode_chunk(data: bytes) -> Chunk | None:
    """The chunk in `data`, None for null. Raises msgspec.DecodeError (or RecursionError) when
    it is no JSON, and NotAChunk."""
    try:
        return _chunk.decode(data)
    except msgspec.ValidationError:
        told = msgspec.json.decode(data)
    if told is None:
        return None
    if not isinstance(told, dict):
        raise NotAChunk(told if isinstance(told, str) else "")
    choices = [_lenient_choice(choice) for choice in _list(told.get("choices")) if isinstance(choice, dict)]
    usage, groq = told.get("usage"), told.get("x_groq")
    return Chunk(
        choices=choices,
        usage=usage if isinstance(usage, dict) else None,
        error=told.get("error"),
        x_groq=groq if isinstance(groq, dict) else None,
        citations=_list(told.get("citations")) or None,
        search_results=_list(told.get("search_results")) or None,
    )


def _lenient_choice(told: dict[str, Any]) -> Choice:
    index = told.get("index")
    return Choice(
        delta=_lenient_delta(told.get("delta")),
        message=_lenient_delta(told.get("message")),
        finish_reason=_text(told.get("finish_reason")),
        index=index if isinstance(index, int) else 0,
        stop_reason=told.get("stop_reason"),
        matched_stop=told.get("matched_stop"),
    )


def _lenient_delta(told: Any) -> Delta | None:
    if not isinstance(told, dict):
        return None
    content, thought = _content_parts(told.get("content"))
    details = told.get("reasoning_details")
    return Delta(
        content=content,
        reasoning_content=_text(told.get("reasoning_content")) or thought,
        reasoning=_text(told.get("reasoning")),
        reasoning_details=[item for item in _list(details) if isinstance(item, dict)],
        tool_calls=[_lenient_call(call) for call in _list(told.get("tool_calls")) if isinstance(call, dict)],
        function_call=_lenient_function(told.get("function_call")),
        refusal=_text(told.get("refusal")),
        annotations=[item for item in _list(told.get("annotations")) if isinstance(item, dict)] or None,
    )


def _content_parts(content: Any) -> tuple[str | None, str | None]:
    """(text, thinking) of content given as a list of parts, as Mistral does."""
    if isinstance(content, str):
        return content, None
    texts: list[str] = []
    thoughts: list[str] = []
    for part in _list(content):
        if not isinstance(part, dict):
            continue
        inner = part.get("thinking")
        if isinstance(inner, list):
            thoughts += [str(item.get("text") or "") for item in inner if isinstance(item, dict)]
        elif isinstance(inner, str):
            thoughts.append(inner)
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "".join(texts) or None, "".join(thoughts) or None


def _lenient_call(told: dict[str, Any]) -> ToolCall:
    index = told.get("index")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    return ToolCall(
        index=index if isinstance(index, int) else None,
        id=_text(told.get("id")),
        function=_lenient_function(told.get("function")),
    )


def _lenient_function(told: Any) -> Function | None:
    return Function(_text(told.get("name")), told.get("arguments")) if isinstance(told, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def reasoning_of(delta: Delta) -> str:
    """The reasoning in `delta`. Several fields may tell the same: one of them counts."""
    if delta.reasoning_details:
        details = (item.get("text") or item.get("summary") for item in delta.reasoning_details)
        text = "".join(part for part in details if isinstance(part, str))
        if text:
            return text
    return delta.reasoning_content or delta.reasoning or ""


def usage_of(chunk: Chunk) -> dict[str, Any] | None:
    """The usage object that `chunk` tells, in the place where its provider puts it."""
    if chunk.usage is not None:
        return chunk.usage
    told = chunk.x_groq.get("usage") if chunk.x_groq else None
    return told if isinstance(told, dict) else None


def update_usage(usage: Usage, told: dict[str, Any], quirks: Quirks) -> None:
    """Take over the counts of `told`: of several usage objects the last one counts, unless it
    is nothing but zeros (translation.md 1.7)."""
    prompt, output = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    if prompt is None and output is None:
        return
    if not prompt and not output and (usage.input_tokens or usage.output_tokens):
        return
    if prompt is not None:
        _update_input(usage, told, prompt)
    reasoning = _count(_details(told, "completion_tokens_details").get("reasoning_tokens"))
    if output is not None:
        usage.output_tokens = _whole_output(told, prompt or 0, output, reasoning or 0, quirks)
    if reasoning is not None:
        usage.reasoning_tokens = min(reasoning, usage.output_tokens or 0)


def _update_input(usage: Usage, told: dict[str, Any], prompt: int) -> None:
    details = _details(told, "prompt_tokens_details")
    named = (details.get("cached_tokens"), told.get("prompt_cache_hit_tokens"), told.get("cached_tokens"))
    cached = min(next((count for value in named if (count := _count(value)) is not None), 0), prompt)
    written = min(_count(details.get("cache_write_tokens")) or 0, prompt - cached)
    usage.input_tokens = prompt - cached - written
    usage.cache_read_tokens = cached
    usage.cache_write_tokens = written


def _whole_output(told: dict[str, Any], prompt: int, output: int, reasoning: int, quirks: Quirks) -> int:
    """`output` with the reasoning that some providers count beside it."""
    total = _count(told.get("total_tokens")) or 0
    if quirks.output_is_the_rest:
        return max(output, total - prompt)
    beside = reasoning > 0 and total == prompt + output + reasoning
    return output + reasoning if beside else output


def _details(told: dict[str, Any], name: str) -> dict[str, Any]:
    details = told.get(name)
    return details if isinstance(details, dict) else {}


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT
    return value if is_count else None
