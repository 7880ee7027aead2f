"""A fake OpenAI server: Chat Completions, streamed and not, with its rules for requests."""

import json
import re
from typing import Any

from tests.fakes.answers import Failure, Reply, Text, Thinking, Tokens, ToolUse, split, unique
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider

KEYS = {
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens", "stream",
    "stream_options", "temperature", "top_p", "stop", "n", "user", "metadata", "reasoning_effort", "response_format",
    "seed", "store", "service_tier", "prompt_cache_key", "safety_identifier", "verbosity", "presence_penalty",
    "frequency_penalty", "logprobs", "top_logprobs", "logit_bias", "web_search_options",
}  # fmt: skip
MESSAGE_KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "refusal", "reasoning_content"},
    "tool": {"role", "content", "tool_call_id"},
}
PART_KEYS = {
    "text": {"type", "text"},
    "image_url": {"type", "image_url"},
    "file": {"type", "file"},
    "refusal": {"type", "refusal"},
}
TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh"}
FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}
STATUS_TYPES = {400: "invalid_request_error", 401: "invalid_request_error", 429: "rate_limit_error"}


class OpenAIFront:
    name = "openai"
    base_path = "/v1"
    paths: tuple[str, ...] = ("/v1/chat/completions",)

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            _check_headers(headers)
            _check_body(body)
        except Refused as refused:
            return str(refused)
        return None

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        messages = body["messages"]
        results = {m["tool_call_id"]: _text(m["content"]) for m in messages if m["role"] == "tool"}
        calls = [call for m in messages if m["role"] == "assistant" for call in m.get("tool_calls") or []]
        told = [m for m in messages if m["role"] in {"user", "system", "developer"}]
        return Conversation(
            model=body["model"],
            system=_text(messages[0]["content"]) if messages[0]["role"] in {"system", "developer"} else "",
            user=tuple(_text(m["content"]) for m in told),
            assistant=tuple(_text(m["content"]) for m in messages if m["role"] == "assistant" and m.get("content")),
            calls=tuple(
                Call(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"]), results.get(c["id"]))
                for c in calls
            ),
            tools=tuple(tool["function"]["name"] for tool in body.get("tools") or []),
            streamed=bool(body.get("stream")),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        head = {"id": unique("chatcmpl-fake"), "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        wants_usage = (body.get("stream_options") or {}).get("include_usage")

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _data(head | {"choices": [choice]} | ({"usage": None} if wants_usage else {}))

        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk(delta) for delta in _deltas(reply)]
        events.append(chunk({}, _finish(reply)))
        if wants_usage and reply.tokens is not None:
            events.append(_data(head | {"choices": [], "usage": _usage(reply.tokens)}))
        events.append(b"data: [DONE]\n\n")
        return events

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        text = "".join(block.text for block in reply.blocks if isinstance(block, Text))
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        reasoning = "".join(block.text for block in reply.blocks if isinstance(block, Thinking))
        if reasoning:
            message["reasoning_content"] = reasoning
        calls = [_call(block) for block in reply.blocks if isinstance(block, ToolUse)]
        if calls:
            message["tool_calls"] = calls
        return {
            "id": unique("chatcmpl-fake"),
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}],
        } | ({"usage": _usage(reply.tokens)} if reply.tokens is not None else {})

    def error(self, failure: Failure) -> dict[str, Any]:
        kind = failure.type or STATUS_TYPES.get(failure.status, "server_error")
        return {"error": {"message": failure.message, "type": kind, "param": None, "code": None}}

    def error_event(self, failure: Failure) -> bytes:
        return _data(self.error(failure))

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        if (method, path) == ("GET", "/v1/models"):
            return {"object": "list", "data": [{"id": "gpt-fake", "object": "model", "owned_by": "fake"}]}
        return None


def fake_openai(brain: Brain | None = None) -> FakeProvider:
    return FakeProvider(OpenAIFront(), brain)


# -- answers


def _deltas(reply: Reply) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = []
    index = 0
    for block in reply.blocks:
        match block:
            case Text(text, pieces):
                deltas += [{"content": piece} for piece in split(text, pieces)]
            case Thinking(text):
                deltas += [{"reasoning_content": piece} for piece in split(text, 0)]
            case ToolUse():
                deltas += _call_deltas(_call(block), index)
                index += 1
    return deltas


def _call_deltas(call: dict[str, Any], index: int) -> list[dict[str, Any]]:
    arguments = call["function"]["arguments"]
    first = {"index": index, **call, "function": {"name": call["function"]["name"], "arguments": ""}}
    rest = [{"index": index, "function": {"arguments": piece}} for piece in split(arguments, 3)]
    return [{"tool_calls": [part]} for part in (first, *rest)]


def _call(block: ToolUse) -> dict[str, Any]:
    function = {"name": block.name, "arguments": json.dumps(dict(block.input))}
    return {"id": block.id or unique("call_fake"), "type": "function", "function": function}


def _finish(reply: Reply) -> str:
    return FINISH.get(reply.stop_reason, "stop")


