"""The anthropic wire passes on what it does not have to change."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import UpstreamError
from providers.types import RetryClass, Usage
from providers.wire.anthropic import AnthropicWire, messages_url
from providers.wire.anthropic_stream import AnthropicStreamDecoder
from providers.wire.request import MessagesRequest
from providers.wire.sse import MAX_EVENT_BYTES, render
from tests.providers.anthropic_support import (
    MODEL,
    STOP,
    TARGET,
    event,
    message_delta,
    message_start,
    parsed,
    request,
    target,
    text_block,
)

WIRE = AnthropicWire()
CLIENT_HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "effort-2025-11-24",
    "anthropic-dangerous-direct-browser-access": "true",
    "x-app": "cli",
    "user-agent": "claude-cli/2.1.330",
    "x-stainless-lang": "js",
    "x-claude-code-session-id": "s1",
    "authorization": "Bearer sk-ccm-secret",
    "x-api-key": "sk-ccm-secret",
    "cookie": "a=b",
    "x-forwarded-for": "10.0.0.1",
    "accept-encoding": "gzip",
    "host": "ccm.example",
    "content-length": "12",
}


def encode(body: MessagesRequest, *, max_tokens: int = 10**6, headers: dict[str, str] | None = None, **of: Any) -> Any:
    return WIRE.encode(
        body, target=target(**of), model=MODEL, max_tokens=max_tokens, client_headers=CLIENT_HEADERS | (headers or {})
    )


def decoder() -> AnthropicStreamDecoder:
    return WIRE.stream_decoder(request=request(), target=TARGET, model=MODEL)


def run(*pieces: bytes) -> tuple[AnthropicStreamDecoder, bytes]:
    watching = decoder()
    passed = b"".join(watching.feed(piece) for piece in pieces)
    return watching, passed + watching.close()


# Requests


def test_only_the_model_changes_in_a_request() -> None:
    body = (
        b'{"model": "claude-public","max_tokens":7, "unknown":{"b" : 1.0,"a":"\\u00e9"},'
        b'"messages":[{"role":"user","content":[{"type":"future","x":[1, 2]}]}],"safeguards":{"rules":[]}}'
    )
    sent = encode(MessagesRequest.parse(body)).body
    for kept in (
        b'"unknown":{"b" : 1.0,"a":"\\u00e9"}',
        b'[{"type":"future","x":[1, 2]}]',
        b'"safeguards":{"rules":[]}',
    ):
        assert kept in sent
    assert json.loads(sent) == json.loads(body) | {"model": "claude-actual"}


@pytest.mark.parametrize(("granted", "sent"), [(10, 10), (1000, 1000), (5000, 1000)])
def test_max_tokens_is_lowered_to_what_credits_afford_and_never_raised(granted: int, sent: int) -> None:
    assert json.loads(encode(request(max_tokens=1000), max_tokens=granted).body)["max_tokens"] == sent


def test_safeguards_stay_with_anthropic() -> None:
    """They hold local paths and rules of the client (architecture, section 4)."""
    body = request(safeguards={"cwd": "/home/me"})
    assert b"/home/me" in encode(body).body
    assert b"/home/me" not in encode(body, kind="z.ai").body


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        ("https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic/v1/messages"),
        ("https://api.z.ai/api/anthropic/", "https://api.z.ai/api/anthropic/v1/messages"),
        ("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1/messages"),
    ],
)
def test_url(base_url: str, url: str) -> None:
    assert messages_url(base_url, beta=False) == url
    assert messages_url(base_url, beta=True) == f"{url}?beta=true"
    assert encode(request(), base_url=base_url).url == f"{url}?beta=true"


def test_headers_towards_anthropic() -> None:
    headers = encode(request()).headers
    assert headers == {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "effort-2025-11-24",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-app": "cli",
        "user-agent": "claude-cli/2.1.330",
        "x-stainless-lang": "js",
        "x-claude-code-session-id": "s1",
        "content-type": "application/json",
        "accept": "application/json",
    }


def test_headers_towards_others_tell_nothing_of_the_client() -> None:
    headers = encode(request(), kind="kimi").headers
    assert headers == {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "effort-2025-11-24",
        "user-agent": "ccm",
        "content-type": "application/json",
        "accept": "application/json",
    }


def test_anthropic_version_has_a_default() -> None:
    sent = WIRE.encode(request(), target=TARGET, model=MODEL, max_tokens=1, client_headers={})
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert sent.url == "https://api.anthropic.com/v1/messages"


# Streams

UNKNOWN = render("future_event", b'{"type": "future_event",  "x":1}')
PING = render("ping", b'{"type": "ping"}')
STREAM = (
    message_start(input_tokens=9, output_tokens=1)
    + PING
    + event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""})
    + event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"})
    + event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "abc"})
    + event("content_block_stop", index=0)
    + text_block(1, "Grüße ", "\n“you”\n", "🎉")
    + UNKNOWN
    + event("content_block_start", index=2, content_block={"type": "tool_use", "id": "t", "name": "B", "input": {}})
    + event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": '{"a":'})
    + event("content_block_delta", index=2, delta={"type": "input_json_delta", "partial_json": "1}"})
    + event("content_block_stop", index=2)
    + message_delta("tool_use", output_tokens=31)
    + STOP
)
RENAMED = STREAM.replace(b"claude-actual", b"claude-public")
CHARS = len("hm" + "Grüße " + "\n“you”\n" + "🎉" + '{"a":1}')


def test_a_stream_passes_byte_for_byte_but_for_the_model() -> None:
    watching, passed = run(STREAM)
    assert passed == RENAMED
    assert watching.finished
    assert watching.failure is None
    assert watching.stop_reason == "tool_use"
    assert watching.output_chars == CHARS
    assert (watching.usage.input_tokens, watching.usage.output_tokens) == (9, 31)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cuts_change_nothing(line_end: bytes, cuts: list[int]) -> None:
    stream = STREAM.replace(b"\n", line_end)
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    watching, passed = run(*(stream[start:end] for start, end in pairwise(at)))
    assert passed == RENAMED
    assert watching.finished
    assert watching.output_chars == CHARS


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_bytes_one_by_one(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    watching, passed = run(*(stream[at : at + 1] for at in range(len(stream))))
    assert passed == RENAMED
    assert watching.finished


def test_an_unchanged_message_start_keeps_its_bytes() -> None:
    start = render("message_start", b'{"type":"message_start", "message": {"model" : "claude-public","x":1.50}}')
    assert run(start, text_block(0, "a"), message_delta(), STOP)[1].startswith(start)


def test_content_is_seen_with_the_first_block_and_not_before() -> None:
    watching = decoder()
    watching.feed(message_start() + PING)
    assert not watching.has_content
    watching.feed(event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
    assert watching.has_content


def test_an_answer_without_blocks_is_content_once_it_ends() -> None:
    watching = decoder()
    watching.feed(message_start())
    watching.feed(message_delta("refusal"))
    assert watching.has_content
    assert not watching.finished


def test_the_open_thinking_block_is_known() -> None:
    watching = decoder()
    watching.feed(message_start())
    watching.feed(event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}))
    assert watching.open_thinking_index == 0
    watching.feed(event("content_block_stop", index=0))
    assert watching.open_thinking_index is None


def test_usage_of_all_classes() -> None:
    watching, _ = run(
        message_start(
            input_tokens=10,
            cache_read_input_tokens=200,
            cache_creation_input_tokens=50,
            cache_creation={"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
            output_tokens=1,
        ),
        message_delta(
            input_tokens=12,
            cache_read_input_tokens=0,
            cache_creation_input_tokens=50,
            output_tokens=99,
            output_tokens_details={"thinking_tokens": 40},
            server_tool_use={"web_search_requests": 2},
        ),
        STOP,
    )
    assert watching.usage == Usage(12, 200, 20, 30, 99, 40, 2)


def test_usage_that_is_missing_or_senseless_stays_unknown() -> None:
    watching, passed = run(
        event("message_start", message={"model": "claude-public", "usage": {"input_tokens": -5}}),
        text_block(0, "hello"),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": "many"}),
        STOP,
    )
    assert watching.usage == Usage()
    assert watching.finished
    assert b'"many"' in passed


def test_explicit_zero_usage_is_zero() -> None:
    watching, _ = run(message_start(input_tokens=0, output_tokens=0), message_delta(output_tokens=0), STOP)
    assert (watching.usage.input_tokens, watching.usage.output_tokens) == (0, 0)


def test_compaction_on_the_server_counts() -> None:
    compaction = {"type": "compaction", "input_tokens": 1000, "output_tokens": 50}
    regular = {"type": "message", "input_tokens": 10, "output_tokens": 5}
    watching, _ = run(
        message_start(input_tokens=1000, output_tokens=1),
        message_delta(input_tokens=10, output_tokens=5, iterations=[compaction, regular]),
        STOP,
    )
    assert (watching.usage.input_tokens, watching.usage.output_tokens) == (1010, 55)


def test_an_error_event_is_a_failure_and_is_not_passed_on() -> None:
    failing = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    watching, passed = run(message_start() + text_block(0, "a") + failing + text_block(1, "never"))
    assert passed == (message_start() + text_block(0, "a")).replace(b"claude-actual", b"claude-public")
    assert watching.failure is not None
    assert (watching.failure.status, watching.failure.type) == (529, "overloaded_error")
    assert watching.failure.retry is RetryClass.NEXT_TARGET
    assert not watching.finished
    assert watching.feed(STOP) == b""


@pytest.mark.parametrize("cut", [len(message_start()), len(message_start()) + 30, len(STREAM) // 2])
def test_a_cut_stream_is_a_failure_without_a_false_end(cut: int) -> None:
    watching, passed = run(STREAM[:cut])
    assert watching.failure is not None
    assert "acme" in watching.failure.message
    assert b"message_stop" not in passed
    assert RENAMED.startswith(passed)


def test_an_empty_stream_is_a_failure() -> None:
    assert run()[0].failure is not None


def test_a_missing_message_stop_is_supplied() -> None:
    watching, passed = run(STREAM.removesuffix(STOP))
    assert watching.finished
    assert passed == RENAMED


def test_a_last_event_without_its_blank_line_counts() -> None:
    watching, passed = run(STREAM.removesuffix(b"\n\n"))
    assert watching.finished
    assert passed == RENAMED


def test_a_half_last_event_does_not() -> None:
    watching, passed = run(message_start() + message_delta()[:-12])
    assert watching.failure is not None
    assert b"message_delta" not in passed


def test_missing_event_lines_are_supplied() -> None:
    bare = b"".join(b"data:" + line[6:] + b"\n\n" for line in STREAM.split(b"\n") if line.startswith(b"data: "))
    watching, passed = run(bare + b"data: [DONE]\n\n")
    assert watching.finished
    assert parsed(passed) == parsed(RENAMED)


def test_a_repeated_message_start_is_dropped() -> None:
    _, passed = run(message_start(), message_start(), text_block(0, "a"), message_delta(), STOP)
    assert [name for name, _ in parsed(passed)].count("message_start") == 1


def test_comments_pass() -> None:
    watching, passed = run(b": keep-alive\n\n" + STREAM)
    assert watching.finished
    assert passed == b": keep-alive\n\n" + RENAMED


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"<html>502 Bad Gateway</html>", 500, "not an event stream"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}', 529, "busy"),
        (b'data: {"error":{"message":"no such engine","code":500}}\n\n', 500, "no such engine"),
    ],
)
def test_a_200_that_is_no_event_stream(body: bytes, status: int, says: str) -> None:
    watching, passed = run(body)
    assert passed == b""
    assert watching.failure is not None
    assert watching.failure.status == status
    assert says in watching.failure.message


def test_a_broken_event_is_a_failure() -> None:
    watching, _ = run(message_start() + b"event: content_block_start\ndata: {nonsense\n\n")
    assert watching.failure is not None


def test_an_endless_event_is_a_failure() -> None:
    watching = decoder()
    watching.feed(b"data: ")
    megabyte = b"x" * 2**20
    for _ in range(MAX_EVENT_BYTES // 2**20 + 1):
        watching.feed(megabyte)
    assert watching.failure is not None


@pytest.mark.parametrize(
    "name",
    [
        "anthropic-clear-thinking.1",
        "anthropic-compaction.1",
        "anthropic-fallback",
        "anthropic-mcp.1",
        "anthropic-message-delta-input-tokens",
        "anthropic-refusal",
        "anthropic-web-search-tool.1",
        "duplicate-message-start",
    ],
)
def test_recorded_streams(recordings: Path, name: str) -> None:
    """Real traffic: everything arrives but the model's name, and the end is recognised."""
    lines = (recordings / "vercel__ai" / "anthropic" / f"{name}.chunks.txt").read_bytes().splitlines()
    events = [(json.loads(line)["type"], line) for line in lines if line.strip()]
    stream = b"".join(render(kind, data) for kind, data in events)
    watching, passed = run(*(stream[at : at + 777] for at in range(0, len(stream), 777)))
    assert watching.failure is None
    assert watching.finished
    expected = parsed(stream)
    expected = [pair for at, pair in enumerate(expected) if at == 0 or pair[0] != "message_start"]
    expected[0][1]["message"]["model"] = MODEL.name
    if expected[-1][0] != "message_stop":
        expected.append(("message_stop", {"type": "message_stop"}))
    assert parsed(passed) == expected
    deltas = [data for kind, data in expected if kind == "message_delta"]
    if "iterations" not in deltas[-1]["usage"]:
        assert watching.usage.output_tokens == deltas[-1]["usage"]["output_tokens"]
    assert watching.usage.input_tokens


