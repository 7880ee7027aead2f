"""A MessagesRequest as the body of Converse and ConverseStream.

Only fields named here are sent. Fields that cannot matter to the answer are left out (`metadata`,
`service_tier`); what a model cannot be told by a field it is told in words, or the request is refused.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.families import LOW_TO_HIGH, OFF, nearest_effort, output_cap
from providers.types import Model, Target
from providers.wire import refusals
from providers.wire.bedrock.claude import BETAS
from providers.wire.bedrock.converse_messages import ConverseWriter, cache_points, text_item
from providers.wire.bedrock.families import Family, family_of
from providers.wire.openai_chat.history import BILLING_HEADER, PARAGRAPH, Turn, turns_of
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.openai_chat.reasoning import wanted_effort
from providers.wire.openai_chat.request import schema_instruction, wanted_schema
from providers.wire.openai_chat.tools import CALL_ANY, CALL_NONE, CALL_ONE, functions_of, wire_name
from providers.wire.remembered import encoded
from providers.wire.request import MessagesRequest

LEAST_BUDGET = 1024
STOP_PATHS = ["/stop_sequence", "/delta/stop_sequence"]
"""Where Claude tells, in a whole answer and in a streamed one, at which sequence it stopped."""


class _Marked(msgspec.Struct):
    cache_control: Any = None


_marked = msgspec.json.Decoder(list[_Marked])


def body_of(request: MessagesRequest, *, target: Target, model: Model, max_tokens: int, betas: str = "") -> bytes:
    """The request's body. Raises InvalidRequest. What changes least comes first."""
    refusals.check(request, model)
    family = family_of(target.actual_model)
    turns = turns_of(request)
    limit = output_cap(target.actual_model, max_tokens, model.max_output)
    instructions: list[str] = []
    tools, choice = _tools(request, turns, family, instructions) if model.tools else ([], None)
    output = _output_config(request, family, instructions)
    system = _system(request, family) + [text_item(text) for text in instructions]
    writer = ConverseWriter(model=model, family=family)
    if family.system:
        messages = writer.write(turns)
    else:
        messages = writer.write(turns, PARAGRAPH.join(item["text"] for item in system if "text" in item))
    tools = tools or [_declared(name) for name in writer.used_tools]
    body: dict[str, Any] = {}
    if tools:
        # It must also be there when the conversation only remembers calls.
        body["toolConfig"] = {"tools": tools, **({"toolChoice": choice} if choice else {})}
    if system and family.system:
        body["system"] = system
    body["messages"] = messages
    fields = _model_fields(request, model, family, limit, betas)
    body["inferenceConfig"] = _inference(request, family, limit, thinks="thinking" in fields)
    if fields:
        body["additionalModelRequestFields"] = fields
    if family.native:
        body["additionalModelResponseFieldPaths"] = STOP_PATHS
    if output:
        body["outputConfig"] = output
    return msgspec.json.encode(body)


def streams(request: MessagesRequest, target: Target, model: Model) -> bool:
    """Whether the answer can be streamed: some models cannot while they have tools, and are asked for a
    whole answer, which the decoder then turns into events."""
    if not request.stream or family_of(target.actual_model).streams_tools:
        return request.stream
    has_calls = any(turn.calls for turn in turns_of(request))
    return not (has_calls or (model.tools and request.tools))


def _system(request: MessagesRequest, family: Family) -> list[dict[str, Any]]:
    system = request.value("system")
    blocks = [{"text": system}] if isinstance(system, str) else system or []
    items: list[dict[str, Any]] = []
    for block in blocks:
        text = str(block.get("text") or "")
        if text.lstrip().startswith(BILLING_HEADER):
            # It differs from request to request, and so would defeat the prompt cache.
            text = text.lstrip().partition("\n")[2]
        if text.strip():
            items += [text_item(text), *cache_points(block.get("cache_control"), family, "system")]
    return items


