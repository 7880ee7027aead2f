"""Facts per model family, by the name a provider gives a model: what it can write, how it takes
thinking, which schemas, ids and names it accepts, what it can see, and how it counts tokens.

A profile holds whoever serves the model; what a provider does differently stands with its wire
(`wire.openai_chat.quirks` for one). Sources: translation.md 1.2 to 1.4, 2 and 8. An operator's own
figures on a model come first: these are what holds where none are set.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Every level of thinking that anybody knows, lowest first."""
OFF = "none"
"""As a level of thinking: no thinking."""
LOW_TO_HIGH = ("low", "medium", "high")
NO_BUDGET = (0, 0)

Reasoning = Literal["none", "always", "anthropic", "effort", "switch", "budget", "level"]
SchemaDialect = Literal["json_schema", "openai", "gemini", "plain"]
ToolIds = Literal["free", "anthropic", "forty", "nine", "counted"]
ImageTokens = Literal["area", "tiles", "tiles_768", "flat"]
Tokenizer = Literal["claude", "o200k", "cl100k", "gemini", "deepseek", "qwen", "llama3", "tekken", "unknown"]


@dataclass(frozen=True, slots=True)
class Family:
    """`max_output` and `context_window` are tokens, None where the family's members differ."""

    name: str
    max_output: int | None = None
    context_window: int | None = None
    reasoning: Reasoning = "none"
    """How it is told to think: by `thinking` as Anthropic has it, an effort, a switch, a budget of
    tokens, or a level; `always`: it thinks and takes no word on it."""
    efforts: tuple[str, ...] = ()
    """The efforts or levels that it knows, lowest first."""
    off_effort: str = ""
    """The effort that says not to think, or as little as it can: "" where none is known."""
    adaptive: bool = True
    """Claude: takes `thinking` of the type adaptive."""
    budgets: bool = True
    """Claude: takes `thinking` with a budget."""
    takes_effort: bool = True
    """Claude: takes `output_config.effort`."""
    budget: tuple[int, int] = NO_BUDGET
    """The least and the most tokens of a thinking budget."""
    can_stop_thinking: bool = True
    replays_reasoning: bool = False
    """Wants the reasoning before its own tool calls back."""
    signed_calls: bool = False
    """Refuses a tool call of its own that comes back without its signature."""
    sampling: bool = True
    """Takes temperature, top_p and top_k."""
    fixed_temperature: bool = False
    """Works worse at any temperature but its own."""
    schema: SchemaDialect = "json_schema"
    tool_ids: ToolIds = "free"
    tool_name_length: int = 64
    vision: bool = False
    pdf: bool = False
    fetches_urls: bool = False
    """Reads images and files from public addresses."""
    media_in_results: bool = False
    """Takes images inside a tool's result."""
    schema_with_tools: bool = True
    """Answers in a JSON Schema in a request that has tools or searches."""
    search_with_tools: bool = False
    """Can search the web in a request that has tools of the client's."""
    searches_billed: Literal["each", "answer"] = "each"
    """Whether its provider bills every search, or once an answer that searched."""
    tokenizer: Tokenizer = "unknown"
    per_vocabulary_token: float = 1.2
    """Its tokens for one of the vocabulary that stands in for its tokenizer here (`tokens.vocabulary_of`),
    until use has taught better (`providers.calibration`)."""
    image_tokens: ImageTokens = "area"
    """How an image counts: by its area (Claude), by tiles of 512 pixels (OpenAI) or of 768 (Gemini 2),
    or always the same (Gemini 3)."""
    largest_image: tuple[int, int] = (1568, 1600)
    """Where images count by their area: the longest edge in pixels, to which larger ones are shrunk, and
    the most tokens."""
    page_tokens: int = 2_000
    """Of a page of a PDF, whose text and picture both count at Claude."""
    tools_overhead: tuple[int, int] = (0, 8)
    """Tokens that tools cost beside their texts: once, and each."""


UNKNOWN = Family("unknown")

