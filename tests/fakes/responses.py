"""A fake OpenAI server: the Responses API, streamed and not, with its rules for requests."""

import json
import re
from typing import Any

from tests.fakes.answers import Block, Failure, Reply, Text, Thinking, Tokens, ToolUse, WebSearch, split, unique
from tests.fakes.brain import Brain, Call, Conversation
from tests.fakes.rules import Refused, require
from tests.fakes.server import FakeProvider

KEYS = {
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens",
    "max_tool_calls", "stream", "store", "temperature", "top_p", "reasoning", "include", "text", "metadata", "user",
    "safety_identifier", "prompt_cache_key", "service_tier", "truncation", "stream_options", "previous_response_id",
}  # fmt: skip
PART_KEYS = {
    "input_text": {"type", "text"},
    "input_image": {"type", "image_url", "detail"},
    "input_file": {"type", "filename", "file_data", "file_url"},
    "output_text": {"type", "text", "annotations"},
    "refusal": {"type", "refusal"},
}
ROLES = {"user": "input_", "developer": "input_", "system": "input_", "assistant": "output_"}
TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh"}
INCLUDES = {"reasoning.encrypted_content", "web_search_call.action.sources"}
SEARCHES = {"web_search", "web_search_preview"}
ENCRYPTED = "enc-fake-"
"""Reasoning comes back with a seal of this server's, as the real one checks its own."""


