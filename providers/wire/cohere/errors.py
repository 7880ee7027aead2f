"""What Cohere's errors mean for a request: `{"id", "message"}` with a status (translation.md 3.3)."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from providers.types import Target, UpstreamFailure
from providers.wire.openai_chat import errors as usual

INVALID_TOKEN = 498
"""Cohere's own status for a key that it does not know; elsewhere 498 means that there is no capacity."""


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, target: Target) -> UpstreamFailure:
    if status == INVALID_TOKEN:
        return replace(usual.failure_of_answer(401, headers, body, target=target), upstream_status=status)
    return usual.failure_of_answer(status, headers, body, target=target)


def failure_in_answer(said: str, *, target: Target) -> UpstreamFailure:
    """What it means that an answer ended in an error, which `said` describes."""
    return usual.failure_in_stream(msgspec.json.encode({"message": said}), target=target)
