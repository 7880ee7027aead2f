"""A plain reading of the Responses API's answers. It shares no code with the wire."""

import json
from collections.abc import Iterable
from typing import Any

from tests.conformance.oracles.sse import payloads
from tests.conformance.told import Counts, Told

DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_summary_text.delta": "thinking",
    "response.reasoning_text.delta": "thinking",
}


def told(body: bytes, *, streamed: bool, kind: str) -> Told:
    answer = Told()
    if streamed:
        events = [event for _, event in payloads(body)]
        in_deltas = any(event["type"] in DELTAS for event in events)
        for event in events:
            if event["type"] in DELTAS:
                answer.say(DELTAS[event["type"]], event["delta"])
            elif event["type"] == "response.output_item.done":
                _item(answer, event["item"], is_told=in_deltas)
            elif event["type"] == "response.output_text.annotation.added":
                answer.cited.append(event["annotation"]["url"])
        response = events[-1]["response"]
    else:
        response = json.loads(body)
        for item in response["output"]:
            _item(answer, item, is_told=False)
    answer.found |= set(answer.cited) if answer.queries else set()
    answer.counts = counts(response["usage"])
    answer.stop_reason = "tool_use" if answer.calls else "end_turn"
    return answer


def _item(answer: Told, item: dict[str, Any], *, is_told: bool) -> None:
    """A finished item; `is_told`: its texts have been told in deltas."""
    if item.get("encrypted_content") and item["type"] == "reasoning":
        answer.sealed.append(item["encrypted_content"])
    match item["type"]:
        case "reasoning" if not is_told:
            for part in item.get("summary") or item.get("content") or []:
                answer.say("thinking", part["text"])
        case "message" if not is_told:
            for part in item["content"]:
                answer.say("text", part["text"])
                answer.cited += [note["url"] for note in part.get("annotations") or []]
        case "function_call":
            answer.call(item["name"], json.loads(item["arguments"]))
        case "custom_tool_call":
            answer.call(item["name"], {"input": item["input"]})
        case "web_search_call":
            _search(answer, item)


def _search(answer: Told, item: dict[str, Any]) -> None:
    """A search, or a page that was opened or looked through after one."""
    action = item.get("action") or {"type": "search", **json.loads(item.get("arguments") or "{}")}
    if action["type"] == "search":
        answer.queries.append(action["query"])
        answer.found |= {source["url"] for source in action.get("sources") or [] if source.get("url")}
    elif action.get("url"):
        answer.found.add(action["url"])


def counts(usage: dict[str, Any]) -> Counts:
    inner = usage.get("input_tokens_details") or {}
    cached, stored = inner.get("cached_tokens") or 0, inner.get("cache_write_tokens") or 0
    thought = (usage.get("output_tokens_details") or {}).get("reasoning_tokens")
    return Counts(usage["input_tokens"] - cached - stored, cached, stored, usage["output_tokens"], thought)


def whole(body: bytes) -> bytes:
    """The finished response, which the stream's last event repeats."""
    return json.dumps(payloads(body)[-1][1]["response"]).encode()


def stream(body: bytes) -> bytes:
    """A stream of a server that tells each item at once, when it is done."""
    response = json.loads(body)
    begun = {"type": "response.created", "response": {**response, "output": [], "status": "in_progress"}}
    items = (
        {"type": "response.output_item.done", "output_index": place, "item": item}
        for place, item in enumerate(response["output"])
    )
    return events([begun, *items, {"type": "response.completed", "response": response}])


def events(told: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + json.dumps(event).encode() + b"\n\n" for event in told
    )
