"""Frames, readers and senders for the tests of the bedrock wire."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from providers.types import Model, Target
from providers.wire.base import OutboundRequest
from providers.wire.bedrock import BedrockWire
from providers.wire.request import MessagesRequest
from tests.fakes.bedrock import PATH, BedrockFront, event
from tests.providers.openai_chat_support import BASH, Streamed, model, request
from tests.providers.openai_chat_support import target as openai_target

WIRE = BedrockWire()
URL = "https://bedrock-runtime.eu-west-1.amazonaws.com"
CLAUDE = "eu.anthropic.claude-sonnet-4-6-v1:0"
OPUS = "anthropic.claude-opus-4-5-20251101-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"
NOVA_2 = "amazon.nova-2-lite-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
MISTRAL = "mistral.mistral-large-2407-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"
CONVERSE_CLAUDE = "converse/anthropic.claude-sonnet-4-6-v1:0"
UNKNOWN = "qwen.qwen3-32b-v1:0"


def target(actual_model: str = GPT_OSS, **changes: Any) -> Target:
    base = openai_target("bedrock", actual_model)
    return replace(base, wire="bedrock", **{"base_url": URL, **changes})


def outbound(
    asked: MessagesRequest, actual_model: str, *, served: Model | None = None, max_tokens: int = 1000, betas: str = ""
) -> OutboundRequest:
    headers = {"x-claude-code-session-id": "s", "anthropic-version": "2023-06-01", "anthropic-beta": betas}
    return WIRE.encode(
        asked, target=target(actual_model), model=served or model(), max_tokens=max_tokens, client_headers=headers
    )


def encoded(asked: MessagesRequest, actual_model: str = GPT_OSS, **options: Any) -> dict[str, Any]:
    """The body that Bedrock gets for `asked`, which it takes."""
    sent = outbound(asked, actual_model, **options)
    body: dict[str, Any] = json.loads(sent.body)
    found = PATH.fullmatch(sent.url.removeprefix(URL))
    assert found is not None
    told = {**body, "modelId": actual_model.rpartition("converse/")[2], "action": found[2], "stream": False}
    refused = BedrockFront().violation(told, dict(sent.headers))
    assert refused is None, refused
    return body


def delta(index: int = 0, **part: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=part)


def texts(*pieces: str, index: int = 0) -> list[bytes]:
    """A text block: Bedrock does not tell that it starts."""
    return [*(delta(index, text=piece) for piece in pieces), stop_block(index)]


def thinking(*pieces: str, signature: str = "", index: int = 0) -> list[bytes]:
    said = [delta(index, reasoningContent={"text": piece}) for piece in pieces]
    signed = [delta(index, reasoningContent={"signature": signature})] if signature else []
    return [*said, *signed, stop_block(index)]


def call(name: str, *pieces: str, index: int = 0) -> list[bytes]:
    start = {"toolUse": {"toolUseId": f"tooluse_{index}", "name": name}}
    return [
        event("contentBlockStart", contentBlockIndex=index, start=start),
        *(delta(index, toolUse={"input": piece}) for piece in pieces),
        stop_block(index),
    ]


def stop_block(index: int = 0) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


def end(reason: str = "end_turn", fields: Any = None, **usage: Any) -> list[bytes]:
    told = {"inputTokens": 60, "outputTokens": 7, "totalTokens": 107, "cacheReadInputTokens": 40, **usage}
    more = {} if fields is None else {"additionalModelResponseFields": fields}
    return [
        event("messageStop", stopReason=reason, **more),
        event("metadata", usage=told, metrics={"latencyMs": 1}),
    ]


START = event("messageStart", role="assistant")


def feed(pieces: Iterable[bytes], *, actual_model: str = GPT_OSS, asked: MessagesRequest | None = None) -> Streamed:
    decoder = WIRE.stream_decoder(
        request=asked or request(tools=[BASH], stream=True), target=target(actual_model), model=model()
    )
    out = b"".join(decoder.feed(piece) for piece in pieces)
    return Streamed(decoder, out + decoder.close())


def whole(body: Any, *, actual_model: str = GPT_OSS, asked: MessagesRequest | None = None) -> dict[str, Any]:
    """The Message that a whole answer becomes."""
    decoded = WIRE.decode_response(
        json.dumps(body).encode(), request=asked or request(tools=[BASH]), target=target(actual_model), model=model()
    )
    message: dict[str, Any] = json.loads(decoded.body)
    return message


def folded(frames: Iterable[bytes]) -> dict[str, Any]:
    """The whole answer that says what the stream of `frames` says, by botocore's reading of them."""
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(frames))
    blocks: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {"usage": {}, "stopReason": ""}
    for message in buffer:
        told = json.loads(message.payload)
        match message.headers[":event-type"]:
            case "contentBlockStart":
                blocks[told["contentBlockIndex"]] = {"toolUse": {**told["start"]["toolUse"], "input": ""}}
            case "contentBlockDelta":
                _fold(blocks.setdefault(told["contentBlockIndex"], {}), told["delta"])
            case "messageStop":
                answer["stopReason"] = told["stopReason"]
                answer["additionalModelResponseFields"] = told.get("additionalModelResponseFields")
            case "metadata":
                answer["usage"] = told["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    answer["output"] = {"message": {"role": "assistant", "content": list(blocks.values())}}
    return answer


def _fold(block: dict[str, Any], part: dict[str, Any]) -> None:
    if "text" in part:
        block["text"] = block.get("text", "") + part["text"]
    elif "toolUse" in part:
        block["toolUse"]["input"] += part["toolUse"]["input"]
    elif "redactedContent" in part.get("reasoningContent", {}):
        block["reasoningContent"] = part["reasoningContent"]
    elif "reasoningContent" in part:
        text = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
        for name, piece in part["reasoningContent"].items():
            text[name] = text.get(name, "") + piece
