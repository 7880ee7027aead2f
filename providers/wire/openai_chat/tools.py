"""Tools and what concerns them: functions, names, ids, the choice, and schemas."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from providers.errors import InvalidRequest
from providers.wire.openai_chat.history import Block, Turn, content_of
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.request import MessagesRequest

PLACEHOLDER = "DeferredToolPlaceholder"
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
NINE = re.compile(r"[a-zA-Z0-9]{9}")
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
EMPTY_SCHEMA = Raw(b'{"type":"object","properties":{}}')

COMBINATORS = ("anyOf", "oneOf", "allOf", "enum", "not")
SCHEMA_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
SCHEMA_DATA = frozenset({"enum", "const", "default", "examples", "required"})


class ClientTool(msgspec.Struct):
    """A tool that the client runs, as it declares it."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    strict: bool | None = None
    defer_loading: bool | None = None
    input_examples: Any = None


class _Root(msgspec.Struct):
    """A schema's root, as far as OpenAI limits it."""

    type: Any = None
    properties: Raw | UnsetType = UNSET
    anyOf: Raw | UnsetType = UNSET  # noqa: N815  JSON Schema's word
    oneOf: Raw | UnsetType = UNSET  # noqa: N815
    allOf: Raw | UnsetType = UNSET  # noqa: N815
    enum: Raw | UnsetType = UNSET
    not_: Raw | UnsetType = msgspec.field(name="not", default=UNSET)

    @property
    def is_plain(self) -> bool:
        limited = (self.anyOf, self.oneOf, self.allOf, self.enum, self.not_)
        return self.type == "object" and self.properties is not UNSET and all(part is UNSET for part in limited)


_tools = msgspec.json.Decoder(list[ClientTool] | None)
_root = msgspec.json.Decoder(_Root)


def functions_of(request: MessagesRequest, turns: list[Turn], quirks: Quirks) -> list[dict[str, Any]]:
    """The client's own tools as functions."""
    unique = {wire_name(tool.name): tool for tool in client_tools(request, turns)}
    return [_function(name, tool, quirks) for name, tool in unique.items()]


def client_tools(request: MessagesRequest, turns: list[Turn]) -> list[ClientTool]:
    """The client's own tools; the server's (web search and the like) and the client's placeholder
    are left out.

    Tools that were loaded on demand come last, in the order of their loading: the list of one
    turn is then the beginning of the next turn's, as prompt caches need it."""
    at_once: list[ClientTool] = []
    loaded: dict[str, ClientTool] = {}
    for tool in decoded_tools(request):
        if not tool.name or tool.name == PLACEHOLDER or not _is_clients(tool):
            continue
        if tool.defer_loading:
            loaded[tool.name] = tool
        else:
            at_once.append(tool)
    return [*at_once, *(loaded.pop(name) for name in _loading_order(turns) if name in loaded), *loaded.values()]


def decoded_tools(request: MessagesRequest) -> list[ClientTool]:
    raw = request.fields.get("tools")
    if raw is None:
        return []
    try:
        return _tools.decode(raw) or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"tools: {error}.") from None


def _is_clients(tool: ClientTool) -> bool:
    """Whether the client runs the tool, and says what its input is."""
    return tool.type in {None, "custom"}


def _loading_order(turns: list[Turn]) -> Iterator[str]:
    for turn in turns:
        for block in turn.blocks:
            if block.type == "tool_result" and b'"tool_reference"' in bytes(block.content):
                yield from (inner.tool_name for inner in content_of(block) if inner.type == "tool_reference")


def _function(name: str, tool: ClientTool, quirks: Quirks) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = _parameters(tool.input_schema, quirks)
    if tool.strict and quirks.strict and is_strict(msgspec.json.decode(tool.input_schema)):
        function["strict"] = True
    return {"type": "function", "function": function}


def _parameters(schema: Raw, quirks: Quirks) -> Any:
    """The schema as the client wrote it, wherever the provider takes it so."""
    if bytes(schema) in (b"", b"null"):
        return EMPTY_SCHEMA
    try:
        root = _root.decode(schema)
    except msgspec.ValidationError:
        return EMPTY_SCHEMA
    if root.is_plain and not quirks.schema_without:
        return schema
    whole = msgspec.json.decode(schema)
    kept = {key: value for key, value in whole.items() if key not in COMBINATORS}
    return _without({**kept, "type": "object", "properties": kept.get("properties") or {}}, quirks.schema_without)


def _without(schema: Any, keywords: frozenset[str]) -> Any:
    """`schema` without `keywords`; a property may well be called like a keyword."""
    if isinstance(schema, list):
        return [_without(part, keywords) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in keywords:
            continue
        if key in SCHEMA_MAPS and isinstance(value, dict):
            kept[key] = {name: _without(part, keywords) for name, part in value.items()}
        else:
            kept[key] = value if key in SCHEMA_DATA else _without(value, keywords)
    return kept


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes `schema`: objects closed, every property required."""
    if isinstance(schema, list):
        return all(is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        names = set(properties or {})
        if schema.get("additionalProperties") is not False or set(schema.get("required") or []) != names:
            return False
    parts: Iterable[Any] = [
        part
        for key, value in schema.items()
        if key not in SCHEMA_DATA
        for part in (value.values() if key in SCHEMA_MAPS and isinstance(value, dict) else [value])
    ]
    return all(is_strict(part) for part in parts)


def choice_of(request: MessagesRequest, names: set[str], quirks: Quirks) -> dict[str, Any]:
    """`tool_choice` and `parallel_tool_calls`, for a request that has functions called `names`."""
    choice = request.value("tool_choice")
    if not isinstance(choice, dict):
        return {}
    fields: dict[str, Any] = {}
    name = wire_name(str(choice.get("name") or ""))
    match choice.get("type"):
        case "none":
            fields["tool_choice"] = "none"
        case "tool" if name in names and quirks.named_choice:
            fields["tool_choice"] = {"type": "function", "function": {"name": name}}
        case "any" | "tool":
            fields["tool_choice"] = quirks.required_choice
    if choice.get("disable_parallel_tool_use") is True:
        fields["parallel_tool_calls"] = False
    return fields


def wire_name(name: str) -> str:
    """The function's name for a tool's `name`: 64 letters, digits, `_` and `-` at most."""
    if NAME.fullmatch(name):
        return name
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:55] + "_" + hashlib.sha256(name.encode()).hexdigest()[:8]


def original_names(request: MessagesRequest) -> dict[str, str]:
    """The tools' own names by those we had to give them."""
    return {wire_name(tool.name): tool.name for tool in request.tools if not NAME.fullmatch(tool.name)}


class ToolIds:
    """The provider's ids for the calls of one conversation, in its order: same conversation,
    same ids."""

    def __init__(self, quirks: Quirks) -> None:
        self._style = quirks.tool_ids
        self._count = 0

    def of(self, call: Block) -> str:
        if self._style == "counted":
            self._count += 1
            return f"functions.{wire_name(call.name)}:{self._count - 1}"
        if (NINE if self._style == "nine" else PLAIN_ID).fullmatch(call.id):
            return call.id
        digest = hashlib.sha256(call.id.encode()).digest()
        if self._style == "nine":
            return "".join(ALPHABET[byte % 36] for byte in digest[:9])
        return "call_" + digest.hex()[:32]
