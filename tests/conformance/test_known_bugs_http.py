"""Bugs of other gateways that show on the connection (translation.md, section 5), looked for in a running
CCM with a fake provider behind it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conformance.replay import Answer, Stage
from tests.conformance.wires import BY_NAME
from tests.fakes.answers import Reply, Text

GROQ = "groq-openai-chat/llama-3.3-70b-versatile"
CLAUDE = "anthropic-anthropic/claude-sonnet-4-6"
STREAM = "text/event-stream"
SAID = Reply([Text("Hello there, friend.")])
REFUSED = "messages.1.content.0: Invalid `signature` in `thinking` block"
INVALID_SIGNATURE = {"type": "error", "error": {"type": "invalid_request_error", "message": REFUSED}}


@pytest.fixture(scope="module")
def http(stage: Stage) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {stage.key}", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=stage.ccm.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def body(model: str = GROQ, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "hello"}], **fields}


def pieces(reply: Reply = SAID, name: str = "openai_chat") -> tuple[bytes, ...]:
    return tuple(BY_NAME[name].events(reply))


def test_b024_a_stream_is_answered_to_whoever_asks_for_one(stage: Stage, http: httpx.Client) -> None:
    """Also when the provider answers with JSON all the same."""
    whole = json.dumps(BY_NAME["openai_chat"].front.whole(SAID, {"model": "m"})).encode()
    stage.server.play(Answer((whole,)))
    response = http.post("/v1/messages", json=body(stream=True))
    assert response.headers["content-type"].startswith(STREAM)
    assert response.text.startswith("event: message_start\n")
    assert response.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert "Hello there, friend." in response.text


def test_b029_033_every_event_leaves_at_once(stage: Stage, http: httpx.Client) -> None:
    """The first words arrive while the provider is still writing the last ones."""
    told = pieces()
    stage.server.play(Answer(told, STREAM, hold_before=len(told) - 2))
    with http.stream("POST", "/v1/messages", json=body(stream=True)) as response:
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-cache"
        lines = response.iter_lines()
        for line in lines:
            if "there" in line:
                break
        stage.server.resume()
        assert "message_stop" in "\n".join(lines)


def test_b035_an_error_before_any_word_is_an_error_and_no_message(stage: Stage, http: httpx.Client) -> None:
    stage.server.play(
        Answer((b'data: {"error":{"message":"upstream broke","code":502}}\n\n', b"data: [DONE]\n\n"), STREAM)
    )
    response = http.post("/v1/messages", json=body(stream=True))
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/json"
    assert response.json()["type"] == "error"
    assert "upstream broke" in response.json()["error"]["message"]


def test_b043_nothing_of_a_failed_provider_reaches_the_client(stage: Stage, http: httpx.Client) -> None:
    failed = {"retry-after": "7", "x-ratelimit-remaining-tokens": "0", "set-cookie": "a=b", "x-should-retry": "true"}
    stage.server.play(
        Answer((b'{"error":{"message":"slow down"}}',), status=429, headers=failed),
        Answer(pieces(name="anthropic"), STREAM),
    )
    response = http.post("/v1/messages", json=body("two-targets", stream=True))
    assert response.status_code == 200
    assert "Hello" in response.text
    assert (response.headers["x-ccm-provider"], response.headers["x-ccm-attempts"]) == ("anthropic-anthropic", "2")
    assert not set(failed) & set(response.headers)


def test_b077_a_conversation_goes_on_when_claude_refuses_its_thinking(stage: Stage, http: httpx.Client) -> None:
    """Thinking that another account has signed: once more without it, and the client never knows."""
    whole = json.dumps(BY_NAME["anthropic"].front.whole(SAID, {"model": "m"})).encode()
    stage.server.play(Answer((json.dumps(INVALID_SIGNATURE).encode(),), status=400), Answer((whole,)))
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "of-another-account"}
    told = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "y"}]},
        {"role": "user", "content": "z"},
    ]
    response = http.post("/v1/messages", json=body(CLAUDE, messages=told))
    assert response.status_code == 200, response.text
    first, second = (asked.body["messages"][1]["content"] for asked in stage.server.asked)
    assert first[0] == thinking
    assert second == [{"type": "text", "text": "y"}]


def test_b113_a_provider_that_refuses_our_key_does_not_log_the_client_out(stage: Stage, http: httpx.Client) -> None:
    """The client takes a 401 for its own, and tries again for ever."""
    stage.server.play(Answer((b'{"error":{"message":"Incorrect API key provided: sk-abcdefghijk"}}',), status=401))
    response = http.post("/v1/messages", json=body())
    assert response.status_code == 500
    assert response.headers["x-should-retry"] == "false"
    assert "sk-abc" not in response.text
    assert len(stage.server.asked) == 1