class ResponsesFront:
    name = "responses"
    base_path = "/v1"
    paths: tuple[str, ...] = ("/v1/responses",)

    def violation(self, body: Any, headers: dict[str, str]) -> str | None:
        try:
            _check_headers(headers)
            _check_body(body)
        except Refused as refused:
            return str(refused)
        return None

    def conversation(self, body: dict[str, Any], size: int) -> Conversation:
        items = body["input"]
        messages = [item for item in items if item["type"] == "message"]
        outputs = {item["call_id"]: _text(item["output"]) for item in items if item["type"] == "function_call_output"}
        return Conversation(
            model=body["model"],
            system=body.get("instructions") or "",
            user=tuple(_text(m["content"]) for m in messages if m["role"] != "assistant"),
            assistant=tuple(_text(m["content"]) for m in messages if m["role"] == "assistant"),
            calls=tuple(
                Call(item["call_id"], item["name"], json.loads(item["arguments"]), outputs.get(item["call_id"]))
                for item in items
                if item["type"] == "function_call"
            ),
            tools=tuple(tool["name"] for tool in body.get("tools") or [] if tool["type"] == "function"),
            streamed=bool(body.get("stream")),
            max_tokens=body.get("max_output_tokens"),
            size=size,
        )

    def events(self, reply: Reply, body: dict[str, Any]) -> list[bytes]:
        started = _response(reply, body, output=[], status="in_progress")
        told: list[dict[str, Any]] = [
            {"type": "response.created", "response": started},
            {"type": "response.in_progress", "response": started},
        ]
        items = _items(reply, body)
        for index, (item, block) in enumerate(items):
            told.append({"type": "response.output_item.added", "output_index": index, "item": _begun(item)})
            told += [{"output_index": index, "item_id": item["id"], **event} for event in _deltas(item, block)]
            told.append({"type": "response.output_item.done", "output_index": index, "item": item})
        status = _status(reply)
        final = _response(reply, body, output=[item for item, _ in items], status=status)
        told.append({"type": f"response.{status}", "response": final})
        return [_event({**event, "sequence_number": number}) for number, event in enumerate(told)]

    def whole(self, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        return _response(reply, body, output=[item for item, _ in _items(reply, body)], status=_status(reply))

    def error(self, failure: Failure) -> dict[str, Any]:
        kind = failure.type or ("invalid_request_error" if failure.status in {400, 401} else "server_error")
        return {"error": {"message": failure.message, "type": kind, "param": None, "code": None}}

    def error_event(self, failure: Failure) -> bytes:
        code = {429: "rate_limit_exceeded", 529: "server_is_overloaded"}.get(failure.status, "server_error")
        error = {"code": code, "message": failure.message}
        failed = {"type": "response.failed", "response": {"id": "resp_fake", "status": "failed", "error": error}}
        return _event({"type": "error", "param": None, **error}) + _event(failed)

    def other(self, method: str, path: str, body: Any) -> dict[str, Any] | None:
        if (method, path) == ("GET", "/v1/models"):
            return {"object": "list", "data": [{"id": "gpt-fake", "object": "model", "owned_by": "fake"}]}
        return None


def fake_responses(brain: Brain | None = None) -> FakeProvider:
    return FakeProvider(ResponsesFront(), brain)


# -- answers


def _items(reply: Reply, body: dict[str, Any]) -> list[tuple[dict[str, Any], Block]]:
    return [(item, block) for block in reply.blocks for item in _item(block, body)]


def _item(block: Block, body: dict[str, Any]) -> list[dict[str, Any]]:
    match block:
        case Text(text):
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            message = {"type": "message", "id": unique("msg_"), "status": "completed", "role": "assistant"}
            return [message | {"content": [part]}]
        case Thinking(text):
            told = bool(body.get("reasoning", {}).get("summary"))
            item: dict[str, Any] = {"type": "reasoning", "id": unique("rs_")}
            item |= {"summary": [{"type": "summary_text", "text": text}] if told else []}
            if "reasoning.encrypted_content" in body.get("include", []):
                item["encrypted_content"] = unique(ENCRYPTED)
            return [item]
        case ToolUse(name, input_, id_):
            call = {"type": "function_call", "id": unique("fc_"), "call_id": id_ or unique("call_"), "name": name}
            return [call | {"arguments": json.dumps(dict(input_)), "status": "completed"}]
        case WebSearch(query, results):
            action: dict[str, Any] = {"type": "search", "query": query, "queries": [query]}
            if "web_search_call.action.sources" in body.get("include", []):
                action["sources"] = [{"type": "url", "url": url} for _, url in results]
            return [{"type": "web_search_call", "id": unique("ws_"), "status": "completed", "action": action}]


def _begun(item: dict[str, Any]) -> dict[str, Any]:
    match item["type"]:
        case "message":
            return item | {"status": "in_progress", "content": []}
        case "reasoning":
            return item | {"summary": [], "encrypted_content": "unfinished"}
        case "function_call":
            return item | {"status": "in_progress", "arguments": ""}
    return item | {"status": "in_progress"}


def _deltas(item: dict[str, Any], block: Block) -> list[dict[str, Any]]:
    match block:
        case Text(text, pieces):
            head = {"content_index": 0}
            said = [
                {"type": "response.output_text.delta", **head, "delta": piece, "logprobs": [], "obfuscation": "x" * 9}
                for piece in split(text, pieces)
            ]
            opened = {"type": "response.content_part.added", **head, "part": {"type": "output_text", "text": ""}}
            return [opened, *said, {"type": "response.output_text.done", **head, "text": text}]
        case Thinking(text) if item["summary"]:
            head = {"summary_index": 0}
            opened = {"type": "response.reasoning_summary_part.added", **head}
            kind = "response.reasoning_summary_text"
            return [opened, *({"type": f"{kind}.delta", **head, "delta": piece} for piece in split(text, 0))]
        case ToolUse():
            kind = "response.function_call_arguments"
            said = [{"type": f"{kind}.delta", "delta": piece} for piece in split(item["arguments"], 3)]
            return [*said, {"type": f"{kind}.done", "arguments": item["arguments"]}]
        case WebSearch():
            return [{"type": f"response.web_search_call.{name}"} for name in ("in_progress", "searching", "completed")]
    return []


def _status(reply: Reply) -> str:
    return "incomplete" if reply.stop_reason in {"max_tokens", "refusal"} else "completed"


def _response(reply: Reply, body: dict[str, Any], *, output: list[Any], status: str) -> dict[str, Any]:
    reason = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}.get(reply.stop_reason)
    response = {
        "id": unique("resp_fake"),
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "model": body["model"],
        "output": output,
        "store": False,
    }
    done = status != "in_progress" and reply.tokens is not None
    return response | {"usage": _usage(reply.tokens) if done and reply.tokens else None}


def _usage(tokens: Tokens) -> dict[str, Any]:
    written = tokens.cache_write + tokens.cache_write_1h
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cache_read, "cache_write_tokens": written},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.output,
    }


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


# -- the rules for requests


def _check_headers(headers: dict[str, str]) -> None:
    sent = headers.get("authorization", "").startswith("Bearer ") or "api-key" in headers
    require(sent, "You didn't provide an API key.")
    leaked = [name for name in headers if name.startswith(("x-ccm-", "anthropic-", "x-claude-", "x-api-key"))]
    require(not leaked, f"headers of another wire have leaked: {leaked}")


