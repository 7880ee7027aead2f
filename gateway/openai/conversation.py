"""Builds the body of a MessagesRequest from what OpenAI's clients send."""

import base64
import binascii
from typing import Any

import msgspec

from gateway.errors import GatewayError, invalid_request
from gateway.openai.errors import bad
from providers.wire.request import MessagesRequest

Block = dict[str, Any]

USUAL_OUTPUT = 32_000
"""Tokens to allow for when the client names no limit; the model's own limit holds besides."""
HIGHEST_TEMPERATURE = 1.0
"""Anthropic's scale ends at 1, OpenAI's at 2. Higher ones are taken as 1, as Anthropic's own endpoint does."""
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
JSON_ONLY = "Answer with one JSON object and nothing else: no prose, no code fence."
EMPTY_SCHEMA = {"type": "object", "properties": {}}
FREE_FORM = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The tool's whole input, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}


def decoded(body: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid_request(f"The request body is not valid JSON: {error}.") from None
    if not isinstance(told, dict):
        raise invalid_request("The request body must be a JSON object.")
    return told


class Conversation:
    """The turns so far. System texts at the head become the system prompt; later ones stay where
    they are, marked, since not every model takes them there."""

    def __init__(self) -> None:
        self.system: list[str] = []
        self.messages: list[dict[str, Any]] = []

    def instruct(self, text: str) -> None:
        if not text.strip():
            return
        if not self.messages:
            self.system.append(text)
        else:
            self.add("user", [text_block(f"<system-reminder>\n{text}\n</system-reminder>")])

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": list(blocks)})

    def fields(self) -> dict[str, Any]:
        """`system` and `messages`. Tool results stand first in their turn, as Anthropic demands."""
        if not self.messages and self.system:
            self.messages.append({"role": "user", "content": [text_block(self.system.pop())]})
        for message in self.messages:
            message["content"].sort(key=lambda block: block["type"] != "tool_result")
        fields: dict[str, Any] = {"messages": self.messages}
        if self.system:
            fields["system"] = [text_block(text) for text in self.system]
        return fields

    @property
    def calls_without_thinking(self) -> bool:
        """Whether the last answer called tools and has lost its thinking: Anthropic's models then
        refuse to think on in this turn."""
        for message in reversed(self.messages):
            if message["role"] == "assistant":
                kinds = {block["type"] for block in message["content"]}
                return "tool_use" in kinds and not kinds & {"thinking", "redacted_thinking"}
        return False


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def text_of(value: Any, where: str) -> str:
    """A text that may be given as a list of text parts."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if not isinstance(value, list):
        raise bad(where, "must be a string or a list of parts.")
    texts = []
    for index, part in enumerate(value):
        text = (part.get("text") or part.get("refusal")) if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise bad(f"{where}[{index}]", "must be a text part here.")
        texts.append(text)
    return "\n".join(texts)


def image_block(url: Any, where: str) -> Block:
    """An image by its URL, which may hold the image itself."""
    if not isinstance(url, str) or not url:
        raise bad(where, "an image needs a URL; files at OpenAI cannot be read from here.")
    if url.startswith("data:"):
        media_type, data = _data_url(url, where)
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": url}}
    raise bad(where, "an image's URL must begin with https:// or data:.")


def file_block(file: Any, where: str) -> Block:
    """A document: PDF or text, by its data or its URL."""
    told = file if isinstance(file, dict) else {}
    named = {"title": told["filename"]} if isinstance(told.get("filename"), str) else {}
    if isinstance(told.get("file_url"), str):
        return {"type": "document", "source": {"type": "url", "url": told["file_url"]}, **named}
    data = told.get("file_data")
    if not isinstance(data, str) or not data:
        raise bad(where, "a file needs file_data; files at OpenAI (file_id) cannot be read from here.")
    media_type, content = _data_url(data, where) if data.startswith("data:") else ("application/pdf", data)
    if media_type == "application/pdf":
        return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": content}, **named}
    try:
        text = base64.b64decode(content, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise bad(where, f"a file of the type {media_type} cannot be read; send PDF or text.") from None
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}, **named}


def _data_url(url: str, where: str) -> tuple[str, str]:
    head, comma, data = url[len("data:") :].partition(",")
    media_type, _, encoding = head.partition(";")
    if not comma or not encoding.endswith("base64"):
        raise bad(where, "a data URL must be base64: data:<type>;base64,<data>.")
    return media_type or "application/octet-stream", data


def tool(told: dict[str, Any], where: str, *, name: str = "") -> Block:
    """A function as a tool. `name` is what to call it instead of its own name."""
    own = told.get("name")
    if not isinstance(own, str) or not own:
        raise bad(f"{where}.name", "field required.")
    schema = told.get("parameters")
    made: Block = {"name": name or own, "input_schema": schema if isinstance(schema, dict) else EMPTY_SCHEMA}
    if "type" not in made["input_schema"]:
        made["input_schema"] = {"type": "object", **made["input_schema"]}
    if isinstance(told.get("description"), str):
        made["description"] = told["description"]
    if told.get("strict") is True:
        made["strict"] = True
    return made


def free_tool(told: dict[str, Any], where: str, *, name: str = "") -> Block:
    """A custom tool, which takes plain text, as a tool with one text field. A grammar cannot be
    enforced: the model is told of it."""
    made = tool({**told, "parameters": FREE_FORM, "strict": False}, where, name=name)
    form = told.get("format")
    grammar = form.get("grammar", form) if isinstance(form, dict) and form.get("type") == "grammar" else None
    if isinstance(grammar, dict) and isinstance(grammar.get("definition"), str):
        rule = f"The input must conform to this {grammar.get('syntax', 'lark')} grammar:\n{grammar['definition']}"
        made["description"] = "\n\n".join(text for text in (made.get("description"), rule) if text)
    return made


def free_input(text: str) -> Block:
    return {"input": text}


def arguments_of(text: Any) -> dict[str, Any]:
    """A call's arguments as an object. What is none is kept, so that the model sees what it did."""
    if not isinstance(text, str) or not text.strip():
        return {}
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {"INVALID_JSON": text}


def thinking_fields(effort: Any, where: str, *, can_think: bool) -> dict[str, Any]:
    """How much to think, from OpenAI's effort."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}}
    if effort not in EFFORTS:
        raise bad(where, f"must be one of none, {', '.join(EFFORTS)}.")
    thinking = {"thinking": {"type": "adaptive"}} if can_think else {}
    return {**thinking, "output_config": {"effort": EFFORTS[effort]}}


def format_fields(form: Any, where: str, fields: dict[str, Any]) -> None:
    """Take over `form`, a response_format or text.format, into `fields`."""
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return
    if kind == "json_object":
        fields["system"] = [*fields.get("system", []), text_block(JSON_ONLY)]
        return
    described = form.get("json_schema", form) if kind == "json_schema" else {}
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(schema, dict):
        raise bad(where, "must be of the type text, json_object or json_schema (with a schema).")
    fields.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def choice_fields(choice: Any, tools: list[Block], *, parallel: Any) -> dict[str, Any]:
    """`tool_choice` from a choice by its kind ("auto", "required", "none") or by a tool's name."""
    if not tools:
        return {}
    made: dict[str, Any] = {"type": "auto"}
    if isinstance(choice, tuple):
        made = {"type": "tool", "name": choice[0]}
    elif choice in {"required", "none"}:
        made = {"type": "any" if choice == "required" else "none"}
    if parallel is False and made["type"] != "none":
        made["disable_parallel_tool_use"] = True
    return {} if made == {"type": "auto"} else {"tool_choice": made}


def sampling_fields(body: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in ("temperature", "top_p", "top_k"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise bad(name, "must be a number.")
        fields[name] = min(value, HIGHEST_TEMPERATURE) if name == "temperature" else value
    return fields


def output_limit(body: dict[str, Any], *names: str) -> int:
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise bad(name, "must be an integer of at least 1.")
        return value
    return USUAL_OUTPUT


def identity_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Who asks, and which conversation it is: requests of one keep to one target and its cache."""
    user = body.get("safety_identifier") or body.get("user")
    session = body.get("prompt_cache_key")
    told = {"session_id": session if isinstance(session, str) else "", "user": user if isinstance(user, str) else ""}
    known = {name: value for name, value in told.items() if value}
    if not known:
        return {}
    return {"metadata": {"user_id": msgspec.json.encode(known).decode()}}


def search_fields(told: dict[str, Any]) -> Block:
    """OpenAI's web search tool as Anthropic's."""
    made: Block = {"type": "web_search_20250305", "name": "web_search"}
    filters = told.get("filters")
    if isinstance(filters, dict) and filters.get("allowed_domains"):
        made["allowed_domains"] = filters["allowed_domains"]
    location = told.get("user_location")
    if isinstance(location, dict):
        where = location.get("approximate", location)
        known = ("city", "region", "country", "timezone")
        made["user_location"] = {"type": "approximate"} | {name: where[name] for name in known if where.get(name)}
    return made


def refuse(body: dict[str, Any], reasons: dict[str, str]) -> None:
    """Refuse fields that ask for what CCM cannot do. What asks for nothing (null, 0, false, an empty
    list) passes."""
    for name, reason in reasons.items():
        if body.get(name):
            raise bad(name, reason)


def request_of(fields: dict[str, Any]) -> MessagesRequest:
    return MessagesRequest.parse(msgspec.json.encode(fields))


def model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise bad("model", "must name a model; GET /v1/models lists them.")
    return model


def flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(name, "must be true or false.")
    return bool(value)


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """`value` as a list of objects; nothing is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad(where, "must be a list of objects.")
    return value


def unknown_tool(where: str, kind: Any) -> GatewayError:
    return bad(f"{where}.type", f"{str(kind)[:40]!r} runs on OpenAI's servers and is not available here.")