# Whole answers


def whole(body: bytes) -> Any:
    return WIRE.decode_response(body, request=request(), target=TARGET, model=MODEL)


def test_a_whole_answer_keeps_its_bytes_but_for_the_model() -> None:
    body = (
        b'{"id":"msg_1","type":"message","model":"claude-actual","content":[{"type":"text","text":"h\\u00e9","x": 1.0},'
        b'{"type":"tool_use","input":{"a":1}},{"type":"future","content":[]}],"stop_reason":"tool_use",'
        b'"usage":{"input_tokens":3,"cache_creation_input_tokens":8,"output_tokens":4}}'
    )
    decoded = whole(body)
    assert decoded.body == body.replace(b"claude-actual", b"claude-public")
    assert decoded.usage == Usage(input_tokens=3, cache_write_tokens=8, output_tokens=4)
    assert decoded.stop_reason == "tool_use"
    assert decoded.output_chars == 2 + len('{"a":1}')


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<html></html>", 500),
        (b"", 500),
        (b"[1]", 500),
        (b'{"type":"completion","content":[]}', 500),
        (b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}', 429),
        (b"[" * 100_000, 500),
    ],
)
def test_a_200_that_is_no_message(body: bytes, status: int) -> None:
    with pytest.raises(UpstreamError) as raised:
        whole(body)
    assert raised.value.failure.status == status
    assert "acme" in raised.value.failure.message


