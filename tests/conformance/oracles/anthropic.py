"""A plain reading of Anthropic's answers: the Message that a stream amounts to, field by field."""

import json
from typing import Any

from tests.conformance.oracles.sse import payloads

MERGED = {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}


def whole(body: bytes) -> bytes:
    """The Message. A second message_start says nothing."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for name, event in payloads(body):
        match name:
            case "message_start":
                message = message or dict(event["message"])
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                _join(message["content"][event["index"]], event["delta"], inputs, event["index"])
            case "message_delta":
                message |= event["delta"]
                message["usage"] = {**message["usage"], **event["usage"]}
                message |= {key: value for key, value in event.items() if key == "context_management"}
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    return json.dumps(message).encode()


def _join(block: dict[str, Any], delta: dict[str, Any], inputs: dict[int, str], index: int) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta["partial_json"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case "compaction_delta":
            block |= {name: value for name, value in delta.items() if name != "type"}


def stream(body: bytes) -> bytes:
    """A stream of a block an event, with nothing but starts where a block has no deltas."""
    message = json.loads(body)
    content, stop, usage = message["content"], message.get("stop_reason"), message["usage"]
    begun = {**message, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(content):
        started, delta = _parts(block)
        events.append({"type": "content_block_start", "index": index, "content_block": started})
        if delta:
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": stop, "stop_sequence": message.get("stop_sequence")}
    told = {name: value for name, value in usage.items() if name in MERGED}
    events += [{"type": "message_delta", "delta": end, "usage": told}, {"type": "message_stop"}]
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events
    )


def _parts(block: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    match block["type"]:
        case "text":
            return {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        case "tool_use" | "server_tool_use":
            return {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        case _:
            return block, None
