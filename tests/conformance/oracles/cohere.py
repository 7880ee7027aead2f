"""A plain reading of Cohere's answers. It shares no code with the wire."""

import json
from typing import Any

from tests.conformance.oracles.sse import payloads
from tests.conformance.told import Counts, Told

STOPS = {"MAX_TOKENS": "max_tokens", "TOOL_CALL": "tool_use", "COMPLETE": "end_turn"}


def told(body: bytes, *, streamed: bool, kind: str) -> Told:
    """Of a stream: what its whole answer says."""
    answer = Told()
    response = json.loads(whole(body) if streamed else body)
    message = response["message"]
    for part in message.get("content") or []:
        answer.say(part["type"], part[part["type"]])
    answer.say("text", message.get("tool_plan") or "")
    for call in message.get("tool_calls") or []:
        answer.call(call["function"]["name"], json.loads(call["function"]["arguments"] or "{}") or {})
    answer.cited = [citation["sources"][0]["id"] for citation in message.get("citations") or []]
    answer.counts = counts(response["usage"])
    answer.stop_reason = STOPS[response["finish_reason"]]
    return answer


def counts(usage: dict[str, Any]) -> Counts:
    tokens, cached = usage["tokens"], int(usage.get("cached_tokens") or 0)
    return Counts(int(tokens["input_tokens"]) - cached, cached, 0, int(tokens["output_tokens"]))


def whole(body: bytes) -> bytes:
    """The answer that is not streamed and says what the stream `body` says."""
    parts: dict[int, dict[str, str]] = {}
    calls: dict[int, dict[str, Any]] = {}
    citations: list[Any] = []
    plan = ""
    end: dict[str, Any] = {}
    for name, event in payloads(body):
        message = (event.get("delta") or {}).get("message") or {}
        match name:
            case "content-start":
                parts[event["index"]] = dict(message["content"])
            case "content-delta":
                for kind, text in message["content"].items():
                    parts[event["index"]][kind] += text
            case "tool-plan-delta":
                plan += message["tool_plan"]
            case "tool-call-start":
                calls[event["index"]] = message["tool_calls"]
            case "tool-call-delta":
                calls[event["index"]]["function"]["arguments"] += message["tool_calls"]["function"]["arguments"]
            case "citation-start":
                citations.append(message["citations"])
            case "message-end":
                end = event["delta"]
    message = {"role": "assistant", "content": list(parts.values()), "tool_plan": plan, "citations": citations}
    return json.dumps({"message": message | {"tool_calls": list(calls.values())}, **end}).encode()


def stream(body: bytes) -> bytes:
    """A stream of an event a part."""
    response = json.loads(body)
    message = response.pop("message")
    events: list[dict[str, Any]] = [{"type": "message-start", "delta": {"message": {"role": "assistant"}}}]

    def add(kind: str, index: int | None = None, **told: Any) -> None:
        place = {} if index is None else {"index": index}
        events.append({"type": kind, **place, "delta": {"message": told}})

    for index, part in enumerate(message.get("content") or []):
        kind = part["type"]
        add("content-start", index, content={"type": kind, kind: ""})
        add("content-delta", index, content={kind: part[kind]})
        add("content-end", index)
    for index, citation in enumerate(message.get("citations") or []):
        add("citation-start", index, citations=citation)
        add("citation-end", index)
    if message.get("tool_plan"):
        add("tool-plan-delta", tool_plan=message["tool_plan"])
    for index, call in enumerate(message.get("tool_calls") or []):
        add("tool-call-start", index, tool_calls=call)
        add("tool-call-end", index)
    events.append({"type": "message-end", "delta": response})
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events
    )
