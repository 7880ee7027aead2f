"""Odd requests, and those of the real client, as Chat Completions requests: the order that their
servers insist on, and prefixes that a cache can use."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import InvalidRequest
from providers.wire.openai_chat.quirks import QUIRKS
from providers.wire.request import MessagesRequest
from tests.fakes.openai import OpenAIFront
from tests.providers.openai_chat_support import (
    encoded,
    model,
    order_problem,
    request,
    target,
)

KINDS = ("openai", "openai-compatible", *(kind for kind in QUIRKS if kind != "openai"))


# -- anything

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "text", "base64", "url", "tool_reference"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "url", "data", "content", "tool_name"]), inner, max_size=4)
    ),
    max_leaves=8,
)
TYPES = (
    "text", "image", "document", "tool_use", "tool_result", "thinking", "search_result", "compaction",
    "web_search_tool_result", "x",
)  # fmt: skip
FIELDS = ("content", "source", "input", "title", "id", "tool_use_id", "name", "text", "thinking")
BLOCKS = st.fixed_dictionaries({"type": st.sampled_from(TYPES)}, optional=dict.fromkeys(FIELDS, JSON))


@settings(deadline=None, max_examples=300)
@given(
    conversation=st.lists(
        st.tuples(st.sampled_from(["user", "assistant", "system"]), st.lists(BLOCKS, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    extra=st.dictionaries(
        st.sampled_from(["tool_choice", "stop_sequences", "temperature", "output_config", "metadata", "tools"]), JSON
    ),
    kind=st.sampled_from(KINDS),
)
def test_odd_requests_are_translated_or_refused_by_name(
    conversation: list[tuple[str, Any]], extra: dict[str, Any], kind: str
) -> None:
    try:
        sent = encoded(request(*conversation, **extra), to=target(kind))
    except InvalidRequest as refused:
        assert re.match(r"[a-z_]+: ", str(refused))  # noqa: PT017  either outcome is right
    else:
        assert order_problem(sent["messages"]) is None


# -- the client's own requests


def claude_code_requests(recordings: Path) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for folder in ("claude-code", "claude-code-2.1.330"):
        for path in sorted((recordings / folder).glob("*.json")):
            body = json.loads(path.read_text())["body"]
            if body and "max_tokens" in body:
                found.append((f"{folder}/{path.name}", body))
    assert len(found) > 70
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_of_claude_code_is_in_order(recordings: Path, kind: str) -> None:
    for name, body in claude_code_requests(recordings):
        sent = encoded(MessagesRequest.parse(json.dumps(body).encode()), to=target(kind))
        assert order_problem(sent["messages"]) is None, name
        told = json.dumps(sent)
        for word in ("x-anthropic-billing-header", "safeguards", "cache_control", "defer_loading"):
            assert word not in told, (name, word)
        assert "DeferredToolPlaceholder" not in json.dumps(sent.get("tools")), name


@pytest.mark.parametrize("vision", [True, False])
def test_every_request_of_claude_code_passes_openais_rules(recordings: Path, vision: bool) -> None:
    front = OpenAIFront()
    for name, body in claude_code_requests(recordings):
        sent = encoded(MessagesRequest.parse(json.dumps(body).encode()), served=model(vision=vision))
        assert front.violation(sent, {"authorization": "Bearer k"}) is None, name
        assert ("image_url" in json.dumps(sent["messages"])) <= vision


@pytest.mark.parametrize("kind", KINDS)
def test_each_turn_continues_the_last_ones_messages(recordings: Path, kind: str) -> None:
    compared = 0
    for name, body in claude_code_requests(recordings):
        messages = body["messages"]
        whole = encoded(MessagesRequest.parse(json.dumps(body).encode()), to=target(kind))["messages"]
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or index == 0:
                continue
            earlier = body | {"messages": messages[:index]}
            sent = encoded(MessagesRequest.parse(json.dumps(earlier).encode()), to=target(kind))["messages"]
            assert whole[: len(sent)] == sent, (name, index)
            compared += 1
    assert compared > 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_without_a_word_still_has_a_user_message(kind: str) -> None:
    sent = encoded(request(("system", []), system="Be."), to=target(kind))["messages"]
    assert [message["role"] for message in sent] == ["system", "user"]
