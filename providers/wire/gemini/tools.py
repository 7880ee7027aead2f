"""Tools and what concerns them: function declarations, their names, and the choice among them."""

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from providers.wire.gemini.schema import function_parameters
from providers.wire.openai_chat.history import Turn
from providers.wire.openai_chat.tools import LARGEST_KNOWN, MADE_UP, ClientTool, client_tools, loading_order
from providers.wire.request import MessagesRequest
from providers.wire.toolset import Toolset

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
"""Google takes 128 characters today; some of its endpoints still take 64."""


@dataclass(frozen=True, slots=True)
class Functions:
    """The client's own tools as function declarations, which are not to be changed. `strict`: it wants calls that keep
    to a schema."""

    declarations: list[dict[str, Any]]
    strict: bool

    @property
    def names(self) -> set[str]:
        return {declared["name"] for declared in self.declarations}

    def __bool__(self) -> bool:
        return bool(self.declarations)


NO_FUNCTIONS = Functions([], strict=False)


def functions_of(request: MessagesRequest, turns: list[Turn]) -> Functions:
    """A client declares the same tools with every request of a conversation: they are remembered."""
    raw = request.raw("tools")
    functions = _known_functions if len(raw) <= LARGEST_KNOWN else _functions
    return functions(raw, loading_order(request, turns))


def _functions(raw: bytes, order: tuple[str, ...]) -> Functions:
    unique = {function_name(tool.name): tool for tool in client_tools(raw, order)}
    return Functions(
        [_declaration(name, tool) for name, tool in unique.items()],
        strict=any(tool.strict for tool in unique.values()),
    )


_known_functions = functools.lru_cache(maxsize=32)(_functions)


def _declaration(name: str, tool: ClientTool) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": name}
    description = _description(tool)
    if description:
        declared["description"] = description
    if parameters := _parameters(bytes(tool.input_schema)):
        declared["parametersJsonSchema"] = msgspec.Raw(parameters)
    return declared


def _parameters(schema: bytes) -> bytes:
    """The parameters as JSON; empty for a function without any."""
    parameters = function_parameters(msgspec.json.decode(schema)) if schema else None
    return msgspec.json.encode(parameters) if parameters is not None else b""


def _description(tool: ClientTool) -> str:
    """With the tool's examples, for which Google has no field."""
    lines = [tool.description or ""]
    if isinstance(tool.input_examples, list) and tool.input_examples:
        lines += ["Examples of its input:", *(msgspec.json.encode(each).decode() for each in tool.input_examples)]
    return "\n".join(line for line in lines if line)


def tool_config(request: MessagesRequest, functions: Functions) -> dict[str, Any]:
    """The field `functionCallingConfig`; {} for the model's own choice. Google refuses it in a request
    without functions."""
    if not functions:
        return {}
    choice = request.value("tool_choice")
    told = choice if isinstance(choice, dict) else {}
    name = function_name(str(told.get("name") or "")) if told else ""
    match told.get("type"):
        case "none":
            config: dict[str, Any] = {"mode": "NONE"}
        case "tool" if name in functions.names:
            config = {"mode": "ANY", "allowedFunctionNames": [name]}
        case "any":
            config = {"mode": "ANY"}
        case _ if functions.strict:
            config = {"mode": "VALIDATED"}
        case _:
            return {}
    return {"functionCallingConfig": config}


def function_name(name: str) -> str:
    """The function's name for a tool's `name`."""
    if _is_plain(name):
        return name
    plain = re.sub(r"[^a-zA-Z0-9_.:-]", "_", name)
    plain = plain if re.match(r"[a-zA-Z_]", plain) else f"_{plain}"
    return plain[:47] + "_" + hashlib.sha256(name.encode()).hexdigest()[:16]


def _is_plain(name: str) -> bool:
    return NAME.fullmatch(name) is not None and MADE_UP.search(name) is None


def original_names(request: MessagesRequest) -> dict[str, str]:
    """The tools' own names by those we had to give them."""
    return request.toolset.once(_original_names)


def _original_names(toolset: Toolset) -> dict[str, str]:
    return {function_name(tool.name): tool.name for tool in toolset.tools if not _is_plain(tool.name)}