def _tools(
    request: MessagesRequest, turns: list[Turn], family: Family, instructions: list[str]
) -> tuple[list[dict[str, Any]] | Raw, dict[str, Any] | None]:
    """`tools` and `toolChoice`. What the choice cannot say is added to `instructions`."""
    functions = functions_of(request, turns, Quirks(strict=family.schema))
    if not functions:
        return [], None
    tools: list[dict[str, Any]] | Raw = encoded(functions, _specs)
    if request.mentions(b'"cache_control"', "tools"):
        marks = [tool.cache_control for tool in _marked.decode(request.raw("tools")) if tool.cache_control]
        tools = [*_specs(functions), *cache_points(marks[-1] if marks else None, family, "tools")]
    choice = request.value("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else None
    name = wire_name(str(choice.get("name") or "")) if isinstance(choice, dict) else ""
    if kind == "none":
        instructions.append(CALL_NONE)
    elif kind in {"any", "tool"} and not family.forced_choice:
        instructions.append(CALL_ANY if kind == "any" else CALL_ONE.format(name=name))
    elif kind == "any":
        return tools, {"any": {}}
    elif kind == "tool":
        return tools, {"tool": {"name": name}}
    elif kind == "auto":
        return tools, {"auto": {}}
    return tools, None


def _specs(functions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_spec(function["function"]) for function in functions]


def _spec(function: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": function["name"]}
    if str(function.get("description") or "").strip():
        spec["description"] = function["description"]
    spec["inputSchema"] = {"json": function["parameters"]}
    if function.get("strict"):
        spec["strict"] = True
    return {"toolSpec": spec}


def _declared(name: str) -> dict[str, Any]:
    """A tool that only the history knows."""
    return {"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object", "properties": {}}}}}


def _inference(request: MessagesRequest, family: Family, limit: int, *, thinks: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"maxTokens": limit}
    if not thinks:
        for name, told in (("temperature", "temperature"), ("topP", "top_p")):
            if isinstance(value := request.value(told), int | float):
                fields[name] = value
    stops = [stop for stop in request.value("stop_sequences") or () if isinstance(stop, str) and stop.strip()]
    if stops and not family.stops:
        raise InvalidRequest("stop_sequences: this model takes none.")
    if stops:
        fields["stopSequences"] = stops
    return fields


def _model_fields(request: MessagesRequest, model: Model, family: Family, limit: int, betas: str) -> dict[str, Any]:
    """`additionalModelRequestFields`: what only this family of models has."""
    fields: dict[str, Any] = {}
    top_k = request.value("top_k")
    if isinstance(top_k, int) and family.top_k:
        outer, _, inner = family.top_k.partition(".")
        fields[outer] = {inner: top_k} if inner else top_k
    wanted = wanted_effort(request) if model.thinking else None
    if family.reasoning == "claude":
        taken = [beta for beta in (part.strip() for part in betas.split(",")) if beta in BETAS]
        fields |= {"anthropic_beta": taken} if taken else {}
        fields |= _claude_thinking(request, limit) if model.thinking else {}
    elif wanted is not None and family.reasoning == "effort":
        fields["reasoning_effort"] = _level(wanted, LOW_TO_HIGH)
    elif wanted is not None and family.reasoning == "nova":
        fields["reasoningConfig"] = _nova_reasoning(wanted)
    if "thinking" in fields:
        fields.pop("top_k", None)
    return fields


def _claude_thinking(request: MessagesRequest, limit: int) -> dict[str, Any]:
    thinking = request.thinking
    fields: dict[str, Any] = {}
    if effort := request.output_config.effort:
        fields["output_config"] = {"effort": effort}
    if thinking is None or thinking.type == "disabled":
        return fields
    if thinking.type == "enabled" and thinking.budget_tokens is not None:
        budget = min(thinking.budget_tokens, limit - 1)
        return fields | ({"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= LEAST_BUDGET else {})
    return fields | {"thinking": request.fields["thinking"]}


def _nova_reasoning(wanted: str) -> dict[str, Any]:
    """At the level high Nova refuses a limit of tokens, without which no request may go out."""
    if wanted == OFF:
        return {"type": "disabled"}
    return {"type": "enabled", "maxReasoningEffort": _level(wanted, ("low", "medium"))}


def _level(wanted: str, levels: tuple[str, ...]) -> str:
    return levels[0] if wanted == OFF else nearest_effort(wanted, levels) or levels[0]


def _output_config(request: MessagesRequest, family: Family, instructions: list[str]) -> dict[str, Any]:
    schema = wanted_schema(request)
    if schema is None:
        return {}
    if not family.schema:
        instructions.append(schema_instruction(schema))
        return {}
    described = {"schema": msgspec.json.encode(schema).decode(), "name": "structured_output"}
    return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": described}}}