# Errors


def error(status: int, message: str, kind: str = "invalid_request_error", **headers: str) -> Any:
    body = msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_9"})
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return WIRE.decode_error(status, names, body, target=TARGET), body


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (400, "thinking.adaptive.display: Extra inputs are not permitted", "invalid_request_error"),
        (400, "prompt is too long: 210118 tokens > 200000 maximum", "invalid_request_error"),
        (400, "input length and `max_tokens` exceed context limit: 1 + 2 > 2", "invalid_request_error"),
        (413, "Request exceeds the maximum size", "request_too_large"),
        (422, "messages.0: nonsense", "invalid_request_error"),
    ],
)
def test_refusals_of_the_request_reach_the_client_unmodified(status: int, said: str, kind: str) -> None:
    failure, body = error(status, said, kind)
    assert failure.body == body
    assert failure.message == said
    assert failure.status == (413 if status == 413 else 400)
    assert failure.retry is RetryClass.NEVER


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (401, "invalid x-api-key", "authentication_error"),
        (403, "Your organization has been disabled", "permission_error"),
        (402, "Insufficient Balance", "billing_error"),
        (400, "Your credit balance is too low to access the Anthropic API.", "invalid_request_error"),
        (404, "model: claude-actual", "not_found_error"),
        (302, "", ""),
        (405, "Method not allowed", ""),
    ],
)
def test_what_only_the_operator_can_put_right(status: int, said: str, kind: str) -> None:
    failure, _ = error(status, said, kind)
    assert (failure.status, failure.type, failure.should_retry) == (500, "api_error", False)
    assert failure.retry is RetryClass.NEXT_TARGET
    assert failure.body is None
    assert "acme" in failure.message
    for trigger in ("credit balance is too low", "x-api-key", "organization has been disabled"):
        assert trigger not in failure.message


