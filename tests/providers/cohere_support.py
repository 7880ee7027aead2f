"""Events, readers and senders for the tests of the cohere wire."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from providers.types import Model, Target
from providers.wire.cohere import CohereWire
from providers.wire.request import MessagesRequest
from tests.fakes.cohere import CohereFront
from tests.providers.openai_chat_support import BASH, Streamed, model, request
from tests.providers.openai_chat_support import target as openai_target

WIRE = CohereWire()
HEADERS = {"authorization": "Bearer k"}


def target(**changes: Any) -> Target:
    base = openai_target("cohere", "command-a-03-2025")
    return replace(base, wire="cohere", **{"base_url": "https://api.cohere.com", **changes})


def encoded(
    asked: MessagesRequest, *, served: Model | None = None, max_tokens: int = 1000, allowed: bool = True
) -> dict[str, Any]:
    """The body that Cohere gets for `asked`, which it takes (`allowed`)."""
    outbound = WIRE.encode(
        asked,
        target=target(),
        model=served or model(),
        max_tokens=max_tokens,
        client_headers={"anthropic-beta": "x", "x-claude-code-session-id": "s"},
    )
    body: dict[str, Any] = json.loads(outbound.body)
    refused = CohereFront().violation(body, {**HEADERS, **outbound.headers})
    assert refused is None or not allowed, refused
    return body


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def content(kind: str, *pieces: str, index: int = 0) -> list[bytes]:
    start = event("content-start", index=index, delta={"message": {"content": {"type": kind, kind: ""}}})
    deltas = [event("content-delta", index=index, delta={"message": {"content": {kind: piece}}}) for piece in pieces]
    return [start, *deltas, event("content-end", index=index)]


def call(name: str, *pieces: str, index: int = 0) -> list[bytes]:
    told = {"id": f"{name}_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    return [
        event("tool-call-start", index=index, delta={"message": {"tool_calls": told}}),
        *(call_piece(piece, index) for piece in pieces),
        event("tool-call-end", index=index),
    ]


def call_piece(arguments: str, index: int = 0) -> bytes:
    told = {"function": {"arguments": arguments}}
    return event("tool-call-delta", index=index, delta={"message": {"tool_calls": told}})


def end(reason: str = "COMPLETE", error: str | None = None, **usage: Any) -> bytes:
    told = {"tokens": {"input_tokens": 100, "output_tokens": 7}, "cached_tokens": 40, **usage}
    delta: dict[str, Any] = {"finish_reason": reason, "usage": told}
    return event("message-end", delta=delta | ({"error": error} if error else {}))


def feed(pieces: Iterable[bytes], *, asked: MessagesRequest | None = None) -> Streamed:
    decoder = WIRE.stream_decoder(request=asked or request(tools=[BASH], stream=True), target=target(), model=model())
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return Streamed(decoder, out + decoder.close())


def whole(body: dict[str, Any], *, asked: MessagesRequest | None = None) -> dict[str, Any]:
    """The Message that a whole answer becomes."""
    decoded = WIRE.decode_response(
        json.dumps(body).encode(), request=asked or request(tools=[BASH]), target=target(), model=model()
    )
    message: dict[str, Any] = json.loads(decoded.body)
    return message


def folded(events: Iterable[bytes]) -> dict[str, Any]:
    """The whole answer that says what the stream of `events` says."""
    message: dict[str, Any] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    answer: dict[str, Any] = {"id": "x", "message": message}
    for raw in events:
        told = json.loads(raw.partition(b"data: ")[2])
        delta = told.get("delta") or {}
        part = delta.get("message") or {}
        match told["type"]:
            case "content-start":
                message["content"].append(dict(part["content"]))
            case "content-delta":
                for name, piece in part["content"].items():
                    message["content"][-1][name] += piece
            case "tool-plan-delta":
                message["tool_plan"] += part["tool_plan"]
            case "tool-call-start":
                message["tool_calls"].append(part["tool_calls"])
            case "tool-call-delta":
                message["tool_calls"][told["index"]]["function"]["arguments"] += part["tool_calls"]["function"][
                    "arguments"
                ]
            case "citation-start":
                message["citations"].append(part["citations"])
            case "message-end":
                answer |= delta
    return answer
