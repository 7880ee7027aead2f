"""One table of what errors mean, the same whoever said it."""

from typing import get_args

import pytest

from providers.types import RetryClass
from providers.wire.failures import MEANINGS, Cause, cause_of, failure
from tests.conformance.wires import SPEAKERS, Speaker
from tests.providers.openai_chat_support import target

PLAIN = {401: 500, 402: 500, 404: 500, 408: 504, 413: 413, 422: 400, 429: 429, 500: 500, 502: 500, 529: 529}
"""What the client gets for a status whose answer says nothing in particular."""


@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
@pytest.mark.parametrize("status", PLAIN)
def test_a_status_means_the_same_at_every_provider(speaker: Speaker, status: int) -> None:
    told = speaker.failure(status, {"message": "Something went wrong."})
    assert (told.status, told.upstream_status) == (PLAIN[status], status)
    assert told.retry is (RetryClass.NEVER if status in {413, 422} else RetryClass.NEXT_TARGET)
    assert (told.should_retry is False) == (status in {401, 402, 404})


@pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
def test_what_is_said_of_limits_is_the_operators_affair(speaker: Speaker) -> None:
    said = "Rate limit reached for organization org-8aF3 on tokens per min: limit 30000."
    told = speaker.failure(429, {"error": {"message": said, "code": 429}, "message": said})
    assert told.message == "The provider acme is limiting CCM's requests."


def test_every_cause_has_a_meaning() -> None:
    assert set(MEANINGS) == set(get_args(Cause))


@pytest.mark.parametrize("cause", MEANINGS)
def test_no_key_is_quoted_and_messages_are_short(cause: Cause) -> None:
    said = "key sk-abcdefghijklmnop " + "x" * 2000
    told = failure(cause, target=target(), status=418, said=said)
    assert "sk-abc" not in told.message
    assert len(told.message) < 700
    assert "{" not in told.message


def test_statuses_that_nobody_documents() -> None:
    assert [cause_of(status) for status in (307, 418, 520, 599)] == ["redirect", "failed", "failed", "failed"]
