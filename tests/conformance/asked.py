"""Recorded requests, which their providers have accepted, as a client of Anthropic's would have said them."""

import json
from typing import Any

from tests.conformance.recordings import Recording

Body = dict[str, Any]


def anthropic_request(recording: Recording) -> Body:
    """The request in Anthropic's format that means what the recorded one does."""
    readers = {"openai_chat": _chat, "openai_responses": _responses, "gemini": _gemini, "cohere": _chat}
    readers["bedrock"] = _bedrock
    body = recording.asked if recording.format == "anthropic" else readers[recording.format](recording.asked)
    return {"max_tokens": 4096, **body, "model": "public-model"}


def _texts(content: Any) -> Any:
    """A text, or text blocks with their cache marks, of content in parts."""
    if isinstance(content, str):
        return content
    marks = ("cache_control",)
    return [
        {"type": "text", "text": part["text"], **{name: part[name] for name in marks if name in part}}
        for part in content
    ]


def _object(schema: Any) -> Any:
    return schema or {"type": "object", "properties": {}}


# -- Chat Completions, and Cohere, whose requests have the same form


def _chat(asked: Body) -> Body:
    system: list[Body] = []
    messages: list[Body] = []
    for message in asked["messages"]:
        content = message.get("content")
        if message["role"] == "system":
            texts = _texts(content)
            system += [{"type": "text", "text": texts}] if isinstance(texts, str) else texts
        elif message["role"] == "tool":
            result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": _texts(content)}
            messages.append({"role": "user", "content": [result]})
        elif message["role"] == "assistant":
            messages.append({"role": "assistant", "content": _said(message)})
        else:
            messages.append({"role": "user", "content": _texts(content)})
    body: Body = {"messages": messages, **({"system": system} if system else {})}
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    body |= {"max_tokens": limit} if limit else {}
    return body | _chat_tools(asked)


def _said(message: Body) -> list[Body]:
    blocks: list[Body] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought:
        blocks.append({"type": "thinking", "thinking": thought, "signature": "ccm1:{kind}:public-model"})
    if message.get("content"):
        blocks.append({"type": "text", "text": message["content"]})
    for call in message.get("tool_calls") or []:
        arguments = json.loads(call["function"]["arguments"])
        blocks.append({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": arguments})
    return blocks


def _chat_tools(asked: Body) -> Body:
    tools = [
        {
            "name": tool["function"]["name"],
            "description": tool["function"].get("description") or "",
            "input_schema": _object(tool["function"].get("parameters")),
            **({"strict": True} if tool["function"].get("strict") else {}),
            **({"cache_control": tool["cache_control"]} if "cache_control" in tool else {}),
        }
        for tool in asked.get("tools") or []
    ]
    return {"tools": tools, **choice_of(asked.get("tool_choice"))} if tools else {}


def choice_of(told: Any) -> Body:
    """Anthropic's `tool_choice` for any other form of it."""
    name = (told.get("name") or told["function"]["name"]) if isinstance(told, dict) else None
    kinds = {"required": "any", "any": "any", "REQUIRED": "any", "none": "none", "NONE": "none"}
    choice = {"type": "tool", "name": name} if name else {"type": kinds.get(str(told), "auto")}
    return {"tool_choice": choice} if told else {}


# -- Responses


def _responses(asked: Body) -> Body:
    messages: list[Body] = []
    for item in asked["input"]:
        match item.get("type", "message"):
            case "message" if item["role"] == "user":
                messages.append({"role": "user", "content": item["content"]})
            case "message":
                texts = [{"type": "text", "text": part["text"]} for part in item["content"]]
                messages.append({"role": "assistant", "content": texts})
            case "function_call":
                use = {"type": "tool_use", "id": item["call_id"], "name": item["name"]}
                block = {**use, "input": json.loads(item["arguments"])}
                messages.append({"role": "assistant", "content": [block]})
            case "function_call_output":
                result = {"type": "tool_result", "tool_use_id": item["call_id"], "content": item["output"]}
                messages.append({"role": "user", "content": [result]})
    tools = [
        {
            "name": tool["name"],
            "description": tool.get("description") or "",
            "input_schema": _object(tool["parameters"]),
            **({"strict": True} if tool.get("strict") else {}),
        }
        if tool["type"] == "function"
        else {"type": "web_search_20250305", "name": "web_search"}
        for tool in asked.get("tools") or []
    ]
    body: Body = {"messages": messages}
    body |= {"system": asked["instructions"]} if asked.get("instructions") else {}
    return body | ({"tools": tools, **choice_of(asked.get("tool_choice"))} if tools else {})


# -- Gemini


def _gemini(asked: Body) -> Body:
    messages: list[Body] = []
    for content in asked["contents"]:
        role = "assistant" if content["role"] == "model" else "user"
        messages.append({"role": role, "content": [_part(part) for part in content["parts"]]})
    declared = [each for tool in asked.get("tools") or [] for each in tool.get("functionDeclarations", [])]
    tools: list[Body] = [
        {"name": each["name"], "description": each["description"], "input_schema": each["parameters_json_schema"]}
        for each in declared
    ]
    if any("googleSearch" in tool for tool in asked.get("tools") or []):
        tools.append({"type": "web_search_20250305", "name": "web_search"})
    calling = (asked.get("toolConfig") or {}).get("functionCallingConfig", {})
    names = calling.get("allowedFunctionNames") or []
    modes = {"ANY": "any", "NONE": "none"}
    choice: Body = {"type": modes.get(calling.get("mode"), "auto")}
    if len(names) == 1:
        choice = {"type": "tool", "name": names[0]}
    system = (asked.get("systemInstruction") or {}).get("parts") or []
    body: Body = {"messages": messages, **({"system": "\n".join(part["text"] for part in system)} if system else {})}
    return body | ({"tools": tools, "tool_choice": choice} if tools else {})


def _part(part: Body) -> Body:
    if "functionCall" in part:
        call = part["functionCall"]
        return {"type": "tool_use", "id": call.get("id") or call["name"], "name": call["name"], "input": call["args"]}
    if "functionResponse" in part:
        answer = part["functionResponse"]
        content = answer["response"].get("return_value") or answer["response"]
        text = content if isinstance(content, str) else json.dumps(content)
        return {"type": "tool_result", "tool_use_id": answer.get("id") or answer["name"], "content": text}
    return {"type": "text", "text": part["text"]}


# -- Converse


def _bedrock(asked: Body) -> Body:
    messages = [
        {"role": message["role"], "content": [_block(block) for block in message["content"]]}
        for message in asked["messages"]
    ]
    config = asked.get("toolConfig") or {}
    tools = [
        {
            "name": spec["name"],
            "description": spec.get("description") or "",
            "input_schema": spec["inputSchema"]["json"],
        }
        for spec in (tool["toolSpec"] for tool in config.get("tools") or [])
    ]
    told = config.get("toolChoice") or {}
    choice = {"type": "tool", **told["tool"]} if "tool" in told else {"type": "any" if "any" in told else "auto"}
    body: Body = {"messages": messages}
    system = [block["text"] for block in asked.get("system") or []]
    body |= {"system": "\n".join(system)} if system else {}
    return body | ({"tools": tools, "tool_choice": choice} if tools else {})


def _block(block: Body) -> Body:
    if "toolUse" in block:
        use = block["toolUse"]
        return {"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]}
    if "toolResult" in block:
        result = block["toolResult"]
        texts = [{"type": "text", "text": part.get("text") or json.dumps(part["json"])} for part in result["content"]]
        return {"type": "tool_result", "tool_use_id": result["toolUseId"], "content": texts}
    return {"type": "text", "text": block["text"]}
