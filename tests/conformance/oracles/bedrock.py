"""A plain reading of Converse's answers. Frames are decoded by botocore."""

import json
from typing import Any

from tests.conformance.told import Counts, Told
from tests.fakes.bedrock import event as frame


def told(body: bytes, *, streamed: bool, kind: str) -> Told:
    answer = Told()
    response = json.loads(whole(body) if streamed else body)
    for block in response["output"]["message"]["content"]:
        thought = block.get("reasoningContent", {}).get("reasoningText", {})
        answer.say("thinking", thought.get("text", ""))
        answer.sealed += [thought["signature"]] if thought.get("signature") else []
        answer.say("text", block.get("text", ""))
        if "toolUse" in block:
            answer.call(block["toolUse"]["name"], block["toolUse"]["input"])
    answer.counts = counts(response["usage"])
    answer.stop_reason = response["stopReason"]
    return answer


def counts(usage: dict[str, Any]) -> Counts:
    """Converse's input leaves out what the cache had: as Anthropic's does."""
    cached, stored = usage.get("cacheReadInputTokens", 0), usage.get("cacheWriteInputTokens", 0)
    return Counts(usage["inputTokens"], cached, stored, usage["outputTokens"])


def whole(body: bytes) -> bytes:
    """The answer that is not streamed and says what the stream `body` says."""
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(body)
    blocks: dict[int, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    for message in buffer:
        told = json.loads(message.payload)
        match message.headers[":event-type"]:
            case "contentBlockStart" if "toolUse" in told["start"]:
                blocks[told["contentBlockIndex"]] = {"toolUse": {**told["start"]["toolUse"], "input": ""}}
            case "contentBlockDelta":
                _join(blocks.setdefault(told["contentBlockIndex"], {}), told["delta"])
            case "messageStop":
                answer["stopReason"] = told["stopReason"]
            case "metadata":
                answer["usage"] = told["usage"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"] or "{}")
    message = {"role": "assistant", "content": [blocks[index] for index in sorted(blocks)]}
    return json.dumps({"output": {"message": message}, **answer}).encode()


def _join(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        block["toolUse"]["input"] += delta["toolUse"]["input"]
    else:
        thought = block.setdefault("reasoningContent", {"reasoningText": {"text": ""}})["reasoningText"]
        for name, piece in delta["reasoningContent"].items():
            thought[name] = thought.get(name, "") + piece


def stream(body: bytes) -> bytes:
    """A stream of an event a block."""
    response = json.loads(body)
    frames = [frame("messageStart", role="assistant")]
    for index, block in enumerate(response["output"]["message"]["content"]):
        delta: dict[str, Any] = {"text": block.get("text", "")}
        if "toolUse" in block:
            start = {name: value for name, value in block["toolUse"].items() if name in {"toolUseId", "name"}}
            frames.append(frame("contentBlockStart", contentBlockIndex=index, start={"toolUse": start}))
            delta = {"toolUse": {"input": json.dumps(block["toolUse"]["input"])}}
        frames.append(frame("contentBlockDelta", contentBlockIndex=index, delta=delta))
        frames.append(frame("contentBlockStop", contentBlockIndex=index))
    frames.append(frame("messageStop", stopReason=response["stopReason"]))
    frames.append(frame("metadata", usage=response["usage"], metrics={"latencyMs": 1}))
    return b"".join(frames)
