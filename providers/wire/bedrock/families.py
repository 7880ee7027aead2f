"""What Bedrock's models differ in, by family. A new family is a row.

Source: translation.md 1.2, 1.3, 1.5 and 2 (Bedrock). A model that matches no row gets what can be
refused least, and is told in words what it cannot be told by a field.
"""

import re
from dataclasses import dataclass
from typing import Literal

EVERYWHERE = frozenset({"tools", "system", "messages"})
INVOKE = "invoke/"
CONVERSE = "converse/"
"""Before a mapping's model name, these say which way a model is called whose name does not tell its
family (the ARN of an application's inference profile), or has to go the other way."""


@dataclass(frozen=True, slots=True)
class Family:
    """`native`: called in Anthropic's own format."""

    native: bool = False
    forced_choice: bool = False
    """Takes `toolChoice` any and tool."""
    cache: frozenset[str] = frozenset()
    """Where it takes cache points."""
    hour_cache: bool = False
    result_status: bool = False
    """Takes the `status` of a tool's result."""
    result_images: bool = False
    """Takes images in a tool's result."""
    results_alone: bool = False
    """Takes nothing beside tool results in one message."""
    streams_tools: bool = True
    """Can stream an answer to a request with tools."""
    system: bool = True
    schema: bool = True
    """Takes `outputConfig` for structured answers, and `strict` on tools."""
    stops: bool = True
    search_results: bool = False
    """Takes search results, and documents with citations."""
    top_k: str = ""
    """Where `top_k` goes in the model's own fields; "": nowhere."""
    reasoning: Literal["none", "claude", "effort", "nova"] = "none"


CLAUDE = Family(
    native=True,
    forced_choice=True,
    cache=EVERYWHERE,
    hour_cache=True,
    result_status=True,
    result_images=True,
    search_results=True,
    top_k="top_k",
    reasoning="claude",
)
_NOVA = Family(
    forced_choice=True,
    cache=frozenset({"system", "messages"}),
    result_status=True,
    result_images=True,
    results_alone=True,
    schema=False,
    top_k="inferenceConfig.topK",
)
_NOVA_2 = Family(
    forced_choice=True,
    cache=frozenset({"system", "messages"}),
    result_status=True,
    result_images=True,
    results_alone=True,
    schema=False,
    reasoning="nova",
)
_LLAMA = Family(results_alone=True, schema=False, stops=False, streams_tools=False)
_MISTRAL = Family(forced_choice=True, results_alone=True, streams_tools=False, schema=False, top_k="top_k")
_OLD_MISTRAL = Family(system=False, schema=False, top_k="top_k")

FAMILIES: tuple[tuple[re.Pattern[str], Family], ...] = tuple(
    (re.compile(rf"(?:^|[./]){pattern}"), family)
    for pattern, family in (
        (r"anthropic\.", CLAUDE),
        (r"amazon\.nova-2", _NOVA_2),
        (r"amazon\.nova", _NOVA),
        (r"amazon\.titan", Family(system=False, schema=False)),
        (r"meta\.llama", _LLAMA),
        (r"mistral\.(?:mistral-7b|mixtral)", _OLD_MISTRAL),
        (r"mistral\.(?:mistral-(?:small|large-240)|pixtral)", _MISTRAL),
        (r"openai\.", Family(reasoning="effort")),
        (r"cohere\.", Family(schema=False, top_k="k")),
        (r"ai21\.", Family(schema=False)),
        (r"deepseek\.r1", Family(schema=False)),
    )
)
UNKNOWN = Family()


def model_id(actual_model: str) -> str:
    """The model as Bedrock calls it."""
    return actual_model.removeprefix(INVOKE).removeprefix(CONVERSE)


def family_of(actual_model: str) -> Family:
    """By the model's name, with or without a region in front, or by its ARN."""
    if actual_model.startswith(INVOKE):
        return CLAUDE
    name = model_id(actual_model)
    return next((family for pattern, family in FAMILIES if pattern.search(name)), UNKNOWN)


def is_native(actual_model: str) -> bool:
    """Whether the model is called in Anthropic's format."""
    return not actual_model.startswith(CONVERSE) and family_of(actual_model).native