_CLAUDE = Family(
    "claude",
    reasoning="anthropic",
    schema="json_schema",
    tool_ids="anthropic",
    tool_name_length=128,
    vision=True,
    pdf=True,
    fetches_urls=True,
    media_in_results=True,
    search_with_tools=True,
    tokenizer="claude",
    tools_overhead=(346, 50),
)
_OPENAI = Family(
    "gpt",
    schema="openai",
    tool_ids="forty",
    vision=True,
    pdf=True,
    fetches_urls=True,
    tokenizer="o200k",
    per_vocabulary_token=1.0,
    image_tokens="tiles",
)
_OPENAI_REASONING = replace(
    _OPENAI, reasoning="effort", efforts=LOW_TO_HIGH, off_effort="low", can_stop_thinking=False, sampling=False
)
_GPT_5 = replace(_OPENAI_REASONING, name="gpt-5", max_output=128_000, context_window=400_000)
_GPT_5_1 = replace(_GPT_5, name="gpt-5.1", off_effort=OFF, can_stop_thinking=True)
_CLAUDE_BUDGET = replace(_CLAUDE, adaptive=False, takes_effort=False, max_output=64_000)
_CLAUDE_OLD = replace(_CLAUDE_BUDGET, budgets=False)
_GEMINI = Family(
    "gemini",
    max_output=65_536,
    context_window=1_048_576,
    schema="gemini",
    vision=True,
    pdf=True,
    tokenizer="gemini",
    per_vocabulary_token=1.1,
    image_tokens="tiles_768",
    page_tokens=258,
)
_GEMINI_2_5 = replace(
    _GEMINI,
    name="gemini-2.5",
    reasoning="budget",
    schema_with_tools=False,
    searches_billed="answer",
)
_GEMINI_3 = replace(
    _GEMINI,
    name="gemini-3",
    reasoning="level",
    efforts=("low", "high"),
    can_stop_thinking=False,
    signed_calls=True,
    fixed_temperature=True,
    fetches_urls=True,
    media_in_results=True,
    search_with_tools=True,
    image_tokens="flat",
    page_tokens=560,
)
_DEEPSEEK = Family(
    "deepseek", reasoning="switch", replays_reasoning=True, tokenizer="deepseek", per_vocabulary_token=1.1
)

