"""What a provider's Chat Completions do differently, by kind. A new provider is a row.

Source: translation.md 1.2 (fields), 1.3 (reasoning), 1.4 (schemas) and 2 (providers). The
default suits a server that we know nothing about: it gets the least that can be refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

"""Kinds that serve OpenAI's models, and know them by name."""
LOW_TO_HIGH = ("low", "medium", "high")

OPENAI_REASONING = re.compile(r"(?:^|/)(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)")
"""OpenAI's reasoning models by name: they take `max_completion_tokens`, no sampling and no `stop`."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """`reasoning` is the form in which the provider takes how much to think, for models whose
    name matches `reasoning_models` ("": all); `efforts` the levels it knows, lowest first."""

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system_in_place: bool = False
    """Takes `system` messages in the middle of a conversation."""
    files: bool = False
    """Reads PDFs as `file` parts."""
    addresses: bool = False
    """Reads images from addresses. A server that we know nothing about gets their bytes: it may not reach
    the Internet, or stand in a private network where customers have no business."""
    tool_ids: Literal["plain", "nine", "counted"] = "plain"
    """Plain: up to 40 characters; nine: nine letters and digits; counted: `functions.name:0`."""
    required_choice: Literal["required", "any"] = "required"
    named_choice: bool = True
    """`tool_choice` may name a function."""
    reasoning: Literal["effort", "openrouter", "switch", "none"] = "effort"
    reasoning_models: str = r"gpt-oss"
    efforts: tuple[str, ...] = LOW_TO_HIGH
    off_models: str = ""
    """Models whose names match are told not to think by the effort `none`; "": none are."""
    reasoning_field: Literal["", "reasoning_content", "reasoning"] = ""
    """Where an assistant's message holds the reasoning that the provider wants back; "": nowhere."""
    replays_details: bool = False
    """Tells what stands behind its reasoning (`reasoning_details`), and wants that back."""
    demands_reasoning: bool = False
    """Answers 400 when the reasoning before a call is missing."""
    keeps_thinking: bool = False
    """Forgets the reasoning of earlier turns unless it is told not to (`clear_thinking`)."""
    fixed_sampling: bool = False
    """Its thinking models refuse temperature and top_p."""
    top_k: bool = False
    strict: bool = False
    """Takes `strict` on functions and schemas."""
    json_schema: bool = True
    """Takes `response_format` of the type json_schema."""
    user: bool = False
    """Takes `user` and `prompt_cache_key`."""
    cache_marks: str = ""
    """Models whose names match take `cache_control` on parts and functions; "": none do."""
    cache_key: bool = False
    """Takes `prompt_cache_key`, by which the requests of a session meet the same cache (translation.md 8.1)."""
    service_tier: bool = False
    """Takes OpenAI's `service_tier`."""
    continues_prefix: bool = False
    """Needs `prefix` on an assistant message at the end."""
    schema_without: frozenset[str] = frozenset()
    """JSON Schema keywords that it refuses."""
    output_is_the_rest: bool = False
    """Counts thinking in `total_tokens` only."""
    usage_option: bool = True
    """Takes `stream_options`; a provider without it tells its usage unasked."""
    tool_choice: bool = True
    """Takes `tool_choice` and `parallel_tool_calls`."""
    streams_calls: bool = False
    """Has to be asked (`tool_stream`) to stream the arguments of calls."""
    schema_beside_tools: bool = True
    """Takes `response_format` in a request with functions."""
    no_stops: str = ""
    """Models whose names match refuse `stop`; "": none do."""
    most_unstreamed: int | None = None
    """The most tokens of an answer that is not streamed."""
    extra: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Fields for thinking models whose names match."""


DEFAULT = Quirks()

_OPENAI = Quirks(
    addresses=True,
    max_tokens="max_completion_tokens",
    system_in_place=True,
    files=True,
    reasoning_models="",
    fixed_sampling=True,
    strict=True,
    user=True,
    service_tier=True,
)

OPENAI_KINDS = frozenset({"openai", "azure"})

QUIRKS: dict[str, Quirks] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "openrouter": Quirks(
        addresses=True,
        files=True,
        reasoning="openrouter",
        reasoning_models="",
        efforts=("minimal", "low", "medium", "high", "xhigh"),
        top_k=True,
        replays_details=True,
        cache_marks=r"anthropic/|google/gemini|minimax/|z-ai/glm",
    ),
    "deepseek": Quirks(
        system_in_place=True,
        reasoning="switch",
        reasoning_models="",
        reasoning_field="reasoning_content",
        demands_reasoning=True,
        json_schema=False,
    ),
    "moonshot": Quirks(
        cache_key=True,
        tool_ids="counted",
        reasoning="none",
        reasoning_field="reasoning_content",
        demands_reasoning=True,
        fixed_sampling=True,
        json_schema=False,
    ),
    "kimi": Quirks(
        tool_ids="counted",
        reasoning="none",
        reasoning_field="reasoning_content",
        demands_reasoning=True,
        fixed_sampling=True,
        json_schema=False,
    ),
    "z.ai": Quirks(
        addresses=True,
        reasoning="switch",
        reasoning_models="",
        reasoning_field="reasoning_content",
        keeps_thinking=True,
        json_schema=False,
        streams_calls=True,
    ),
    "groq": Quirks(
        addresses=True,
        max_tokens="max_completion_tokens",
        schema_beside_tools=False,
        off_models=r"qwen3",
        extra=((r"qwen|deepseek-r1", {"reasoning_format": "parsed"}),),
    ),
    "cerebras": Quirks(cache_key=True, max_tokens="max_completion_tokens", reasoning_field="reasoning"),
    "together": Quirks(addresses=True, top_k=True),
    "fireworks": Quirks(addresses=True, cache_key=True, top_k=True, schema_beside_tools=False, most_unstreamed=4096),
    "ollama": Quirks(tool_choice=False),
    "vllm": Quirks(top_k=True, schema_without=frozenset({"additionalProperties"})),
    "mistral": Quirks(
        cache_key=True,
        addresses=True,
        tool_ids="nine",
        required_choice="any",
        named_choice=False,
        reasoning_models=r"(?:^|/)mistral-(?:small|medium)",
        off_models=r"(?:^|/)mistral-(?:small|medium)",
        efforts=("high",),
        continues_prefix=True,
        usage_option=False,
        schema_without=frozenset({"$id", "$schema", "additionalProperties"}),
    ),
    "xai": Quirks(
        cache_key=True,
        addresses=True,
        system_in_place=True,
        reasoning_models=r"grok-3-mini",
        efforts=("low", "high"),
        no_stops=r"grok-3-mini|grok-4|grok-code",
    ),
    "gemini": Quirks(
        reasoning_models=r"gemini-(?:2\.5|[3-9])",
        output_is_the_rest=True,
        schema_without=frozenset(
            {
                "$id", "$schema", "additionalProperties", "const", "exclusiveMaximum", "exclusiveMinimum", "else", "if",
                "not", "patternProperties", "propertyNames", "then",
            }
        ),
    ),
}  # fmt: skip


def quirks_of(kind: str) -> Quirks:
    return QUIRKS.get(kind, DEFAULT)


def is_openai_reasoning(kind: str, model: str) -> bool:
    """Whether `model` is one of OpenAI's reasoning models, at OpenAI, at Azure or behind a server of an
    unknown make; the other kinds translate for such models themselves."""
    return (kind in OPENAI_KINDS or kind not in QUIRKS) and OPENAI_REASONING.search(model) is not None
