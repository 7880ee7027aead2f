"""What errors of the Responses API mean: those of Chat Completions, and a few of its own."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from providers.types import Target, UpstreamFailure
from providers.wire.openai_chat import errors as chat

LOST_REASONING = re.compile(
    rb"invalid_encrypted_content|encrypted content\b.{0,200}could not be (?:verified|decrypted|parsed)", re.DOTALL
)
"""The reasoning that came back was written by another account, or before a key was changed."""
CODES = {
    "server_error": 500,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 529,
    "slow_down": 529,
    "vector_store_timeout": 504,
}
"""The HTTP status that a code inside a 200 answer stands for. Every other code names a fault of
the request (invalid_prompt, image_too_large ...), and none at all a failure."""


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    """What a non-2xx answer means."""
    failure = chat.failure_of_answer(status, headers, body, target=target)
    return replace(failure, drop_reasoning=True) if status == 400 and LOST_REASONING.search(body) else failure


def failure_in_answer(error: Any, *, target: Target) -> UpstreamFailure:
    """What the error object of a failed response, or of an `error` event, means."""
    told = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else ""}
    body = msgspec.json.encode({"error": told})
    code = told.get("code")
    if not isinstance(code, str) or not code:
        return chat.failure_in_stream(body, target=target)
    if code.isdecimal() and 400 <= int(code) < 600:
        return failure_of_answer(int(code), {}, body, target=target)
    return failure_of_answer(CODES.get(code, 400), {}, body, target=target)
