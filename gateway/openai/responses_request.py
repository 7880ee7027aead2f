"""A request of the Responses API as a MessagesRequest.

Nothing is stored: the client sends the whole conversation every time, our reasoning items among it.
"""

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

NOT_STORED = "nothing is stored here; send the whole conversation as input (with store: false, as Codex does)."
REFUSED = {
    "previous_response_id": NOT_STORED,
    "conversation": NOT_STORED,
    "background": "runs in the background are not supported: nothing is stored here.",
    "prompt": "stored prompts are not supported.",
    "top_logprobs": "log probabilities are not supported.",
    "context_management": "is not supported; shorten the conversation yourself.",
    "moderation": "is not supported.",
}
SIGNED = "ccm-signed:"
REDACTED = "ccm-redacted:"
"""What `encrypted_content` of our reasoning items begins with; then comes what the model's provider
signed the thinking with, or the redacted thinking itself."""
PARAGRAPH = "\n\n"
SEPARATOR = "__"


@dataclass(frozen=True, slots=True)
class Names:
    """How the tools are called on the client's side: which take plain text, and which stand in a
    namespace, by the name that the model knows."""

    custom: frozenset[str] = frozenset()
    spaced: "dict[str, tuple[str, str]] | None" = None

    def client_name(self, name: str) -> dict[str, str]:
        namespace, own = (self.spaced or {}).get(name, ("", name))
        return {"name": own, "namespace": namespace} if namespace else {"name": own}


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """The request for the pipeline, and what its answer has to look like."""

    messages: MessagesRequest
    names: Names
    echo: dict[str, Any]
    """What a response repeats of its request."""


def responses_request(body: dict[str, Any]) -> ResponsesRequest:
    """Raises GatewayError and InvalidRequest, each with the field's name."""
    refuse(body, REFUSED)
    conversation = Conversation()
    conversation.instruct(text_of(body.get("instructions"), "instructions"))
    told = body.get("input")
    if isinstance(told, str):
        conversation.add("user", [text_block(told)] if told.strip() else [])
    else:
        for index, item in enumerate(objects(told, "input")):
            _add(conversation, item, f"input[{index}]")
    tools, names = _tools(body)
    tools, choice = _choice(body, tools)
    fields: dict[str, Any] = {"model": model_of(body), **conversation.fields()}
    fields["max_tokens"] = output_limit(body, "max_output_tokens")
    fields["stream"] = flag(body, "stream")
    if tools:
        fields["tools"] = tools
    fields |= choice_fields(choice, tools, parallel=body.get("parallel_tool_calls"))
    fields |= sampling_fields(body) | identity_fields(body)
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    fields |= thinking_fields(effort, "reasoning.effort", can_think=not conversation.calls_without_thinking)
    text = body.get("text")
    format_fields(text.get("format") if isinstance(text, dict) else None, "text.format", fields)
    return ResponsesRequest(messages=request_of(fields), names=names, echo=_echo(body))


def _echo(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "store": False,
        "temperature": body.get("temperature"),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p"),
        "truncation": "disabled",
    }


# -- tools


def _tools(body: dict[str, Any]) -> tuple[list[Block], Names]:
    tools: list[Block] = []
    custom: set[str] = set()
    spaced: dict[str, tuple[str, str]] = {}

    def add(told: dict[str, Any], where: str, name: str = "") -> None:
        if told.get("type") == "custom":
            tools.append(free_tool(told, where, name=name))
            custom.add(tools[-1]["name"])
        elif told.get("type") == "function":
            tools.append(tool(told, where, name=name))
        else:
            raise unknown_tool(where, told.get("type"))

    for index, told in enumerate(objects(body.get("tools"), "tools")):
        where, kind = f"tools[{index}]", str(told.get("type"))
        if kind == "namespace":
            for number, inner in enumerate(objects(told.get("tools"), f"{where}.tools")):
                name = _joined(str(told.get("name") or ""), str(inner.get("name") or ""))
                spaced[name] = (str(told.get("name") or ""), str(inner.get("name") or ""))
                add(inner, f"{where}.tools[{number}]", name)
        elif kind.startswith("web_search"):
            # Codex asks with every request for OpenAI's cached index, which nobody else has.
            if told.get("external_web_access") is not False:
                tools.append(search_fields(told))
        elif kind != "tool_search":  # every tool is there from the start: there is nothing to look for
            add(told, where)
    return tools, Names(frozenset(custom), spaced)


def _joined(namespace: str, name: str) -> str:
    """A tool's name together with its namespace's."""
    if not namespace:
        return name
    return namespace + name if namespace.endswith(SEPARATOR) else f"{namespace}{SEPARATOR}{name}"


