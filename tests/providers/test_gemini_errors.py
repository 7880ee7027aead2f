"""What Google's errors mean (translation.md 3.2 to 3.4)."""

import json
from typing import Any

import pytest

from providers.types import RetryClass, UpstreamFailure
from tests.providers.gemini_support import WIRE, target

NEVER, NEXT, SAME = RetryClass.NEVER, RetryClass.NEXT_TARGET, RetryClass.SAME_TARGET


def body(status: int, message: str, name: str = "", *details: dict[str, Any]) -> bytes:
    return json.dumps(
        {"error": {"code": status, "message": message, "status": name, "details": list(details)}}
    ).encode()


def failure(status: int, raw: bytes, headers: dict[str, str] | None = None) -> UpstreamFailure:
    return WIRE.decode_error(status, headers or {}, raw, target=target())


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


def retry_info(delay: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def reason(text: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": text}


@pytest.mark.parametrize(
    ("status", "raw", "shown", "kind", "retry"),
    [
        (400, body(400, "Invalid value at 'contents'", "INVALID_ARGUMENT"), 400, "invalid_request_error", NEVER),
        (400, body(400, "API key not valid.", "INVALID_ARGUMENT", reason("API_KEY_INVALID")), 500, "api_error", NEXT),
        (
            400,
            body(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
            500,
            "api_error",
            NEXT,
        ),
        (401, body(401, "Request had invalid credentials.", "UNAUTHENTICATED"), 500, "api_error", NEXT),
        (403, body(403, "Permission denied", "PERMISSION_DENIED"), 500, "api_error", NEXT),
        (404, body(404, "models/x is not found for API version v1beta", "NOT_FOUND"), 500, "api_error", NEXT),
        (409, body(409, "Aborted", "ABORTED"), 500, "api_error", SAME),
        (413, b"<html>too large</html>", 413, "request_too_large", NEVER),
        (400, body(400, "Request payload size exceeds the limit: 20971520 bytes."), 413, "request_too_large", NEVER),
        (429, body(429, "Resource exhausted", "RESOURCE_EXHAUSTED"), 429, "rate_limit_error", NEXT),
        (499, body(499, "The operation was cancelled.", "CANCELLED"), 504, "timeout_error", NEXT),
        (500, body(500, "An internal error has occurred.", "INTERNAL"), 500, "api_error", NEXT),
        (503, body(503, "The model is overloaded.", "UNAVAILABLE"), 529, "overloaded_error", NEXT),
        (504, body(504, "Deadline expired", "DEADLINE_EXCEEDED"), 504, "timeout_error", NEXT),
        (302, b"", 500, "api_error", NEXT),
        (502, b"<html>Bad Gateway</html>", 500, "api_error", NEXT),
    ],
)
def test_errors(status: int, raw: bytes, shown: int, kind: str, retry: RetryClass) -> None:
    for answer in (raw, b"[" + raw + b"]" if raw.startswith(b"{") else raw):
        told = failure(status, answer)
        assert (told.status, told.type, told.retry, told.upstream_status) == (shown, kind, retry, status)
        assert "<html>" not in told.message
        operators = status in {302, 401, 403, 404} or "API key" in told.message or (shown == 500 and status == 400)
        assert told.should_retry is (False if operators else None)


def test_bug_042_the_wait_that_google_asks_for() -> None:
    told = failure(429, body(429, "You exceeded your current quota, please check your plan.", "", retry_info("34.4s")))
    assert told.retry_after == 34.4
    assert told.message == "The provider acme is limiting CCM's requests."
    assert failure(429, body(429, "x", "", retry_info("soon"))).retry_after is None
    assert failure(503, body(503, "x"), {"retry-after": "7"}).retry_after == 7


def test_the_recorded_rate_limit(recordings: Any) -> None:
    raw = (recordings / "vercel__ai/google/google-429-retry-info.json").read_bytes()
    told = failure(429, raw)
    assert (told.status, told.type, told.retry_after, told.should_retry) == (429, "rate_limit_error", 34.4, None)


def test_a_quota_of_the_day_is_not_worth_waiting_for() -> None:
    raw = body(429, "quota", "RESOURCE_EXHAUSTED", quota("GenerateRequestsPerDayPerProject"), retry_info("20s"))
    told = failure(429, raw)
    assert (told.should_retry, told.retry_after, told.retry) == (False, None, NEXT)


def test_bug_037_a_prompt_beyond_the_window_has_anthropic_s_wording() -> None:
    said = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    expected = "prompt is too long: 1200000 tokens > 1048576 maximum"
    told = failure(400, body(400, said, "INVALID_ARGUMENT"))
    assert (told.status, told.type, told.message, told.retry) == (400, "invalid_request_error", expected, NEVER)
    vague = failure(400, body(400, "The input token count exceeds the maximum number of tokens allowed 1048576."))
    assert vague.message.startswith("prompt is too long")


def test_bug_040_a_refused_signature_is_no_overload() -> None:
    told = failure(
        400, body(400, "Function call is missing a thought_signature in functionCall parts.", "INVALID_ARGUMENT")
    )
    assert (told.status, told.retry) == (400, NEVER)
    assert "thought_signature" in told.message


def test_no_key_and_no_token_is_repeated() -> None:
    for secret in ("AIzaSyA-secret-0123456789", "ya29.c.c0AYnq-secret-x", "AQ.Ab8-secret-0123"):
        told = failure(400, body(400, f"Bad value {secret} given"))
        assert secret not in told.message
        assert "[secret]" in told.message


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [("UNAVAILABLE", None, 529), ("RESOURCE_EXHAUSTED", None, 429), ("", 429, 429), ("", 7, 500)],
)
def test_errors_inside_a_200(status: str, code: int | None, shown: int) -> None:
    from tests.providers.gemini_support import data, stream

    error = {"message": "x", "status": status} | ({"code": code} if code else {})
    told = stream(data({"error": error})).decoder.failure
    assert told is not None
    assert told.status == shown