_ROWS: tuple[tuple[str, Family], ...] = (
    (r"claude-(?:opus-4[-.][7-9]|[a-z]+-[5-9])", replace(
        _CLAUDE, sampling=False, budgets=False, per_vocabulary_token=1.55, largest_image=(2576, 4784))),
    (r"claude-[a-z]+-4[-.]6", _CLAUDE),
    (r"claude-opus-4[-.]5", replace(_CLAUDE, adaptive=False, max_output=64_000)),
    (r"claude-opus-4", replace(_CLAUDE_BUDGET, max_output=32_000)),
    (r"claude-(?:[a-z]+-4|3[-.]7)", _CLAUDE_BUDGET),
    (r"claude-3[-.]5", replace(_CLAUDE_OLD, max_output=8_192)),
    (r"claude-(?:[123]|instant|v2)", replace(_CLAUDE_OLD, max_output=4_096)),
    (r"claude", _CLAUDE),
    (r"gpt-oss", Family("gpt-oss", reasoning="effort", efforts=LOW_TO_HIGH, off_effort="low", can_stop_thinking=False,
                        schema="openai", tokenizer="o200k", per_vocabulary_token=1.0)),
    (r"gpt-(?:[5-9]|\d\d).*-chat", replace(_OPENAI, max_output=16_384)),
    (r"gpt-5-pro", replace(_GPT_5, efforts=("high",), off_effort="high")),
    (r"gpt-5-codex", _GPT_5),
    (r"gpt-5(?!\.)", replace(_GPT_5, efforts=("minimal", *LOW_TO_HIGH), off_effort="minimal")),
    (r"gpt-5\.1-codex-max", replace(_GPT_5, name="gpt-5.1", efforts=(*LOW_TO_HIGH, "xhigh"))),
    (r"gpt-5\.1-(?:codex|pro)", replace(_GPT_5, name="gpt-5.1")),
    (r"gpt-5\.1", _GPT_5_1),
    (r"gpt-(?:5\.|[6-9]|\d\d).*(?:codex|-pro)", replace(_GPT_5, name="gpt-5.1", efforts=(*LOW_TO_HIGH, "xhigh"))),
    (r"gpt-(?:5\.|[6-9]|\d\d)", replace(_GPT_5_1, efforts=(*LOW_TO_HIGH, "xhigh"))),
    (r"codex", _OPENAI_REASONING),
    (r"o\d", replace(_OPENAI_REASONING, name="o", max_output=100_000, context_window=200_000)),
    (r"gpt-4\.1", replace(_OPENAI, name="gpt-4.1", max_output=32_768, context_window=1_047_576)),
    (r"gpt-4o", replace(_OPENAI, name="gpt-4o", max_output=16_384, context_window=128_000)),
    (r"gpt-[34]", replace(_OPENAI, name="gpt-4", max_output=4_096, vision=False, pdf=False, tokenizer="cl100k")),
    (r"gemini-(?:1|2\.0)", replace(_GEMINI, name="gemini-2.0", max_output=8_192, schema_with_tools=False,
                                   searches_billed="answer")),
    (r"gemini-2\.5-pro", replace(_GEMINI_2_5, budget=(128, 32_768), can_stop_thinking=False)),
    (r"gemini-2\.5-flash-lite", replace(_GEMINI_2_5, budget=(512, 24_576))),
    (r"gemini-2", replace(_GEMINI_2_5, budget=(1, 24_576))),
    (r"gemini-3-pro", _GEMINI_3),
    (r"gemini-\d.*pro", replace(_GEMINI_3, efforts=LOW_TO_HIGH)),
    (r"gemini-\d", replace(_GEMINI_3, efforts=("minimal", *LOW_TO_HIGH))),
    (r"gemini", _GEMINI_3),
    (r"gemma", Family("gemma", max_output=8_192, context_window=131_072, schema="plain", vision=True,
                      tokenizer="gemini")),
    (r"deepseek-(?:reasoner|r1)", replace(_DEEPSEEK, reasoning="always", can_stop_thinking=False)),
    (r"deepseek", _DEEPSEEK),
    (r"glm-.*v(?:-|$)", Family("glm", reasoning="switch", replays_reasoning=True, vision=True)),
    (r"glm", Family("glm", reasoning="switch", replays_reasoning=True)),
    (r"kimi|moonshot", Family("kimi", reasoning="always", replays_reasoning=True, sampling=False, tool_ids="counted")),
    (r"minimax", Family("minimax", reasoning="always", can_stop_thinking=False, replays_reasoning=True)),
    (r"qwen.*vl|qwq.*vl|qvq", Family("qwen", reasoning="switch", vision=True, tokenizer="qwen")),
    (r"qwen|qwq", Family("qwen", reasoning="switch", tokenizer="qwen")),
    (r"magistral", Family("mistral", reasoning="always", schema="plain", tool_ids="nine", tokenizer="tekken")),
    (r"pixtral|mistral-(?:small|medium|large)", Family("mistral", schema="plain", tool_ids="nine", vision=True,
                                                       tokenizer="tekken")),
    (r"mistral|ministral|codestral|devstral|mixtral", Family("mistral", schema="plain", tool_ids="nine",
                                                             tokenizer="tekken")),
    (r"grok-3-mini", Family("grok", reasoning="effort", efforts=("low", "high"), can_stop_thinking=False)),
    (r"grok-(?:4|code)", Family("grok", reasoning="always", can_stop_thinking=False, vision=True)),
    (r"grok", Family("grok")),
    (r"command-a-vision|aya-vision", Family("cohere", max_output=8_192, schema="plain", vision=True)),
    (r"command-a-reasoning", Family("cohere", max_output=32_768, reasoning="budget", budget=(1, 31_000),
                                    schema="plain")),
    (r"command|c4ai|aya", Family("cohere", max_output=8_192, schema="plain")),
    (r"nova-2", Family("nova", max_output=65_535, schema="plain", vision=True, pdf=True, media_in_results=True)),
    (r"nova-", Family("nova", max_output=10_000, schema="plain", vision=True, pdf=True, media_in_results=True)),
    (r"llama-?4", Family("llama", vision=True, tokenizer="llama3")),
    (r"llama", Family("llama", tokenizer="llama3")),
)  # fmt: skip
_BOUNDARY = r"(?:^|[/.@:_-])"
_TABLE = tuple((re.compile(_BOUNDARY + f"(?:{pattern})"), family) for pattern, family in _ROWS)


@lru_cache(maxsize=1024)
def family_of(model_name: str) -> Family:
    """The family of a provider's own model name (`gemini-2.5-pro`, `anthropic/claude-…`,
    `us.meta.llama3-…`); UNKNOWN when nothing in the name tells it."""
    lowered = model_name.lower()
    return next((family for pattern, family in _TABLE if pattern.search(lowered)), UNKNOWN)


def nearest_effort(wanted: str, known: Iterable[str]) -> str | None:
    """The highest of the `known` efforts (lowest first) that is not above `wanted`, else the
    lowest; None when none is known."""
    levels = tuple(known)
    rank = EFFORTS.index(wanted)
    fitting = [level for level in levels if EFFORTS.index(level) <= rank]
    return fitting[-1] if fitting else next(iter(levels), None)


def effort_of(family: Family, wanted: str) -> str | None:
    """The family's effort for a `wanted` level, or for OFF; None when it knows none."""
    return (family.off_effort or None) if wanted == OFF else nearest_effort(wanted, family.efforts)


def output_cap(model_name: str, asked: int, configured: int | None) -> int:
    """Tokens that a request may ask for: `asked`, at most what the operator configured for the model,
    or else what its family can write."""
    return min(asked, configured or family_of(model_name).max_output or asked)
