"""A Chat Completions request as a MessagesRequest."""

from dataclasses import dataclass
from typing import Any

from gateway.openai.conversation import (
    Block,
    Conversation,
    arguments_of,
    choice_fields,
    file_block,
    flag,
    format_fields,
    free_input,
    free_tool,
    identity_fields,
    image_block,
    model_of,
    objects,
    output_limit,
    refuse,
    request_of,
    sampling_fields,
    search_fields,
    text_block,
    text_of,
    thinking_fields,
    tool,
    unknown_tool,
)
from gateway.openai.errors import bad
from providers.wire.request import MessagesRequest

REFUSED = {
    "functions": "is no longer supported; use tools.",
    "function_call": "is no longer supported; use tool_choice.",
    "audio": "audio is not supported.",
    "logprobs": "log probabilities are not supported.",
    "top_logprobs": "log probabilities are not supported.",
    "logit_bias": "is not supported.",
    "presence_penalty": "penalties are not supported.",
    "frequency_penalty": "penalties are not supported.",
    "moderation": "is not supported.",
}
MAX_STOPS = 16


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The request for the pipeline, and what its answer has to look like."""

    messages: MessagesRequest
    include_usage: bool
    custom_tools: frozenset[str]


def chat_request(body: dict[str, Any]) -> ChatRequest:
    """Raises GatewayError and InvalidRequest, each with the field's name."""
    refuse(body, REFUSED)
    if body.get("n") not in {None, 1}:
        raise bad("n", "only one choice is supported.")
    if "audio" in (body.get("modalities") or []):
        raise bad("modalities", "audio is not supported.")
    conversation = Conversation()
    for index, message in enumerate(objects(body.get("messages"), "messages")):
        _add(conversation, message, f"messages[{index}]")
    tools, custom = _tools(body)
    fields: dict[str, Any] = {"model": model_of(body), **conversation.fields()}
    fields["max_tokens"] = output_limit(body, "max_completion_tokens", "max_tokens")
    stream = flag(body, "stream")
    fields["stream"] = stream
    tools, choice = _choice(body, tools)
    if tools:
        fields["tools"] = tools
    fields |= choice_fields(choice, tools, parallel=body.get("parallel_tool_calls"))
    fields |= sampling_fields(body) | identity_fields(body) | _stops(body)
    fields |= thinking_fields(_effort(body), "reasoning_effort", can_think=not conversation.calls_without_thinking)
    format_fields(body.get("response_format"), "response_format", fields)
    options = body.get("stream_options")
    return ChatRequest(
        messages=request_of(fields),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        custom_tools=custom,
    )


def _effort(body: dict[str, Any]) -> Any:
    """OpenAI's field, or OpenRouter's object."""
    told = body.get("reasoning")
    if body.get("reasoning_effort") is None and isinstance(told, dict):
        return "none" if told.get("enabled") is False else told.get("effort")
    return body.get("reasoning_effort")


def _stops(body: dict[str, Any]) -> dict[str, Any]:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops) or len(stops) > MAX_STOPS:
        raise bad("stop", f"must be a string or a list of at most {MAX_STOPS} strings.")
    stops = [one for one in stops if one]
    return {"stop_sequences": stops} if stops else {}


# -- tools


def _tools(body: dict[str, Any]) -> tuple[list[Block], frozenset[str]]:
    tools: list[Block] = []
    custom: set[str] = set()
    for index, told in enumerate(objects(body.get("tools"), "tools")):
        kind, where = told.get("type"), f"tools[{index}]"
        inner = told.get(str(kind))
        if kind == "function" and isinstance(inner, dict):
            tools.append(tool(inner, f"{where}.function"))
        elif kind == "custom" and isinstance(inner, dict):
            tools.append(free_tool(inner, f"{where}.custom"))
            custom.add(tools[-1]["name"])
        elif kind in {"function", "custom"}:
            raise bad(f"{where}.{kind}", "field required.")
        else:
            raise unknown_tool(where, kind)
    if isinstance(body.get("web_search_options"), dict):
        tools.append(search_fields(body["web_search_options"]))
    return tools, frozenset(custom)


