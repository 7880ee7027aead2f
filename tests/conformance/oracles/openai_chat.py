"""A plain reading of Chat Completions answers. It shares no code with the wire."""

import json
from typing import Any

from tests.conformance.oracles.sse import payloads
from tests.conformance.told import Counts, Told

STOPS = {"length": "max_tokens", "content_filter": "refusal"}


def told(body: bytes, *, streamed: bool, kind: str) -> Told:
    chunks = [chunk for _, chunk in payloads(body)] if streamed else [json.loads(body)]
    answer = Told()
    calls: dict[Any, dict[str, str]] = {}
    finish = ""
    cited: list[str] = []
    for chunk in chunks:
        if chunk.get("error"):
            answer.failure = str(chunk["error"].get("message"))
        for choice in chunk.get("choices") or []:
            part = choice.get("delta") or choice.get("message") or {}
            _read(answer, part, calls)
            cited += [note["url_citation"]["url"] for note in part.get("annotations") or []]
            finish = choice.get("finish_reason") or finish
        if chunk.get("usage"):
            answer.counts = counts(chunk["usage"], kind)
        cited = chunk.get("citations") or cited
    for call in calls.values():
        answer.calls.append((call["name"], json.loads(call["arguments"] or "{}")))
    answer.cited = cited
    answer.stop_reason = "tool_use" if calls else STOPS.get(finish, "end_turn")
    return answer


def _read(answer: Told, part: dict[str, Any], calls: dict[Any, dict[str, str]]) -> None:
    details = part.get("reasoning_details") or []
    answer.sealed += [detail[name] for detail in details for name in ("data", "signature") if detail.get(name)]
    thought = "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
    answer.say("thinking", thought or part.get("reasoning_content") or part.get("reasoning") or "")
    content = part.get("content") or ""
    pieces: list[dict[str, Any]] = content if isinstance(content, list) else [{"type": "text", "text": content}]
    for piece in pieces:
        if piece["type"] == "thinking":
            answer.say("thinking", "".join(item["text"] for item in piece["thinking"]))
        else:
            answer.say("text", piece["text"])
    for place, told in enumerate(part.get("tool_calls") or []):
        # A whole answer needs no index; a stream's calls are told apart by it.
        call = calls.setdefault(told.get("index", place), {"name": "", "arguments": ""})
        if not call["name"]:
            answer.order.append("call")
        call["name"] = call["name"] or told["function"].get("name") or ""
        call["arguments"] += told["function"].get("arguments") or ""
        google = (told.get("extra_content") or {}).get("google") or {}
        answer.sealed += [google["thought_signature"]] if google.get("thought_signature") else []


def counts(usage: dict[str, Any], kind: str) -> Counts:
    prompt, written = usage["prompt_tokens"], usage["completion_tokens"]
    inner = usage.get("prompt_tokens_details") or {}
    cached, stored = inner.get("cached_tokens") or 0, inner.get("cache_write_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    total = usage.get("total_tokens") or 0
    if kind == "gemini":
        written = total - prompt
    elif thought and total == prompt + written + thought:
        written += thought
    return Counts(prompt - cached - stored, cached, stored, written, thought)


def whole(body: bytes) -> bytes:
    """The answer that is not streamed and says what the stream `body` says."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    finish, usage = None, None
    more: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    for _, chunk in payloads(body):
        for choice in chunk.get("choices") or []:
            finish = choice.get("finish_reason") or finish
            for name, value in (choice.get("delta") or {}).items():
                if name == "tool_calls":
                    _join_calls(calls, value)
                elif name in {"content", "reasoning", "reasoning_content", "refusal"} and value:
                    message[name] = (message.get(name) or "") + value
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or usage
        more = {"citations": chunk["citations"]} if chunk.get("citations") else more
    if calls:
        message["tool_calls"] = list(calls.values())
    choice = {"index": 0, "message": message, "finish_reason": finish or "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage, **more}).encode()


def _join_calls(calls: dict[int, dict[str, Any]], deltas: list[dict[str, Any]]) -> None:
    for delta in deltas:
        function = delta.get("function") or {}
        call = calls.setdefault(delta["index"], {"type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = delta.get("id") or call.get("id")
        call["function"]["name"] = call["function"]["name"] or function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def stream(body: bytes) -> bytes:
    """A stream that says what the whole answer `body` says: everything in one chunk, usage after it."""
    answer = json.loads(body)
    usage = answer.pop("usage", None)
    choices = [
        {"index": 0, "delta": choice["message"], "finish_reason": choice["finish_reason"]}
        for choice in answer["choices"]
    ]
    for choice in choices:
        for place, call in enumerate(choice["delta"].get("tool_calls") or []):
            call.setdefault("index", place)
    chunks = [{**answer, "choices": choices}, {"choices": [], "usage": usage}]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
