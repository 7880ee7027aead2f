"""A fake Cohere server: `/v2/chat`, streamed and not, with its rules for requests."""

import json
import re
from typing import Any

from tests.fakes.answers import Failure, Reply, Text, Thinking, Tokens, ToolUse, split, unique
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider

KEYS = {
    "model", "messages", "tools", "strict_tools", "documents", "citation_options", "response_format", "safety_mode",
    "max_tokens", "stop_sequences", "temperature", "seed", "frequency_penalty", "presence_penalty", "k", "p",
    "logprobs", "tool_choice", "thinking", "priority", "stream",
}  # fmt: skip
MESSAGE_KEYS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "tool_plan", "citations"},
    "tool": {"role", "content", "tool_call_id"},
}
PARTS = {
    "user": {"text", "image_url"},
    "assistant": {"text", "thinking"},
    "system": {"text"},
    "tool": {"text", "document"},
}
TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
FINISH = {
    "end_turn": "COMPLETE",
    "tool_use": "TOOL_CALL",
    "max_tokens": "MAX_TOKENS",
    "stop_sequence": "STOP_SEQUENCE",
    "refusal": "ERROR_TOXIC",
}


class CohereFront:
    name = "cohere"
    base_path = ""
    paths: tuple[str, ...] = ("/v2/chat",)

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            _check_headers(headers)
            _check_body(body)
        except Refused as refused:
            return f"invalid request: {refused}"
        return None

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        messages = body["messages"]
        results = {m["tool_call_id"]: _result(m["content"]) for m in messages if m["role"] == "tool"}
        calls = [call for m in messages if m["role"] == "assistant" for call in m.get("tool_calls") or []]
        spoken = [m.get("tool_plan") or _text(m.get("content")) for m in messages if m["role"] == "assistant"]
        return Conversation(
            model=body["model"],
            system=_text(messages[0]["content"]) if messages[0]["role"] == "system" else "",
            user=tuple(_text(m["content"]) for m in messages if m["role"] in {"user", "system"}),
            assistant=tuple(text for text in spoken if text),
            calls=tuple(
                Call(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]), results.get(c["id"]))
                for c in calls
            ),
            tools=tuple(tool["function"]["name"] for tool in body.get("tools") or []),
            streamed=bool(body.get("stream")),
            max_tokens=body.get("max_tokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        started = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        events = [_event("message-start", id=unique("fake-"), delta={"message": started})]
        called = any(isinstance(block, ToolUse) for block in reply.blocks)
        contents = calls = 0
        for block in reply.blocks:
            match block:
                case Text(text, pieces) if called:
                    deltas = [{"message": {"tool_plan": piece}} for piece in split(text, pieces)]
                    events += [_event("tool-plan-delta", delta=delta) for delta in deltas]
                case Text(text, pieces):
                    events += _content(contents, "text", split(text, pieces))
                    contents += 1
                case Thinking(text):
                    events += _content(contents, "thinking", split(text, 0))
                    contents += 1
                case ToolUse():
                    events += _call_events(calls, _call(block))
                    calls += 1
        end: dict[str, Any] = {"finish_reason": FINISH[reply.stop_reason]}
        if reply.tokens is not None:
            end["usage"] = _usage(reply.tokens)
        events.append(_event("message-end", delta=end))
        return events

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        calls = [_call(block) for block in reply.blocks if isinstance(block, ToolUse)]
        message: dict[str, Any] = {"role": "assistant"}
        content = [
            {"type": "thinking", "thinking": block.text} for block in reply.blocks if isinstance(block, Thinking)
        ]
        texts = [block.text for block in reply.blocks if isinstance(block, Text)]
        if calls:
            message |= {"tool_calls": calls, "tool_plan": "".join(texts)}
        else:
            content += [{"type": "text", "text": text} for text in texts]
        if content:
            message["content"] = content
        answer = {"id": unique("fake-"), "message": message, "finish_reason": FINISH[reply.stop_reason]}
        return answer | ({"usage": _usage(reply.tokens)} if reply.tokens is not None else {})

    def error(self, failure: Failure) -> dict[str, Any]:
        return {"id": unique("fake-"), "message": failure.message}

    def error_event(self, failure: Failure) -> bytes:
        return _event("message-end", delta={"finish_reason": "ERROR", "error": failure.message})

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        return None


def fake_cohere(brain: Brain | None = None) -> FakeProvider:
    return FakeProvider(CohereFront(), brain)


# -- answers


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def _content(index: int, kind: str, pieces: list[str]) -> list[bytes]:
    start = {"message": {"content": {"type": kind, kind: ""}}}
    deltas = [{"message": {"content": {kind: piece}}} for piece in pieces]
    return [
        _event("content-start", index=index, delta=start),
        *(_event("content-delta", index=index, delta=delta) for delta in deltas),
        _event("content-end", index=index),
    ]


def _call_events(index: int, call: dict[str, Any]) -> list[bytes]:
    function = call["function"]
    start = {**call, "function": {"name": function["name"], "arguments": ""}}
    pieces = [{"function": {"arguments": piece}} for piece in split(function["arguments"], 3)]
    return [
        _event("tool-call-start", index=index, delta={"message": {"tool_calls": start}}),
        *(_event("tool-call-delta", index=index, delta={"message": {"tool_calls": piece}}) for piece in pieces),
        _event("tool-call-end", index=index),
    ]


def _call(block: ToolUse) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(dict(block.input))}
    return {"id": block.id or unique(f"{block.name}_fake"), "type": "function", "function": function}


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "billed_units": {"input_tokens": float(tokens.input), "output_tokens": float(tokens.output)},
        "tokens": {"input_tokens": float(tokens.prompt), "output_tokens": float(tokens.output)},
        "cached_tokens": tokens.cache_read,
    }


