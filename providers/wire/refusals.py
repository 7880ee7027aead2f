"""What a request asks for and no target but Anthropic's own can give: refused in words, never left out in
silence. What only loses comfort (a mark for the cache, a tier of service) is listed in docs/providers.md.
"""

from providers.errors import InvalidRequest
from providers.types import Model
from providers.wire.request import MessagesRequest
from providers.wire.searches import is_web_search
from providers.wire.toolset import Tool, Toolset

ONLY_AT_ANTHROPIC = ("code_execution", "web_fetch", "mcp_toolset", "computer_", "browser_toolset")
"""Beginnings of the types of tools whose work, or whose meaning, only Anthropic's servers and models know."""
OTHER_MODELS = "GET /v1/models lists the models."


def check(request: MessagesRequest, model: Model) -> None:
    """Raises InvalidRequest, which names the field, the model and the remedy."""
    if request.has("mcp_servers") and request.value("mcp_servers"):
        raise InvalidRequest(
            f"mcp_servers: the model {model.name!r} is not served by Anthropic, and nobody else calls MCP servers. "
            f"Connect them to your client, or choose a Claude model; {OTHER_MODELS}"
        )
    clients, elsewhere = request.toolset.once(_of_the_client)
    if elsewhere:
        raise InvalidRequest(
            f"tools: {elsewhere} is not available with the model {model.name!r}. Leave it out, or choose a Claude "
            f"model; {OTHER_MODELS}"
        )
    choice = request.value("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    if clients and not model.tools and kind != "none":
        raise InvalidRequest(
            f"tools: the model {model.name!r} cannot call tools. Leave them out, or choose another model; "
            f"{OTHER_MODELS}"
        )
    if kind == "tool" and clients and isinstance(choice, dict) and _names_none(request, str(choice.get("name"))):
        raise InvalidRequest(f"tool_choice: there is no tool named {choice.get('name')!r} in tools.")


def _of_the_client(toolset: Toolset) -> tuple[list[Tool], str]:
    """The tools but for a web search, and the type of the first that only Anthropic knows, "" for none."""
    clients = [tool for tool in toolset.tools if not is_web_search(tool.type)]
    types = [tool.type or "" for tool in clients]
    return clients, next((name for name in types if name.startswith(ONLY_AT_ANTHROPIC)), "")


def _names_none(request: MessagesRequest, name: str) -> bool:
    """Whether no tool has this name. A search may have been taken out by then."""
    return not is_web_search(name) and all(tool.name != name for tool in request.tools)