def _choice(body: dict[str, Any], tools: list[Block]) -> tuple[list[Block], Any]:
    """The tools that may be called, and the choice among them."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        if choice not in {None, "auto", "required", "none"}:
            raise bad("tool_choice", "must be auto, required, none, or name a tool.")
        return tools, choice
    if choice.get("type") == "allowed_tools":
        names = {_chosen(one) for one in objects(choice.get("tools"), "tool_choice.tools")}
        return [one for one in tools if one["name"] in names], choice.get("mode")
    name = _chosen(choice)
    if not any(one["name"] == name for one in tools):
        raise bad("tool_choice", f"{name!r} is none of the tools.")
    return tools, (name,)


def _chosen(told: dict[str, Any]) -> str:
    kind = str(told.get("type"))
    if kind.startswith("web_search"):
        return "web_search"
    return _joined(str(told.get("namespace") or ""), str(told.get("name") or ""))


# -- input items


def _add(conversation: Conversation, item: dict[str, Any], where: str) -> None:
    match item.get("type") or "message":
        case "message":
            _message(conversation, item, where)
        case "reasoning":
            conversation.add("assistant", _thinking(item))
        case "function_call":
            told = arguments_of(item.get("arguments"))
            conversation.add("assistant", [_call(item, told, where)])
        case "custom_tool_call":
            conversation.add("assistant", [_call(item, free_input(str(item.get("input") or "")), where)])
        case "function_call_output" | "custom_tool_call_output":
            conversation.add("user", [_result(item, where)])
        case "web_search_call" | "tool_search_call" | "tool_search_output":
            pass  # what came of it stands in the text that follows
        case "item_reference":
            raise bad(where, f"an item cannot be referred to: {NOT_STORED}")
        case kind:
            raise bad(f"{where}.type", f"{str(kind)[:40]!r} is not supported.")


def _message(conversation: Conversation, item: dict[str, Any], where: str) -> None:
    content = item.get("content")
    match item.get("role"):
        case "system" | "developer":
            conversation.instruct(text_of(content, f"{where}.content"))
        case "user":
            conversation.add("user", _parts(content, f"{where}.content"))
        case "assistant":
            text = content if isinstance(content, str) else None
            texts = [text] if text is not None else [text_of([part], where) for part in objects(content, where)]
            conversation.add("assistant", [text_block(one) for one in texts if one.strip()])
        case role:
            raise bad(f"{where}.role", f"{str(role)[:40]!r} is no role that is supported.")


def _parts(content: Any, where: str) -> list[Block]:
    if isinstance(content, str):
        return [text_block(content)] if content.strip() else []
    return [block for index, part in enumerate(objects(content, where)) for block in _part(part, f"{where}[{index}]")]


def _part(part: dict[str, Any], where: str) -> list[Block]:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            text = text_of(part.get("text"), where)
            return [text_block(text)] if text.strip() else []
        case "input_image":
            return [image_block(part.get("image_url"), where)]
        case "input_file":
            return [file_block(part, where)]
        case kind:
            raise bad(f"{where}.type", f"{str(kind)[:40]!r} is not supported.")


def _call(item: dict[str, Any], told: dict[str, Any], where: str) -> Block:
    name, call_id = item.get("name"), item.get("call_id")
    if not isinstance(name, str) or not name or not isinstance(call_id, str) or not call_id:
        raise bad(where, "a call must have a name and a call_id.")
    joined = _joined(str(item.get("namespace") or ""), name)
    return {"type": "tool_use", "id": call_id, "name": joined, "input": told}


def _result(item: dict[str, Any], where: str) -> Block:
    call_id = item.get("call_id")
    if not isinstance(call_id, str) or not call_id:
        raise bad(f"{where}.call_id", "field required.")
    output = item.get("output")
    content: Any = output
    if not isinstance(output, str):
        content = _parts(output, f"{where}.output")
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


def _thinking(item: dict[str, Any]) -> list[Block]:
    """Reasoning that we gave out before. Any other is of no use to a model that did not think it."""
    sealed = item.get("encrypted_content")
    if not isinstance(sealed, str):
        return []
    if sealed.startswith(REDACTED):
        return [{"type": "redacted_thinking", "data": sealed.removeprefix(REDACTED)}]
    if not sealed.startswith(SIGNED):
        return []
    texts = [str(part.get("text") or "") for part in objects(item.get("summary"), "summary")]
    return [{"type": "thinking", "thinking": PARAGRAPH.join(texts), "signature": sealed.removeprefix(SIGNED)}]