def _check_body(body: Any) -> None:
    require(isinstance(body, dict), "We could not parse the JSON body of your request.")
    for key in sorted(set(body) - KEYS):
        raise Refused(f"Unknown parameter: '{key}'.")
    require(isinstance(body.get("model"), str) and body["model"], "Missing required parameter: 'model'.")
    require(isinstance(body.get("input"), list) and body["input"], "Missing required parameter: 'input'.")
    require(body.get("store") is False, "this server keeps nothing: 'store' must be false")
    require(body.get("max_output_tokens", 16) >= 16, "Invalid 'max_output_tokens': integer below minimum value 16.")
    require(set(body.get("include", [])) <= INCLUDES, "Invalid value: 'include'")
    reasoning = body.get("reasoning", {})
    require(reasoning.get("effort", "low") in EFFORTS, "Invalid value: 'reasoning.effort'")
    require(not (reasoning and "temperature" in body), "Unsupported parameter: 'temperature'")
    require(len(body.get("safety_identifier") or "") <= 64, "Invalid 'safety_identifier': string too long")
    require(len(body.get("prompt_cache_key") or "") <= 64, "Invalid 'prompt_cache_key': string too long")
    _check_tools(body)
    for index, item in enumerate(body["input"]):
        _check_item(f"input[{index}]", item)
    _check_order(body["input"])


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        require("tool_choice" not in body, "Tool choice is only allowed when 'tools' are specified.")
        return
    require(tools, "Invalid 'tools': empty array.")
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if tool.get("type") in SEARCHES:
            require(set(tool) <= {"type", "filters", "user_location"}, f"Unknown parameter in '{where}'")
            continue
        require(tool.get("type") == "function", f"Invalid value: '{where}.type'")
        extra = set(tool) - {"type", "name", "description", "parameters", "strict"}
        require(not extra, f"Unknown parameter: '{where}.{next(iter(extra), '')}'")
        require(TOOL_NAME.match(tool.get("name") or ""), f"Invalid '{where}.name'")
        # Left out, the real server takes it for true and makes every property required.
        require(isinstance(tool.get("strict"), bool), f"'{where}.strict' is missing")
        require(tool.get("parameters", {}).get("type") == "object", f"Invalid schema for '{where}'")
    choice = body.get("tool_choice", "auto")
    known = {"auto", "none", "required"}
    require(choice in known if isinstance(choice, str) else "type" in choice, "Invalid value: 'tool_choice'")


def _check_item(where: str, item: dict[str, Any]) -> None:
    require("id" not in item, f"Item with id '{item.get('id')}' not found. Items are not persisted with store: false.")
    match item.get("type"):
        case "message":
            _check_message(where, item)
        case "reasoning":
            require(isinstance(item.get("summary"), list), f"Missing required parameter: '{where}.summary'")
            sealed = item.get("encrypted_content", "")
            require(sealed.startswith(ENCRYPTED), f"The encrypted content {sealed[:20]} could not be verified.")
        case "function_call":
            require(0 < len(item["call_id"]) <= 64, f"Invalid '{where}.call_id': string too long")
            require(TOOL_NAME.match(item.get("name") or ""), f"Invalid '{where}.name'")
            require(isinstance(json.loads(item["arguments"]), dict), f"Invalid '{where}.arguments'")
        case "function_call_output":
            output = item["output"]
            require(output, f"Invalid '{where}.output'")
            for number, part in enumerate(output if isinstance(output, list) else []):
                _check_part(f"{where}.output[{number}]", "input_", part)
        case kind:
            raise Refused(f"Invalid value: '{kind}' at '{where}.type'")


def _check_message(where: str, item: dict[str, Any]) -> None:
    role = item.get("role")
    require(role in ROLES, f"Invalid value: '{where}.role'")
    require(set(item) <= {"type", "role", "content", "phase"}, f"Unknown parameter in '{where}'")
    require(item.get("content"), f"Invalid '{where}.content': empty")
    if isinstance(item["content"], str):
        return
    require(role != "assistant", f"Missing required parameter: '{where}.id'")
    for number, part in enumerate(item["content"]):
        _check_part(f"{where}.content[{number}]", ROLES[str(role)], part)


def _check_part(where: str, prefix: str, part: dict[str, Any]) -> None:
    kind = str(part.get("type"))
    require(kind in PART_KEYS and kind.startswith((prefix, "refusal")), f"Invalid value: '{kind}' at '{where}.type'")
    require(set(part) <= PART_KEYS[kind], f"Unknown parameter in '{where}': {sorted(part)}")


def _check_order(items: list[dict[str, Any]]) -> None:
    """Every call has one output after it, and reasoning never stands alone."""
    calls: set[str] = set()
    answered: set[str] = set()
    for index, item in enumerate(items):
        if item["type"] == "function_call":
            require(item["call_id"] not in calls, f"Duplicate call_id {item['call_id']}")
            calls.add(item["call_id"])
        elif item["type"] == "function_call_output":
            call = item["call_id"]
            require(call in calls - answered, f"No tool call found for function call output with call_id {call}.")
            answered.add(call)
        elif item["type"] == "reasoning":
            following = items[index + 1] if index + 1 < len(items) else {}
            fits = following.get("type") in {"function_call", "reasoning"} or following.get("role") == "assistant"
            require(fits, "Item of type 'reasoning' was provided without its required following item.")
    require(calls == answered, f"No tool output found for function call {', '.join(sorted(calls - answered))}.")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", f"[{part['type']}]") for part in content or [])
