"""Facts per model family, found by name."""

import pytest

from providers.families import UNKNOWN, family_of, nearest_effort, output_cap


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("claude-opus-5-5", "claude"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
        ("gpt-4o-mini", "gpt-4o"),
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-5-mini", "gpt-5"),
        ("openai/gpt-5.2-codex", "gpt-5.1"),
        ("openai/gpt-oss-120b", "gpt-oss"),
        ("o3-mini", "o"),
        ("gemini-2.0-flash", "gemini-2.0"),
        ("models/gemini-2.5-pro", "gemini-2.5"),
        ("gemini-3.5-flash", "gemini-3"),
        ("gemini-4-pro", "gemini-3"),
        ("gemini-flash-latest", "gemini-3"),
        ("deepseek-ai/DeepSeek-V4", "deepseek"),
        ("glm-5.2", "glm"),
        ("moonshotai/kimi-k2-thinking", "kimi"),
        ("MiniMax-M2", "minimax"),
        ("qwen3-coder-plus", "qwen"),
        ("codestral-latest", "mistral"),
        ("grok-4-fast", "grok"),
        ("command-a-03-2025", "cohere"),
        ("amazon.nova-pro-v1:0", "nova"),
        ("us.meta.llama4-scout-17b-instruct-v1:0", "llama"),
        ("a-house-of-its-own", "unknown"),
    ],
)
def test_a_name_tells_the_family(name: str, family: str) -> None:
    assert family_of(name).name == family


@pytest.mark.parametrize(
    ("name", "reasoning", "can_stop"),
    [
        ("gemini-2.5-pro", "budget", False),
        ("gemini-2.5-flash", "budget", True),
        ("gemini-3-pro-preview", "level", False),
        ("gemini-2.0-flash", "none", True),
        ("gpt-5", "effort", False),
        ("gpt-5.1", "effort", True),
        ("gpt-4o", "none", True),
        ("deepseek-chat", "switch", True),
        ("claude-sonnet-4-5", "anthropic", True),
    ],
)
def test_how_a_family_thinks(name: str, reasoning: str, can_stop: bool) -> None:
    family = family_of(name)
    assert (family.reasoning, family.can_stop_thinking) == (reasoning, can_stop)
    assert bool(family.efforts) == (reasoning in {"effort", "level"})
    assert (family.budget[1] > family.budget[0] > 0) == (reasoning == "budget")


def test_the_rules_of_ids_and_names_that_providers_enforce() -> None:
    assert family_of("gpt-4o").tool_ids == "forty"
    assert family_of("mistral-large-latest").tool_ids == "nine"
    assert family_of("kimi-k2").tool_ids == "counted"
    assert (family_of("claude-haiku-4-5").tool_name_length, family_of("gpt-4o").tool_name_length) == (128, 64)


def test_the_nearest_effort_is_never_above_the_wanted_one_where_one_is_below() -> None:
    assert nearest_effort("max", ("low", "high")) == "high"
    assert nearest_effort("medium", ("low", "high")) == "low"
    assert nearest_effort("minimal", ("low", "high")) == "low"
    assert nearest_effort("high", ()) is None


def test_an_operator_s_limit_comes_before_the_family_s() -> None:
    assert output_cap("gemini-2.0-flash", 32_000, None) == 8_192
    assert output_cap("gemini-2.5-pro", 32_000, 16_000) == 16_000
    assert output_cap("gemini-9-pro", 200_000, 128_000) == 128_000
    assert output_cap("a-house-of-its-own", 32_000, None) == 32_000
    assert UNKNOWN.max_output is None