def _choice(body: dict[str, Any], tools: list[Block]) -> tuple[list[Block], Any]:
    """The tools that may be called, and the choice among them."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        if choice not in {None, "auto", "required", "none"}:
            raise bad("tool_choice", "must be auto, required, none, or name a tool.")
        return tools, choice
    kind = choice.get("type")
    inner = choice.get(str(kind))
    if kind == "allowed_tools" and isinstance(inner, dict):
        names = {_name_in(one) for one in objects(inner.get("tools"), "tool_choice.allowed_tools.tools")}
        return [one for one in tools if one["name"] in names], inner.get("mode")
    name = _name_in(choice)
    if not any(one["name"] == name for one in tools):
        raise bad("tool_choice", f"{name!r} is none of the tools.")
    return tools, (name,)


def _name_in(told: dict[str, Any]) -> str:
    inner = told.get(str(told.get("type")))
    return str(inner.get("name") if isinstance(inner, dict) else "")


# -- messages


def _add(conversation: Conversation, message: dict[str, Any], where: str) -> None:
    match message.get("role"):
        case "system" | "developer":
            conversation.instruct(text_of(message.get("content"), f"{where}.content"))
        case "user":
            conversation.add("user", _user_blocks(message.get("content"), f"{where}.content"))
        case "assistant":
            conversation.add("assistant", _assistant_blocks(message, where))
        case "tool":
            conversation.add("user", [_result(message, where)])
        case role:
            raise bad(f"{where}.role", f"{str(role)[:40]!r} is no role that is supported.")


def _user_blocks(content: Any, where: str) -> list[Block]:
    if isinstance(content, str):
        return [text_block(content)] if content.strip() else []
    return [block for index, part in enumerate(objects(content, where)) for block in _part(part, f"{where}[{index}]")]


def _part(part: dict[str, Any], where: str) -> list[Block]:
    match part.get("type"):
        case "text":
            text = text_of(part.get("text"), where)
            return [text_block(text)] if text.strip() else []
        case "image_url":
            image = part.get("image_url")
            return [image_block(image.get("url") if isinstance(image, dict) else image, where)]
        case "file":
            return [file_block(part.get("file"), where)]
        case kind:
            raise bad(f"{where}.type", f"{str(kind)[:40]!r} is not supported.")


def _assistant_blocks(message: dict[str, Any], where: str) -> list[Block]:
    blocks = [block for detail in objects(message.get("reasoning_details"), where) for block in _thinking(detail)]
    text = text_of(message.get("content"), f"{where}.content") or text_of(message.get("refusal"), f"{where}.refusal")
    if text.strip():
        blocks.append(text_block(text))
    for index, call in enumerate(objects(message.get("tool_calls"), f"{where}.tool_calls")):
        inner = call.get(str(call.get("type") or "function"))
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not call.get("id"):
            raise bad(f"{where}.tool_calls[{index}]", "must have an id, and a function with a name.")
        custom = call.get("type") == "custom"
        told = free_input(str(inner.get("input") or "")) if custom else arguments_of(inner.get("arguments"))
        blocks.append({"type": "tool_use", "id": str(call["id"]), "name": inner["name"], "input": told})
    return blocks


def _thinking(detail: dict[str, Any]) -> list[Block]:
    """Reasoning that we gave out before; any other has no signature that a model would accept."""
    if detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str):
        return [{"type": "redacted_thinking", "data": detail["data"]}]
    signature = detail.get("signature")
    if detail.get("type") != "reasoning.text" or not isinstance(signature, str) or not signature:
        return []
    return [{"type": "thinking", "thinking": str(detail.get("text") or ""), "signature": signature}]


def _result(message: dict[str, Any], where: str) -> Block:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str) or not call_id:
        raise bad(f"{where}.tool_call_id", "field required.")
    content = message.get("content")
    told: Any = content
    if not isinstance(content, str):
        told = _user_blocks(content, f"{where}.content")
    return {"type": "tool_result", "tool_use_id": call_id, "content": told}