@pytest.mark.parametrize(
    ("status", "kind", "shown", "shown_kind"),
    [
        (429, "rate_limit_error", 429, "rate_limit_error"),
        (529, "overloaded_error", 529, "overloaded_error"),
        (503, "overloaded_error", 529, "overloaded_error"),
        (500, "api_error", 500, "api_error"),
        (502, "api_error", 500, "api_error"),
        (504, "timeout_error", 504, "timeout_error"),
    ],
)
def test_faults_of_the_provider_go_to_the_next_target(status: int, kind: str, shown: int, shown_kind: str) -> None:
    failure, _ = error(status, "something happened", kind, retry_after="7")
    assert (failure.status, failure.type) == (shown, shown_kind)
    assert failure.retry is RetryClass.NEXT_TARGET
    assert failure.retry_after == 7
    assert failure.upstream_status == status


def test_a_rate_limit_does_not_tell_whose_it_is() -> None:
    failure, _ = error(429, "This request would exceed your organization's rate limit (org: 1-2-3)", "rate_limit_error")
    assert failure.message == "The provider acme is limiting CCM's requests."


def test_html_becomes_a_sentence() -> None:
    failure = WIRE.decode_error(502, {}, b"<html><h1>502 Bad Gateway</h1></html>", target=TARGET)
    assert failure.message == "The provider acme failed (HTTP 502)."


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"maximum context length is 8192 tokens. However, you requested about 9000 tokens"}}',
        b'{"error":"The input (9000 tokens) is longer than the model\'s context length (8192 tokens)"}',
        b'{"message":"prompt is too long: 9000, model maximum context length: 8192"}',
    ],
)
def test_context_overflow_of_compatible_servers_gets_anthropics_wording(body: bytes) -> None:
    failure = WIRE.decode_error(400, {}, body, target=TARGET)
    assert failure.message == "prompt is too long: 9000 tokens > 8192 maximum"
    assert failure.body is None
    assert failure.status == 400


@pytest.mark.parametrize(
    "secret", ["sk-ant-api03-AbCdEfGhIjKl", "gsk_abcdefgh12345678", "0123456789abcdef0123456789abcdef.QwErTy"]
)
@pytest.mark.parametrize("status", [400, 500])
def test_keys_in_errors_are_hidden(secret: str, status: int) -> None:
    failure, _ = error(status, f"wrong key {secret} used")
    assert secret not in failure.message
    assert failure.body is None or secret.encode() not in failure.body


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "1.5"}, 1.5),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after": "Thu, 01 Jan 2026 00:00:30 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 30),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert error(429, "slow down", "rate_limit_error", **headers)[0].retry_after == seconds


def test_ordinary_words_are_not_taken_for_keys() -> None:
    said = "tools.0.input_schema: keyboard-shortcuts-and-keywords must be skipped-or-skimmed"
    assert error(400, said)[0].message == said
