"""A fake Anthropic server: the Messages API, streamed and not, with its rules for requests."""

import json
import re
from typing import Any

from tests.fakes.answers import (
    SIGNATURE_PREFIX,
    Block,
    Failure,
    Reply,
    Text,
    Thinking,
    Tokens,
    ToolUse,
    WebSearch,
    split,
    unique,
)
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider

KEYS = {
    "model", "messages", "system", "tools", "tool_choice", "metadata", "max_tokens", "thinking", "context_management",
    "output_config", "stream", "temperature", "top_p", "top_k", "stop_sequences", "service_tier", "container",
    "mcp_servers", "speed", "safeguards",
}  # fmt: skip
COUNTED_KEYS = {
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers",
    "context_management",
}  # fmt: skip
TOOL_ID = re.compile(r"^[a-zA-Z0-9_-]+$")
TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,128}$")
STATUS_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    529: "overloaded_error",
}  # fmt: skip


class AnthropicFront:
    name = "anthropic"
    base_path = ""
    paths: tuple[str, ...] = ("/v1/messages",)

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            _check_headers(headers)
            _check_body(body)
        except Refused as refused:
            return str(refused)
        return None

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        blocks = [(m["role"], block) for m in body["messages"] for block in _blocks(m["content"])]
        results = {b["tool_use_id"]: _result_text(b) for _, b in blocks if b["type"] == "tool_result"}
        texts = [(role, block["text"]) for role, block in blocks if block["type"] == "text"]
        return Conversation(
            model=body["model"],
            system="\n".join(block["text"] for block in _blocks(body.get("system") or [])),
            user=tuple(text for role, text in texts if role != "assistant"),
            assistant=tuple(text for role, text in texts if role == "assistant"),
            calls=tuple(
                Call(b["id"], b["name"], b["input"], results.get(b["id"])) for _, b in blocks if b["type"] == "tool_use"
            ),
            tools=_callable_tools(body, blocks),
            streamed=bool(body.get("stream")),
            max_tokens=body.get("max_tokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        message = _message(reply, body) | {"content": [], "stop_reason": None}
        message["usage"] = _start_usage(reply.tokens)
        events = [_event("message_start", {"message": message}), _event("ping", {})]
        parts = [(part, getattr(block, "pieces", 0)) for block in reply.blocks for part in _parts(block)]
        for index, (part, pieces) in enumerate(parts):
            start, deltas = _streamed(part, pieces)
            events.append(_event("content_block_start", {"index": index, "content_block": start}))
            events += [_event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
            events.append(_event("content_block_stop", {"index": index}))
        delta = {"stop_reason": reply.stop_reason, "stop_sequence": None}
        usage = {} if reply.tokens is None else {"usage": _usage(reply)}
        events.append(_event("message_delta", {"delta": delta, **usage}))
        events.append(_event("message_stop", {}))
        return events

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        usage = {} if reply.tokens is None else {"usage": _usage(reply)}
        return _message(reply, body) | {"content": _content(reply)} | usage

    def error(self, failure: Failure) -> dict[str, Any]:
        kind = failure.type or STATUS_TYPES.get(failure.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": failure.message}, "request_id": "req_fake"}

    def error_event(self, failure: Failure) -> bytes:
        return _event("error", self.error(failure))

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | Failure | None:
        if (method, path) == ("POST", "/v1/messages/count_tokens"):
            extra = sorted(set(body) - COUNTED_KEYS)
            if extra:
                return Failure(400, f"{extra[0]}: Extra inputs are not permitted", type="invalid_request_error")
            return {"input_tokens": max(1, len(json.dumps(body)) // 4)}
        if method == "HEAD":
            return {}
        if (method, path) == ("GET", "/v1/models"):
            return {"data": [{"type": "model", "id": "claude-fake", "display_name": "Fake"}], "has_more": False}
        return None


def fake_anthropic(brain: Brain | None = None) -> FakeProvider:
    return FakeProvider(AnthropicFront(), brain)


# -- answers


def _message(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": unique("msg_fake"),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
    }


def _content(reply: Reply) -> list[dict[str, Any]]:
    return [part for block in reply.blocks for part in _parts(block)]


def _parts(block: Block) -> list[dict[str, Any]]:
    match block:
        case Text(text):
            return [{"type": "text", "text": text}]
        case Thinking(text, signature):
            return [{"type": "thinking", "thinking": text, "signature": signature}]
        case ToolUse(name, input_, id_):
            return [{"type": "tool_use", "id": id_ or unique("toolu_fake"), "name": name, "input": dict(input_)}]
        case WebSearch(query, results):
            call = unique("srvtoolu_fake")
            found = [
                {"type": "web_search_result", "title": title, "url": url, "encrypted_content": "x", "page_age": None}
                for title, url in results
            ]
            return [
                {"type": "server_tool_use", "id": call, "name": "web_search", "input": {"query": query}},
                {"type": "web_search_tool_result", "tool_use_id": call, "content": found},
            ]


def _streamed(block: dict[str, Any], pieces: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as its start and its deltas, `pieces` of them if it is a text (0: a word each)."""
    match block["type"]:
        case "text":
            return block | {"text": ""}, [
                {"type": "text_delta", "text": piece} for piece in split(block["text"], pieces)
            ]
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(block["thinking"], 0)]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
            return block | {"thinking": "", "signature": ""}, deltas
        case "tool_use" | "server_tool_use":
            text = json.dumps(block["input"])
            parts = ["", *split(text, 3)]
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": part} for part in parts]
        case _:
            return block, []


def _start_usage(tokens: Tokens | None) -> dict[str, Any]:
    if tokens is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return _cache_usage(tokens) | {"input_tokens": tokens.input, "output_tokens": 1, "service_tier": "standard"}


def _usage(reply: Reply) -> dict[str, Any]:
    assert reply.tokens is not None
    usage = _cache_usage(reply.tokens) | {"input_tokens": reply.tokens.input, "output_tokens": reply.tokens.output}
    searches = sum(isinstance(block, WebSearch) for block in reply.blocks)
    return usage | ({"server_tool_use": {"web_search_requests": searches}} if searches else {})


def _cache_usage(tokens: Tokens) -> dict[str, Any]:
    split_by_life = {
        "ephemeral_5m_input_tokens": tokens.cache_write,
        "ephemeral_1h_input_tokens": tokens.cache_write_1h,
    }
    return {
        "cache_creation_input_tokens": tokens.cache_write + tokens.cache_write_1h,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": split_by_life,
    }


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n".encode()


# -- the rules for requests


def _check_headers(headers: dict[str, str]) -> None:
    require(headers.get("anthropic-version"), "anthropic-version: header is required")
    require(headers.get("x-api-key") or headers.get("authorization"), "x-api-key: header is required")
    require("application/json" in headers.get("content-type", ""), "content-type: must be application/json")
    require(not [name for name in headers if name.startswith("x-ccm-")], "x-ccm: our own headers have leaked")


def _check_body(body: Any) -> None:
    require(isinstance(body, dict), "The request body is not valid JSON")
    for key in sorted(set(body) - KEYS):
        raise Refused(f"{key}: Extra inputs are not permitted")
    require(isinstance(body.get("model"), str) and body["model"], "model: Field required")
    require(isinstance(body.get("max_tokens"), int) and body["max_tokens"] >= 1, "max_tokens: Field required")
    require(isinstance(body.get("messages"), list) and body["messages"], "messages: at least one message is required")
    require(body["messages"][0].get("role") == "user", 'messages: first message must use the "user" role')
    require(body.get("stop_sequences") is None or all(s.strip() for s in body["stop_sequences"]), "stop_sequences")
    _check_thinking(body)
    _check_tools(body)
    _check_caching(body)
    for index, message in enumerate(body["messages"]):
        _check_message(f"messages.{index}", message)
    _check_pairs([message for message in body["messages"] if message["role"] != "system"])


def _check_thinking(body: dict[str, Any]) -> None:
    thinking = body.get("thinking")
    if thinking and thinking.get("type") == "enabled":
        budget = thinking.get("budget_tokens")
        require(isinstance(budget, int) and budget >= 1024, "thinking.enabled.budget_tokens: at least 1024")
        require(budget < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools") or []
    names = [tool.get("name") for tool in tools]
    require(len(set(names)) == len(names), "tools: Tool names must be unique.")
    for index, tool in enumerate(tools):
        require(TOOL_NAME.match(tool.get("name") or ""), f"tools.{index}.custom.name: String should match pattern")
        if tool.get("type", "custom") == "custom":
            schema = tool.get("input_schema")
            require(isinstance(schema, dict) and schema.get("type") == "object", f"tools.{index}.input_schema.type")
    if body.get("tool_choice"):
        require(tools, "tool_choice may only be specified while providing tools")
    if tools:
        require([tool for tool in tools if not tool.get("defer_loading")], "At least one tool must not be deferred")


def _check_caching(body: dict[str, Any]) -> None:
    marked = json.dumps([body.get("system"), body.get("tools"), body["messages"]]).count('"cache_control": {')
    require(marked <= 4, f"A maximum of 4 blocks with cache_control may be provided. Found {marked}.")


def _check_message(where: str, message: dict[str, Any]) -> None:
    role, content = message.get("role"), message.get("content")
    require(role in {"user", "assistant", "system"}, f"{where}.role: Input should be 'user' or 'assistant'")
    require(isinstance(content, str | list), f"{where}.content: Field required")
    require(content or role == "system", f"{where}: all messages must have non-empty content")
    for number, block in enumerate(_blocks(content)):
        _check_block(f"{where}.content.{number}", role, block)


def _check_block(where: str, role: Any, block: dict[str, Any]) -> None:
    match block.get("type"):
        case "text":
            require(block.get("text"), f"{where}: text content blocks must be non-empty")
        case "tool_use":
            require(role == "assistant", f"{where}: `tool_use` blocks can only be in `assistant` messages")
            require(TOOL_ID.match(block.get("id", "")), f"{where}.tool_use.id: String should match pattern")
            require(isinstance(block.get("input"), dict), f"{where}.tool_use.input: Input should be a dictionary")
        case "tool_result":
            require(role == "user", f"{where}: `tool_result` blocks can only be in `user` messages")
        case "thinking":
            require(role == "assistant", f"{where}: `thinking` blocks can only be in `assistant` messages")
            ours = str(block.get("signature", "")).startswith(SIGNATURE_PREFIX)
            require(ours, f"{where}: Invalid `signature` in `thinking` block")
        case None:
            raise Refused(f"{where}.type: Field required")


def _check_pairs(messages: list[dict[str, Any]]) -> None:
    """Each tool_use is answered in the very next message, and nothing else is."""
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        blocks = _blocks(message["content"])
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        missing = set(open_calls) - set(results)
        if missing:
            raise Refused(
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(sorted(missing))}."
            )
        for result in results:
            known = result in open_calls
            require(known, f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {result}.")
        require(len(set(results)) == len(results), f"messages.{index}: each tool_use must have a single result")
        first_other = next((n for n, block in enumerate(blocks) if block["type"] != "tool_result"), len(blocks))
        require(first_other >= len(results), f"messages.{index}: tool_result blocks must come first")
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        require(len(set(open_calls)) == len(open_calls), f"messages.{index}: `tool_use` ids must be unique")
    require(not open_calls, "messages: the last `tool_use` blocks have no results")


# -- reading requests


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _result_text(block: dict[str, Any]) -> str:
    parts = _blocks(block.get("content") or [])
    return "\n".join(part.get("text") or part.get("tool_name") or f"[{part['type']}]" for part in parts)


def _callable_tools(body: dict[str, Any], blocks: list[tuple[str, dict[str, Any]]]) -> tuple[str, ...]:
    """Tools that are not deferred, and those that a tool_reference has loaded."""
    loaded = {
        part.get("tool_name")
        for _, block in blocks
        if block["type"] == "tool_result" and isinstance(block.get("content"), list)
        for part in block["content"]
        if part["type"] == "tool_reference"
    }
    tools = body.get("tools") or []
    return tuple(tool["name"] for tool in tools if not tool.get("defer_loading") or tool["name"] in loaded)
