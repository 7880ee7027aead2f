"""Bugs of other gateways in errors and usage (translation.md, section 5 B and C), looked for in this one."""

import json

import pytest

from providers.types import RetryClass, Usage
from tests.conformance.wires import BY_NAME, SPEAKERS, TRANSLATING, Speaker
from tests.fakes.answers import Reply, Text, Tokens, ToolUse
from tests.providers.openai_chat_support import BASH, STOP, data, request, says, stream, usage_chunk, whole

every_wire = pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
every_translation = pytest.mark.parametrize("speaker", TRANSLATING, ids=str)
OMLX = "Prompt too long: 32799 tokens exceeds max context window of 32768 tokens"
CODEX = {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 42}


@every_wire
@pytest.mark.parametrize("shape", ["detail", "error"])
def test_b038_039_an_overflow_has_the_client_s_wording_in_every_shape(speaker: Speaker, shape: str) -> None:
    body = {"detail": OMLX} if shape == "detail" else {"error": {"message": OMLX, "code": 400}}
    failure = speaker.failure(400, body)
    assert (failure.status, failure.type) == (400, "invalid_request_error")
    assert failure.message == "prompt is too long: 32799 tokens > 32768 maximum"
    assert failure.body is None, "the provider's own words would hide it"


def test_b038_anthropic_s_own_wording_is_kept_to_the_letter() -> None:
    said = "prompt is too long: 210118 tokens > 200000 maximum"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": said}, "request_id": "req_1"}
    assert json.loads(BY_NAME["anthropic"].failure(400, body).body or b"") == body


@every_wire
def test_b040_a_refused_request_is_never_relabelled_as_overload(speaker: Speaker) -> None:
    said = "Invalid `signature` in `thinking` block: the upstream pool is at capacity to verify"
    failure = speaker.failure(400, {"error": {"message": said, "type": "invalid_request_error"}, "message": said})
    assert (failure.status, failure.type, failure.retry) == (400, "invalid_request_error", RetryClass.NEVER)
    assert failure.retry_after is None


def test_b042_the_moment_when_a_limit_is_lifted_is_waited_for() -> None:
    chat = BY_NAME["openai_chat"]
    assert chat.failure(429, {"error": CODEX}).retry_after == 42
    told = {name: value for name, value in CODEX.items() if name != "resets_in_seconds"} | {"resets_at": 1_700_000_090}
    date = {"date": "Tue, 14 Nov 2023 22:13:20 GMT"}
    body = json.dumps({"error": told}).encode()
    assert chat.wire.decode_error(429, date, body, target=chat.target).retry_after == 90
    assert chat.wire.decode_error(429, {}, body, target=chat.target).retry_after is None


@pytest.mark.parametrize(
    ("reset", "seconds"), [("6m0s", 360), ("12ms", 0.012), ("1.5s", 1.5), ("7", 7), ("1h2m3s", 3723), ("soon", None)]
)
def test_b042_a_limit_that_is_used_up_says_when_it_is_lifted(reset: str, seconds: float | None) -> None:
    chat = BY_NAME["openai_chat"]
    headers = {
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": reset,
        "x-ratelimit-reset-requests": "9m",
    }
    failure = chat.wire.decode_error(429, headers, b'{"error":{"message":"slow down"}}', target=chat.target)
    assert failure.retry_after == seconds


# -- usage


@every_wire
def test_b045_046_047_the_classes_add_up_to_what_the_provider_read(speaker: Speaker) -> None:
    """Some count cached tokens within the input, some beside it: ours never overlap."""
    written = 5 if speaker.name in {"openai_responses", "bedrock", "bedrock-claude", "anthropic"} else 0
    tokens = Tokens(input=60, output=9, cache_read=35, cache_write=written)
    answer = speaker.streamed(Reply([Text("Hi.")], tokens=tokens))
    usage = answer.decoder.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (60, 35, 9)
    assert (usage.cache_write_tokens or 0) == written
    assert (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0) == tokens.prompt


def test_b045_cache_writes_of_chat_completions_are_no_input() -> None:
    told = {
        "prompt_tokens": 100,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 25},
    }
    answer = whole(stream(*says("a"), STOP, data({"choices": [], "usage": told})))
    usage = answer.decoder.usage
    assert (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (35, 40, 25)


@every_wire
def test_b048_the_last_usage_stands_in_message_delta(speaker: Speaker) -> None:
    answer = speaker.streamed(Reply([Text("Hi.")], tokens=Tokens(input=60, output=9, cache_read=35)))
    (delta,) = [event for event in answer.events if event.type == "message_delta"]
    assert delta.usage.output_tokens == 9
    usage = answer.message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (60, 35)


def test_b051_null_details_are_no_details() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": None,
        "completion_tokens_details": None,
    }
    answer = whole(stream(*says("a"), STOP, data({"choices": [], "usage": usage})))
    assert answer.decoder.usage == Usage(9, 0, 0, None, 2)


def test_b052_what_bedrock_s_cache_had_is_no_input() -> None:
    usage = (
        BY_NAME["bedrock"]
        .streamed(Reply([Text("Hi.")], tokens=Tokens(input=7, output=2, cache_read=900)))
        .decoder.usage
    )
    assert (usage.input_tokens, usage.cache_read_tokens) == (7, 900)


@every_translation
def test_b053_054_the_client_reads_plausible_counts_where_none_were_told(speaker: Speaker) -> None:
    """It compacts its conversation by them: with zeros it would run into the window's end."""
    long = request(("user", "word " * 4000), tools=[BASH], stream=True)
    reply = Reply([Text("word " * 100), ToolUse("Bash", {"a": 1})], tokens=None)
    answer = speaker.streamed(reply, long)
    assert answer.decoder.usage.input_tokens is None, "what is charged is counted elsewhere"
    usage = answer.message["usage"]
    assert 2000 < usage["input_tokens"] < 12_000
    assert 50 < usage["output_tokens"] < 300
    assert speaker.whole(reply, long)["usage"]["input_tokens"] == usage["input_tokens"]


def test_b054_an_explicit_zero_stays_zero() -> None:
    answer = whole(stream(*says("a"), STOP, usage_chunk(prompt=0, cached=0, output=1)))
    assert answer.message["usage"]["input_tokens"] == 0
