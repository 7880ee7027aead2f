"""Token counting: right against the vocabulary itself, bounded on hostile input."""

import base64
import json
from hashlib import sha256
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # type: ignore[import-untyped]

from providers import tokens
from providers.families import family_of
from providers.readable import IMAGE_TOKENS
from providers.wire.request import MessagesRequest
from tests.providers.anthropic_support import request

PROSE = "The quick brown fox jumps over the lazy dog, and then writes a function that parses JSON.\n" * 40


def body_bytes(of: MessagesRequest) -> int:
    return len(of.encode())


def image(payload: bytes) -> dict[str, Any]:
    data = base64.b64encode(payload).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}


def user(*blocks: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(blocks)}]


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What tiktoken itself expects of its vocabularies: file name -> SHA-256."""
    pins: dict[str, str] = {}

    def note(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        from hashlib import sha1

        pins[sha1(url.encode()).hexdigest()] = expected_hash or ""
        return {}

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", note)
    openai_public.o200k_base()
    openai_public.cl100k_base()
    return pins


def test_the_vocabularies_are_the_ones_tiktoken_pins(pinned: dict[str, str]) -> None:
    files = {
        file.name: sha256(file.read_bytes()).hexdigest() for file in tokens.VOCABULARY.iterdir() if file.suffix == ""
    }
    assert files == pinned


def test_count_is_the_vocabularys_own() -> None:
    assert tokens.count_text(PROSE) == len(tiktoken.get_encoding("o200k_base").encode(PROSE))
    assert tokens.count_text("") == 0


def test_every_part_that_a_model_reads_counts() -> None:
    bare = tokens.count(request("hi")).total
    call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": PROSE}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": PROSE}]}
    wide = tokens.count_text(PROSE)
    variants = {
        "system": request("hi", system=PROSE),
        "system blocks": request("hi", system=[{"type": "text", "text": PROSE}]),
        "text": request(messages=user({"type": "text", "text": PROSE})),
        "thinking": request(messages=[{"role": "assistant", "content": [{"type": "thinking", "thinking": PROSE}]}]),
        "tool use": request(messages=[{"role": "assistant", "content": [call]}]),
        "tool result": request(messages=user(result)),
        "tool result text": request(messages=user({**result, "content": PROSE})),
        "tool": request("hi", tools=[{"name": "t", "description": PROSE, "input_schema": {"type": "object"}}]),
        "schema": request("hi", tools=[{"name": "t", "input_schema": {"type": "object", "description": PROSE}}]),
        "text document": request(messages=user({"type": "document", "source": {"type": "text", "data": PROSE}})),
    }
    for name, variant in variants.items():
        assert wide <= tokens.count(variant).total <= wide + bare + 100, name


def test_a_deferred_tool_counts_once_it_is_loaded() -> None:
    tool = {"name": "late", "description": PROSE, "input_schema": {}, "defer_loading": True}
    reference = {"type": "tool_reference", "tool_name": "late"}
    loaded = user({"type": "tool_result", "tool_use_id": "t", "content": [reference]})
    assert tokens.count(request("hi", tools=[tool])).total == tokens.count(request("hi")).total
    assert tokens.count(request(messages=loaded, tools=[tool])).total > tokens.count_text(PROSE)


def test_images_do_not_count_as_text() -> None:
    shown = request(messages=user(image(b"\x89PNG" + bytes(300_000)), {"type": "text", "text": "what is this?"}))
    assert IMAGE_TOKENS <= tokens.count(shown).total < IMAGE_TOKENS + 50
    assert IMAGE_TOKENS <= tokens.estimate(shown, body_bytes(shown)) < IMAGE_TOKENS + 200


def test_images_inside_tool_results_do_not_count_as_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image(bytes(300_000)), image(bytes(90_000))]}
    shown = request(messages=user(result))
    assert 2 * IMAGE_TOKENS <= tokens.estimate(shown, body_bytes(shown)) < 2 * IMAGE_TOKENS + 300


def test_text_that_talks_about_base64_still_counts() -> None:
    text = json.dumps({"type": "base64", "data": "A" * 50_000})
    told = request(text)
    assert tokens.estimate(told, body_bytes(told)) > 15_000
    call = {"type": "tool_use", "id": "t", "name": "Write", "input": {"data": "word " * 10_000}}
    written = request(messages=[{"role": "assistant", "content": [call]}])
    assert tokens.estimate(written, body_bytes(written)) > 15_000


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=400))
def test_a_hold_covers_the_count_of_any_prose_like_text(text: str) -> None:
    """Even of text without a word in it: two bytes a token are held."""
    told = request(text + PROSE)
    assert tokens.hold_tokens(tokens.estimate(told, body_bytes(told))) >= tokens.count(told).total


def test_hold_tokens_rounds_up() -> None:
    assert tokens.hold_tokens(1) == 2
    assert tokens.hold_tokens(100) == 100 * tokens.SAFETY


@given(estimated=st.integers(0, 2_000_000), factor=st.floats(0.5, 3.0))
def test_a_factor_never_makes_a_hold_smaller_than_the_estimate(estimated: int, factor: float) -> None:
    held = tokens.hold_tokens(estimated, factor)
    assert held >= estimated
    assert held >= estimated * factor


@pytest.mark.parametrize(
    "text",
    [" " * 1_000_000, "a" * 1_000_000, "\n" * 1_000_000, "\u200d" * 200_000, "\ud800" * 200_000, "🎉" * 100_000],
    ids=["spaces", "one letter", "line ends", "joiners", "lone surrogates", "emoji"],
)
def test_hostile_text_is_counted(text: str) -> None:
    assert 0 < tokens.count_text(text) <= len(text.encode("utf-8", "replace"))


def test_repeated_texts_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_cache", tokens._CountCache(2))
    calls: list[str] = []
    real = tokens._encode

    def encode(text: str, vocabulary: str) -> int:
        calls.append(text)
        return real(text, vocabulary)

    monkeypatch.setattr(tokens, "_encode", encode)
    first, second, third = (f"{number} {PROSE}" for number in range(3))
    tokens.count_text(first)
    tokens.count_text(first)
    assert len(calls) == 1
    tokens.count_text(second)
    tokens.count_text(third)
    assert len(tokens._cache) == 2
    tokens.count_text(first)
    assert len(calls) == 4


@pytest.mark.asyncio
async def test_count_async_agrees() -> None:
    told = request(PROSE)
    assert await tokens.count_async(told) == tokens.count(told)


@pytest.mark.asyncio
async def test_too_much_to_count_at_once_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    told = request(PROSE)
    monkeypatch.setattr(tokens, "MOST_WAITING_BYTES", 100)
    quick = await tokens.count_async(told)
    assert not quick.exact
    assert quick.total >= tokens.count(told).total
    monkeypatch.setattr(tokens, "MOST_WAITING_BYTES", 1_000_000)
    assert (await tokens.count_async(told)).exact


def test_of_a_huge_request_a_part_is_encoded_and_the_rest_estimated_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number}: {PROSE}" for number in range(20)]
    told = request(messages=user(*({"type": "text", "text": text} for text in texts)))
    whole = tokens.count(told).total
    monkeypatch.setattr(tokens, "_cache", tokens._CountCache(100))
    monkeypatch.setattr(tokens, "MOST_CHARS", 5 * len(PROSE))
    encoded: list[str] = []
    real = tokens._encode

    def encode(text: str, vocabulary: str) -> int:
        encoded.append(text)
        return real(text, vocabulary)

    monkeypatch.setattr(tokens, "_encode", encode)
    counted = tokens.count(told)
    assert not counted.exact
    assert sum(map(len, encoded)) <= tokens.MOST_CHARS
    assert counted.total == pytest.approx(whole, rel=0.02)


def test_an_old_model_of_openai_is_counted_with_its_own_vocabulary() -> None:
    text = "Überraschung: 这是一个测试 " * 200
    assert tokens.count(request(text), family_of("gpt-4-turbo")).total != tokens.count(request(text)).total
    assert tokens.count_text(text, "cl100k_base") == len(tiktoken.get_encoding("cl100k_base").encode(text))


def test_deferred_tools_count_where_they_are_sent_at_once() -> None:
    told = request("hi", tools=[{"name": "late", "description": PROSE, "input_schema": {}, "defer_loading": True}])
    assert tokens.count(told, eager_tools=True).total > tokens.count(told).total + tokens.count_text(PROSE)


def test_an_image_given_by_its_address_is_held_for() -> None:
    by_address = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    told = request(messages=user(by_address, by_address))
    assert tokens.estimate(told, body_bytes(told)) >= 2 * IMAGE_TOKENS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "document", "thinking", "tool_use", "tool_result", "novel"])},
    optional=dict.fromkeys(("source", "content", "input", "data", "title", "name", "thinking"), json_values),
)


@settings(max_examples=100, deadline=None)
@given(content=st.lists(blocks, max_size=4), family=st.sampled_from(["claude-opus-5", "gpt-4o", "gemini-2.5-pro", "x"]))
def test_whatever_a_client_sends_has_a_count(content: list[dict[str, Any]], family: str) -> None:
    told = request(messages=user(*content))
    counted = tokens.count(told, family_of(family))
    assert counted.total > 0
    assert tokens.count(request(messages=user(*content, {"type": "text", "text": "more"})), family_of(family)).total > (
        counted.total
    )
