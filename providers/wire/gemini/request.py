"""A MessagesRequest as a generateContent request.

Only fields named here are sent: whatever else the client says (its permission rules and local paths in
`safeguards`, betas, cache marks: Gemini caches by itself) never reaches Google.
"""

import hashlib
from typing import Any
from urllib.parse import quote

import msgspec

from providers.errors import InvalidRequest
from providers.families import Family, family_of, output_cap
from providers.types import Model, Target
from providers.wire import refusals
from providers.wire.gemini.contents import ContentWriter
from providers.wire.gemini.schema import accepted
from providers.wire.gemini.search import WebSearch, web_search_of
from providers.wire.gemini.thinking import thinking_config
from providers.wire.gemini.tools import NO_FUNCTIONS, Functions, functions_of, tool_config
from providers.wire.openai_chat.history import PARAGRAPH, Turn, system_text, turns_of
from providers.wire.remembered import encoded
from providers.wire.request import MessagesRequest

MAX_STOPS = 5
VERTEX = "vertex"
_PUBLISHED = ("publishers/", "models/", "tunedModels/", "endpoints/", "projects/")


def body_of(request: MessagesRequest, *, target: Target, model: Model, max_tokens: int) -> bytes:
    """The request's body, what changes least first. Raises InvalidRequest."""
    refusals.check(request, model)
    family = family_of(target.actual_model)
    turns = turns_of(request)
    functions = functions_of(request, turns) if model.tools else NO_FUNCTIONS
    search = web_search_of(request)
    if functions and search and not _can_combine(target, family):
        raise InvalidRequest(
            "tools: this model cannot search the web and call tools in one request. Send web_search alone, "
            "or use another model."
        )
    form, instruction = _answer_format(request, family, has_tools=bool(functions or search))
    limit = output_cap(target.actual_model, max_tokens, model.max_output)
    generation = {"maxOutputTokens": limit, **_stops(request), **_sampling(request, family), **form}
    thinking = thinking_config(request, model=model, family=family, limit=limit)
    if thinking:
        generation["thinkingConfig"] = thinking
    body = _prompt(
        request, turns, target=target, model=model, functions=functions, search=search, instruction=instruction
    )
    body["generationConfig"] = generation
    if target.kind == VERTEX and request.user_id:
        body["labels"] = {"user": hashlib.sha256(request.user_id.encode()).hexdigest()[:63]}
    return msgspec.json.encode(body)


def counting_body(request: MessagesRequest, *, target: Target, model: Model) -> bytes:
    """The body for countTokens. Raises InvalidRequest."""
    turns = turns_of(request)
    functions = functions_of(request, turns) if model.tools else NO_FUNCTIONS
    prompt = _prompt(request, turns, target=target, model=model, functions=functions, search=None, instruction="")
    if target.kind == VERTEX:
        return msgspec.json.encode({name: prompt[name] for name in prompt if name != "toolConfig"})
    named = target.actual_model if "/" in target.actual_model else f"models/{target.actual_model}"
    return msgspec.json.encode({"generateContentRequest": {"model": named, **prompt}})


def url_of(target: Target, method: str) -> str:
    """The address of a model's `method`. Vertex AI's base names the project and the location."""
    base = target.base_url.rstrip("/")
    if target.kind == VERTEX:
        default = "publishers/google/models/"
    else:
        # The kind's base was that of Google's OpenAI endpoint once.
        base, default = base.removesuffix("/openai"), "models/"
    name = target.actual_model
    path = name if name.startswith(_PUBLISHED) else default + name.removeprefix("google/")
    return f"{base}/{quote(path, safe='/@._-~')}:{method}"


def searches(request: MessagesRequest, *, target: Target, model: Model) -> bool:
    """Whether Google searches for `request`: not beside functions, where the model cannot do both."""
    functions = functions_of(request, turns_of(request)) if model.tools else NO_FUNCTIONS
    return not functions or _can_combine(target, family_of(target.actual_model))


def _can_combine(target: Target, family: Family) -> bool:
    return family.search_with_tools and target.kind != VERTEX


def _prompt(
    request: MessagesRequest,
    turns: list[Turn],
    *,
    target: Target,
    model: Model,
    functions: Functions,
    search: WebSearch | None,
    instruction: str,
) -> dict[str, Any]:
    """What the model reads."""
    texts = (system_text(request), instruction, search.instruction if search else "")
    system = PARAGRAPH.join(text for text in texts if text)
    prompt: dict[str, Any] = {"systemInstruction": {"parts": [{"text": system}]}} if system else {}
    tools: list[dict[str, Any]] = [{"functionDeclarations": encoded(functions.declarations)}] if functions else []
    if search:
        tools.append(search.declaration(excludes=target.kind == VERTEX))
    if tools:
        prompt["tools"] = tools
    config = tool_config(request, functions)
    if functions and search:
        config["includeServerSideToolInvocations"] = True
    if config:
        prompt["toolConfig"] = config
    prompt["contents"] = ContentWriter(target=target, model=model, family=family_of(target.actual_model)).write(turns)
    return prompt


def _stops(request: MessagesRequest) -> dict[str, Any]:
    told = request.value("stop_sequences")
    stops = [stop for stop in told if isinstance(stop, str) and stop] if isinstance(told, list) else []
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(f"stop_sequences: this model takes {MAX_STOPS} at most.")
    return {"stopSequences": stops} if stops else {}


def _sampling(request: MessagesRequest, family: Family) -> dict[str, Any]:
    names = {"temperature": "temperature", "top_p": "topP", "top_k": "topK"}
    if family.fixed_temperature:
        del names["temperature"]
    values = {sent: request.value(name) for name, sent in names.items()}
    return {name: value for name, value in values.items() if value is not None}


def _answer_format(request: MessagesRequest, family: Family, *, has_tools: bool) -> tuple[dict[str, Any], str]:
    """The fields for an answer in a JSON Schema; or, where the model cannot have both that and tools,
    what to tell it instead."""
    form = request.output_config.format
    wanted = msgspec.json.decode(form) if isinstance(form, msgspec.Raw) else None
    schema = wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None
    if not isinstance(schema, dict):
        return {}, ""
    if has_tools and not family.schema_with_tools:
        text = msgspec.json.encode(schema).decode()
        return {}, f"Answer with nothing but JSON that conforms to this JSON Schema:\n{text}"
    return {"responseMimeType": "application/json", "responseJsonSchema": accepted(schema)}, ""