def _usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def _data(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


# -- the rules for requests


def _check_headers(headers: dict[str, str]) -> None:
    require(headers.get("authorization", "").startswith("Bearer "), "You didn't provide an API key.")
    leaked = [name for name in headers if name.startswith(("x-ccm-", "anthropic-", "x-claude-", "x-api-key"))]
    require(not leaked, f"headers of another wire have leaked: {leaked}")


def _check_body(body: Any) -> None:
    require(isinstance(body, dict), "We could not parse the JSON body of your request.")
    for key in sorted(set(body) - KEYS):
        raise Refused(f"Unrecognized request argument supplied: {key}")
    require(isinstance(body.get("model"), str) and body["model"], "you must provide a model parameter")
    require(isinstance(body.get("messages"), list) and body["messages"], "[] is too short - 'messages'")
    require(not ("max_tokens" in body and "max_completion_tokens" in body), "max_tokens and max_completion_tokens")
    limit = body.get("max_completion_tokens", body.get("max_tokens", 1))
    require(isinstance(limit, int) and limit >= 1, "Invalid value: 'max_tokens' must be at least 1")
    require("stream_options" not in body or body.get("stream"), "'stream_options' is only allowed with 'stream'")
    require(len(body.get("stop") or []) <= 4, "Invalid 'stop': array too long. Expected at most 4.")
    require(body.get("reasoning_effort", "low") in EFFORTS, "Invalid value: 'reasoning_effort'")
    require(len(body.get("user") or "") <= 512, "Invalid 'user': string too long")
    require(len(body.get("safety_identifier") or "") <= 64, "Invalid 'safety_identifier': string too long")
    require(len(body.get("prompt_cache_key") or "") <= 64, "Invalid 'prompt_cache_key': string too long")
    _check_tools(body)
    for index, message in enumerate(body["messages"]):
        _check_message(f"messages[{index}]", message)
    _check_order(body["messages"])


def _check_tools(body: dict[str, Any]) -> None:
    if "tools" not in body:
        require("tool_choice" not in body, "'tool_choice' is only allowed when 'tools' are specified.")
        require("parallel_tool_calls" not in body, "'parallel_tool_calls' is only allowed when 'tools' are specified.")
        return
    tools = body["tools"]
    require(isinstance(tools, list) and tools, "Invalid 'tools': empty array. Expected an array with minimum length 1")
    require(len(tools) <= 128, "Invalid 'tools': array too long. Expected an array with maximum length 128")
    names = []
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        require(tool.get("type") == "function", f"Invalid value: '{where}.type'. Supported: 'function'")
        require(set(tool) == {"type", "function"}, f"Unknown parameter in '{where}': {sorted(set(tool))}")
        function = tool["function"]
        extra = set(function) - {"name", "description", "parameters", "strict"}
        require(not extra, f"Unknown parameter: '{where}.function.{next(iter(extra), '')}'")
        require(TOOL_NAME.match(function.get("name") or ""), f"Invalid '{where}.function.name'")
        schema = function.get("parameters", {"type": "object"})
        require(isinstance(schema, dict) and schema.get("type") == "object", f"Invalid schema for '{where}.function'")
        names.append(function["name"])
    require(len(set(names)) == len(names), "Invalid 'tools': function names must be unique")


def _check_message(where: str, message: dict[str, Any]) -> None:
    role = message.get("role")
    require(role in MESSAGE_KEYS, f"Invalid value: '{where}.role': {role!r}")
    for key in sorted(set(message) - MESSAGE_KEYS[str(role)]):
        raise Refused(f"Additional properties are not allowed ('{key}' was unexpected) - '{where}'")
    content = message.get("content")
    if role == "assistant":
        require(content or message.get("tool_calls") or content == "", f"Invalid value for '{where}.content': null")
        require("tool_calls" not in message or message["tool_calls"], f"Invalid '{where}.tool_calls': empty array")
    else:
        require(isinstance(content, str | list), f"Invalid value for '{where}.content': expected a string, got null")
    if isinstance(content, list):
        require(content, f"Invalid '{where}.content': empty array")
        for number, part in enumerate(content):
            _check_part(f"{where}.content[{number}]", str(role), part)
    for number, call in enumerate(message.get("tool_calls") or []):
        _check_call(f"{where}.tool_calls[{number}]", call)


def _check_part(where: str, role: str, part: dict[str, Any]) -> None:
    kind = part.get("type")
    allowed = set(PART_KEYS) if role == "user" else {"text", "refusal"}
    require(kind in allowed, f"Invalid value: '{kind}' at '{where}.type' in a message with role '{role}'")
    require(set(part) == PART_KEYS[str(kind)], f"Unknown parameter in '{where}': {sorted(part)}")


def _check_call(where: str, call: dict[str, Any]) -> None:
    require(set(call) == {"id", "type", "function"}, f"Unknown parameter in '{where}': {sorted(call)}")
    require(call["type"] == "function", f"Invalid value: '{where}.type'")
    require(0 < len(call["id"]) <= 40, f"Invalid '{where}.id': string too long. Expected maximum length 40")
    function = call["function"]
    require(TOOL_NAME.match(function.get("name") or ""), f"Invalid '{where}.function.name'")
    try:
        parsed = json.loads(function["arguments"])
    except (KeyError, TypeError, ValueError):
        raise Refused(f"Invalid '{where}.function.arguments': not JSON") from None
    require(isinstance(parsed, dict), f"Invalid '{where}.function.arguments': not an object")


def _check_order(messages: list[dict[str, Any]]) -> None:
    """Tool messages follow the assistant's calls at once, one for each, and stand nowhere else."""
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            answered = message.get("tool_call_id")
            if answered not in waiting:
                raise Refused(
                    f"messages[{index}]: messages with role 'tool' must be a response to a preceding message "
                    "with 'tool_calls'."
                )
            waiting.discard(str(answered))
            continue
        if waiting:
            raise Refused(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following had no response messages: {', '.join(sorted(waiting))}"
            )
        calls = message.get("tool_calls") or []
        waiting = {call["id"] for call in calls}
        require(len(waiting) == len(calls), f"messages[{index}]: duplicate tool call ids")
    require(not waiting, "An assistant message with 'tool_calls' must be followed by tool messages")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part['type']}]") for part in content or [])