# -- the rules for requests


def _check_headers(headers: dict[str, str]) -> None:
    require(headers.get("authorization", "").startswith("Bearer "), "no api key supplied")
    leaked = [name for name in headers if name.startswith(("x-ccm-", "anthropic-", "x-claude-", "x-api-key"))]
    require(not leaked, f"headers of another wire have leaked: {leaked}")


def _check_body(body: Any) -> None:
    require(isinstance(body, dict), "request body must be a JSON object")
    for key in sorted(set(body) - KEYS):
        raise Refused(f"unknown field: parameter '{key}' is not a valid field")
    require(isinstance(body.get("model"), str) and body["model"], "model is required")
    require(isinstance(body.get("messages"), list) and body["messages"], "messages must have at least one element")
    require(isinstance(body.get("max_tokens", 1), int) and body.get("max_tokens", 1) >= 1, "max_tokens must be >= 1")
    require(len(body.get("stop_sequences") or []) <= 5, "too many stop sequences, the maximum is 5")
    require(0.01 <= body.get("p", 0.5) <= 0.99, "p must be between 0.01 and 0.99 inclusive")
    require(0 <= body.get("k", 0) <= 500, "k must be between 0 and 500 inclusive")
    require(0 <= body.get("temperature", 0) <= 1, "temperature must be between 0 and 1.0 inclusive")
    thinking = body.get("thinking") or {"type": "enabled"}
    require(thinking.get("type") in {"enabled", "disabled"}, "thinking.type must be enabled or disabled")
    require(thinking.get("token_budget", 1) >= 1, "thinking.token_budget must be a positive integer")
    _check_tools(body)
    for document in body.get("documents") or []:
        require(set(document) <= {"id", "data"} and document.get("data"), "documents must have data")
    for index, message in enumerate(body["messages"]):
        _check_message(f"messages[{index}]", message)
    _check_order(body["messages"])


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    require("tools" not in body or tools, "tools must not be empty")
    if not tools:
        require("tool_choice" not in body, "tool_choice can only be specified with tools")
        require("strict_tools" not in body, "strict_tools can only be specified with tools")
    require(body.get("tool_choice", "NONE") in {"REQUIRED", "NONE"}, "tool_choice must be REQUIRED or NONE")
    if "response_format" in body:
        require(not tools and "documents" not in body, "response_format is not supported with tools or documents")
        require(body["response_format"].get("type") == "json_object", "response_format.type")
    require(not (tools and "documents" in body), "tools and documents cannot both be given")
    for tool in tools:
        require(set(tool) == {"type", "function"} and tool["type"] == "function", "tools must be functions")
        function = tool["function"]
        require(set(function) <= {"name", "description", "parameters"}, f"unknown field in a function: {function}")
        require(TOOL_NAME.match(function.get("name") or ""), f"invalid tool name {function.get('name')!r}")
        require(function["parameters"].get("type") == "object", "parameters must be an object")


def _check_message(where: str, message: dict[str, Any]) -> None:
    role = str(message.get("role"))
    require(role in MESSAGE_KEYS, f"{where}: invalid role {role!r}")
    require(set(message) <= MESSAGE_KEYS[role], f"{where}: unknown field {sorted(set(message) - MESSAGE_KEYS[role])}")
    content = message.get("content")
    if role == "assistant":
        require(content or message.get("tool_calls"), f"{where}: must have content or tool calls")
        require("tool_plan" not in message or message.get("tool_calls"), f"{where}: tool_plan without tool calls")
    else:
        require(isinstance(content, str | list) and content, f"{where}: must have content")
    for part in content if isinstance(content, list) else ():
        kind = part.get("type")
        require(kind in PARTS[role], f"{where}: a part of type {kind!r}")
        require(set(part) == {"type", kind}, f"{where}: unknown field in a part")
        require(part[kind], f"{where}: an empty part")
    for call in message.get("tool_calls") or []:
        require(set(call) == {"id", "type", "function"} and call["id"], f"{where}: a malformed tool call")
        require(TOOL_NAME.match(call["function"]["name"]), f"{where}: an invalid tool name")
        require(isinstance(json.loads(call["function"]["arguments"]), dict), f"{where}: arguments must be an object")


def _check_order(messages: list[dict[str, Any]]) -> None:
    waiting: list[str] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            require(message["tool_call_id"] in waiting, f"messages[{index}]: tool_call_id not found in previous calls")
            waiting.remove(message["tool_call_id"])
            continue
        require(not waiting, f"messages[{index}]: all tool calls need a tool result: {waiting}")
        waiting = [call["id"] for call in message.get("tool_calls") or []]
    require(not waiting, f"all tool calls need a tool result: {waiting}")
    require(messages[-1]["role"] != "assistant", "the last message must not be the assistant's")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part['type']}]") for part in content or [])


def _result(content: Any) -> str:
    if isinstance(content, str):
        return content
    documents = [part["document"]["data"] for part in content if part["type"] == "document"]
    return "\n".join(str(value) for data in documents for value in data.values())
