"""Tools and what concerns them: functions, names, ids, the choice, and schemas."""

import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from providers.errors import InvalidRequest
from providers.wire.openai_chat.history import Block, Turn, content_of
from providers.wire.openai_chat.known_tools import schema_of
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.request import MessagesRequest
from providers.wire.toolset import Toolset

CALL_NONE = "Answer without calling any tool."
CALL_ANY = "You must call one of the tools now."
CALL_ONE = "You must call the tool {name} now."
"""What models are told whose provider takes no `tool_choice`."""
PLACEHOLDER = "DeferredToolPlaceholder"
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MADE_UP = re.compile(r"_[0-9a-f]{16}$")
PLAIN_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
NINE = re.compile(r"[a-zA-Z0-9]{9}")
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
LARGEST_KNOWN = 128 * 1024
"""Bytes of tools that are remembered from request to request."""
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
    """The client's own tools as functions, which are not to be changed: a client sends the same tools with every
    request of a conversation, so they are remembered."""
    raw = request.raw("tools")
    functions = _known_functions if len(raw) <= LARGEST_KNOWN else _functions
    return list(functions(raw, loading_order(request, turns), quirks.strict, quirks.schema_without))


def _functions(raw: bytes, order: tuple[str, ...], strict: bool, without: frozenset[str]) -> tuple[dict[str, Any], ...]:
    unique = {wire_name(tool.name): tool for tool in client_tools(raw, order)}
    return tuple(_function(name, tool, strict=strict, without=without) for name, tool in unique.items())


_known_functions = functools.lru_cache(maxsize=32)(_functions)


def client_tools(raw: bytes, order: tuple[str, ...]) -> list[ClientTool]:
    """The client's own tools; the server's (web search and the like) and the client's placeholder
    are left out.

    Tools that were loaded on demand come last, in the `order` of their loading: the list of one
    turn is then the beginning of the next turn's, as prompt caches need it."""
    at_once: list[ClientTool] = []
    loaded: dict[str, ClientTool] = {}
    for declared in _declared(raw):
        tool = with_schema(declared)
        if not tool.name or tool.name == PLACEHOLDER or not _is_clients(tool):
            continue
        if tool.defer_loading:
            loaded[tool.name] = tool
        else:
            at_once.append(tool)
    return [*at_once, *(loaded.pop(name) for name in order if name in loaded), *loaded.values()]


def _declared(raw: bytes) -> list[ClientTool]:
    if not raw:
        return []
    try:
        return _tools.decode(raw) or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"tools: {error}.") from None


def with_schema(tool: ClientTool) -> ClientTool:
    """A tool that the client runs and Claude knows by its type alone (bash, the text editor, memory), as one
    that says what it takes; every other tool as it is."""
    known = schema_of(tool.type or "")
    if known is None:
        return tool
    description, schema = known
    return msgspec.structs.replace(
        tool, type=None, description=tool.description or description, input_schema=Raw(schema)
    )


def _is_clients(tool: ClientTool) -> bool:
    """Whether the client runs the tool, and says what its input is."""
    return tool.type in {None, "custom"}


def loading_order(request: MessagesRequest, turns: list[Turn]) -> tuple[str, ...]:
    """The names of the tools that were loaded on demand; where none is declared so, their order says nothing."""
    if not request.mentions(b'"defer_loading"', "tools"):
        return ()
    return tuple(
        inner.tool_name
        for turn in turns
        for block in turn.blocks
        if block.type == "tool_result" and b'"tool_reference"' in bytes(block.content)
        for inner in content_of(block)
        if inner.type == "tool_reference"
    )


def _function(name: str, tool: ClientTool, *, strict: bool, without: frozenset[str]) -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = _parameters(tool.input_schema, without)
    if tool.strict and strict and is_strict(msgspec.json.decode(tool.input_schema)):
        function["strict"] = True
    return {"type": "function", "function": function}


def _parameters(schema: Raw, without: frozenset[str]) -> Any:
    """The schema as the client wrote it, wherever the provider takes it so."""
    if bytes(schema) in (b"", b"null"):
        return EMPTY_SCHEMA
    try:
        root = _root.decode(schema)
    except msgspec.ValidationError:
        return EMPTY_SCHEMA
    if root.is_plain and not without:
        return schema
    whole = msgspec.json.decode(schema)
    kept = {key: value for key, value in whole.items() if key not in COMBINATORS}
    return _without({**kept, "type": "object", "properties": kept.get("properties") or {}}, without)


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


def narrowed(
    functions: list[dict[str, Any]], request: MessagesRequest, quirks: Quirks
) -> tuple[list[dict[str, Any]], str]:
    """The functions, and what to tell the model, where the provider cannot be told which of them to call: the
    one that must be called stands alone, and the choice is said in words."""
    choice = request.value("tool_choice") if "tool_choice" in request.fields else None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "tool" and not (quirks.tool_choice and quirks.named_choice):
        name = wire_name(str(choice.get("name") or ""))  # type: ignore[union-attr]
        named = [function for function in functions if function["function"]["name"] == name]
        return named or functions, "" if quirks.tool_choice else CALL_ONE.format(name=name)
    if quirks.tool_choice or not functions:
        return functions, ""
    return functions, {"none": CALL_NONE, "any": CALL_ANY}.get(str(kind), "")


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
    if is_plain_name(name):
        return name
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:47] + "_" + hashlib.sha256(name.encode()).hexdigest()[:16]


def is_plain_name(name: str) -> bool:
    """Whether a tool keeps its name. One that looks like a name of ours does not, so that no two tools
    ever get the same."""
    return NAME.fullmatch(name) is not None and MADE_UP.search(name) is None


def original_names(request: MessagesRequest) -> dict[str, str]:
    """The tools' own names by those we had to give them."""
    return request.toolset.once(_original_names)


def _original_names(toolset: Toolset) -> dict[str, str]:
    return {wire_name(tool.name): tool.name for tool in toolset.tools if not is_plain_name(tool.name)}


class ToolIds:
    """The provider's ids for the calls of one conversation, in its order: same conversation,
    same ids."""

    def __init__(self, quirks: Quirks) -> None:
        self._style = quirks.tool_ids
        self._count = 0
        self._taken: dict[str, str] = {}
        """The calls' own ids by those that they were given."""

    def of(self, call: Block) -> str:
        """No two calls of a conversation get one id."""
        told = given = self._given(call, call.id)
        salt = 0
        while self._taken.setdefault(given, call.id) != call.id:
            salt += 1
            given = self._given(call, f"{told} {salt}")
        return given

    def _given(self, call: Block, told: str) -> str:
        if self._style == "counted":
            self._count += 1
            return f"functions.{wire_name(call.name)}:{self._count - 1}"
        if (NINE if self._style == "nine" else PLAIN_ID).fullmatch(told):
            return told
        digest = hashlib.sha256(told.encode()).digest()
        if self._style == "nine":
            return "".join(ALPHABET[byte % 36] for byte in digest[:9])
        return "call_" + digest.hex()[:32]
