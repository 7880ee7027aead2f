"""What non-2xx answers of Chat Completions servers mean."""

import json
from typing import Any

import pytest

from providers.types import RetryClass, UpstreamFailure
from tests.providers.openai_chat_support import WIRE, target

NEXT, NEVER, SAME = RetryClass.NEXT_TARGET, RetryClass.NEVER, RetryClass.SAME_TARGET


def failure(status: int, body: Any = b"", **headers: str) -> UpstreamFailure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return WIRE.decode_error(status, told, raw, target=target())


def openai(message: str, kind: str = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


TABLE = [
    (
        400,
        openai("Unsupported parameter: 'max_tokens'", code="unsupported_parameter"),
        400,
        "invalid_request_error",
        NEVER,
    ),
    (422, {"detail": [{"loc": ["body"], "msg": "Extra inputs", "type": "x"}]}, 400, "invalid_request_error", NEVER),
    (400, openai("filtered", code="content_filter"), 400, "policy_blocked", NEVER),
    (401, openai("Incorrect API key provided: sk-abcdefgh12345678"), 500, "api_error", NEXT),
    (400, openai("Invalid API key", code="invalid_api_key"), 500, "api_error", NEXT),
    (403, openai("no access"), 500, "api_error", NEXT),
    (402, {"error": {"message": "Insufficient Balance"}}, 500, "api_error", NEXT),
    (
        429,
        openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        500,
        "api_error",
        NEXT,
    ),
    (404, openai("The model `x` does not exist", code="model_not_found"), 500, "api_error", NEXT),
    (400, openai("The model `x` does not exist", code="model_not_found"), 500, "api_error", NEXT),
    (429, openai("Rate limit reached"), 429, "rate_limit_error", NEXT),
    (
        413,
        openai("Request too large for model `x` on tokens per minute (TPM): Limit 6000"),
        429,
        "rate_limit_error",
        NEXT,
    ),
    (413, b"<html>Too large</html>", 413, "request_too_large", NEVER),
    (500, openai("boom", "server_error"), 500, "api_error", NEXT),
    (502, b"<html><h1>502 Bad Gateway</h1></html>", 500, "api_error", NEXT),
    (503, openai("The engine is currently overloaded"), 529, "overloaded_error", NEXT),
    (
        503,
        {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
        529,
        "overloaded_error",
        NEXT,
    ),
    (503, b"", 529, "overloaded_error", NEXT),
    (503, openai("maintenance"), 500, "api_error", NEXT),
    (529, b"", 529, "overloaded_error", NEXT),
    (504, b"", 504, "timeout_error", NEXT),
    (524, b"<html>", 504, "timeout_error", NEXT),
    (409, openai("conflict"), 500, "api_error", SAME),
    (400, openai("Failed to call a function", code="tool_use_failed"), 500, "api_error", SAME),
    (302, b"", 500, "api_error", NEXT),
    (405, b"", 500, "api_error", NEXT),
    (418, b"teapot", 500, "api_error", NEXT),
]


@pytest.mark.parametrize(("status", "body", "shown", "kind", "retry"), TABLE)
def test_meaning(status: int, body: Any, shown: int, kind: str, retry: RetryClass) -> None:
    told = failure(status, body)
    assert (told.status, told.type, told.retry) == (shown, kind, retry)
    assert told.upstream_status == status
    assert "acme" in told.message
    assert told.body is None


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 302])
def test_what_only_the_operator_can_mend_is_not_repeated_by_the_client(status: int) -> None:
    assert failure(status).should_retry is False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (openai("plain"), "plain"),
        ({"error": "a string"}, "a string"),
        ({"code": "c", "error": "xAI says"}, "xAI says"),
        ({"message": "flat", "type": "t", "code": "c"}, "flat"),
        ({"detail": "FastAPI"}, "FastAPI"),
        ([{"error": {"code": 400, "message": "in a list"}}], "in a list"),
        (b"just text", "just text"),
    ],
)
def test_shapes(body: Any, said: str) -> None:
    assert failure(400, body).message == f"The provider acme refused the request (HTTP 400): {said}"


@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"{", b"{}", b"[]", b"null", b"\xff"])
def test_unreadable_bodies_are_not_quoted(body: bytes) -> None:
    assert failure(502, body).message.startswith("The provider acme failed (HTTP 502)")
    assert "<" not in failure(502, body).message


OVERFLOWS = [
    (
        openai(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.",
            code="context_length_exceeded",
        ),
        "prompt is too long: 130001 tokens > 128000 maximum",
    ),
    (
        {"error": {"message": "This endpoint's maximum context length is 10 tokens. However, you requested about 20"}},
        "prompt is too long: 20 tokens > 10 maximum",
    ),
    (
        {"message": "Please reduce the length. Current length is 9000 while limit is 8192", "code": "x"},
        "prompt is too long: 9000 tokens > 8192 maximum",
    ),
    (openai("Too long.", code="context_length_exceeded"), "prompt is too long: the conversation exceeds"),
    (
        {"error": {"code": "1261", "message": "Prompt exceeds max length"}},
        "prompt is too long: the conversation exceeds",
    ),
    (
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
            }
        },
        "prompt is too long: the conversation exceeds",
    ),
]


@pytest.mark.parametrize("status", [400, 413, 422, 500])
@pytest.mark.parametrize(("body", "expected"), OVERFLOWS)
def test_context_overflow_has_anthropics_words(status: int, body: Any, expected: str) -> None:
    told = failure(status, body)
    assert (told.status, told.type, told.retry) == (400, "invalid_request_error", NEVER)
    assert told.message.startswith(expected)


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (b"", {"retry_after": "7"}, 7.0),
        (b"", {"retry_after_ms": "1500"}, 1.5),
        (openai("Please try again in 1.2s."), {}, 1.2),
        (openai("Please try again in 6m0s."), {}, 360.0),
        (openai("Please try again in 12ms."), {}, 0.012),
        ([{"error": {"message": "quota", "details": [{"retryDelay": "34.4s"}]}}], {}, 34.4),
        (openai("Rate limit reached"), {}, None),
    ],
)
def test_when_to_try_again(body: Any, headers: dict[str, str], seconds: float | None) -> None:
    assert failure(429, body, **headers).retry_after == seconds


def test_no_key_is_quoted_and_messages_are_short() -> None:
    told = failure(400, openai("Bad key sk-proj-abcdefgh12345678 for AIzaSyABCDEFGH1234567 " + "x" * 5000))
    assert "abcdefgh" not in told.message
    assert "ABCDEFGH" not in told.message
    assert len(told.message) < 600
