"""A MessagesRequest as a Chat Completions request.

Only fields named here are sent: whatever else the client says (its permission rules and
local paths in `safeguards`, betas, cache marks) never reaches the provider.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from providers.families import OFF, output_cap
from providers.types import Model, Target
from providers.wire import refusals
from providers.wire.enforced import stops_of as told_stops
from providers.wire.openai_chat.cache import CacheMarks
from providers.wire.openai_chat.history import PARAGRAPH, system_text, turns_of
from providers.wire.openai_chat.messages import MessageWriter
from providers.wire.openai_chat.quirks import Quirks, is_openai_reasoning, quirks_of
from providers.wire.openai_chat.reasoning import reasoning_fields, takes_sampling, wanted_effort
from providers.wire.openai_chat.tools import choice_of, functions_of, is_strict, narrowed
from providers.wire.remembered import encoded
from providers.wire.request import MessagesRequest

MAX_STOPS = 4
PATH = "/chat/completions"
CACHE_KEY = "prompt_cache_key"
SESSION = "_session_"


def body_of(request: MessagesRequest, *, target: Target, model: Model, max_tokens: int) -> bytes:
    """The request's body. Raises InvalidRequest.

    The fields' order is fixed, with `messages` last but for the stream's: what changes least
    comes first."""
    refusals.check(request, model)
    quirks = quirks_of(target.kind)
    turns = turns_of(request)
    functions, choice = narrowed(functions_of(request, turns, quirks) if model.tools else [], request, quirks)
    structured, instruction = response_format(request, quirks, beside_tools=bool(functions))
    thinking = model.thinking and wanted_effort(request) != OFF
    marks = CacheMarks(target, quirks)
    writer = MessageWriter(target=target, model=model, quirks=quirks, thinking=thinking, marks=marks)
    system = PARAGRAPH.join(text for text in (system_text(request), instruction, choice) if text)
    body: dict[str, Any] = {"model": target.actual_model}
    if functions:
        marked = marks.functions(request, functions)
        body["tools"] = encoded(functions) if marked is functions else marked
        if quirks.tool_choice:
            body |= choice_of(request, {function["function"]["name"] for function in functions}, quirks)
        if quirks.streams_calls and request.stream:
            body["tool_stream"] = True
    body["messages"] = writer.write(marks.system(request, system), turns)
    body |= _limits(request, target, model, quirks, max_tokens)
    body |= _sampling(request, target, model, quirks)
    body |= reasoning_fields(request, target=target, model=model, quirks=quirks, has_tools=bool(functions))
    body |= structured
    identity = user_fields(request) if quirks.user or quirks.cache_key else {}
    body |= {name: value for name, value in identity.items() if quirks.user or name == CACHE_KEY}
    if quirks.service_tier and request.value("service_tier") == "standard_only":
        body["service_tier"] = "default"
    if thinking:
        for pattern, fields in quirks.extra:
            body |= fields if re.search(pattern, target.actual_model) else {}
    if request.stream:
        body["stream"] = True
        if quirks.usage_option:
            body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(_with_extra(body, target.extra_body))


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`body` with the fields of `extra` that it does not have itself, inner objects likewise."""
    for name, value in extra.items():
        present = body.get(name)
        if isinstance(present, dict) and isinstance(value, dict):
            body[name] = _with_extra(dict(present), value)
        elif name not in body:
            body[name] = value
    return body


def url_of(target: Target) -> str:
    base = target.base_url.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


def _limits(request: MessagesRequest, target: Target, model: Model, quirks: Quirks, max_tokens: int) -> dict[str, Any]:
    reasoning = is_openai_reasoning(target.kind, target.actual_model)
    name = "max_completion_tokens" if reasoning else quirks.max_tokens
    limit = output_cap(target.actual_model, max_tokens, model.max_output)
    if quirks.most_unstreamed is not None and not request.stream:
        limit = min(limit, quirks.most_unstreamed)
    sent, _ = stops_of(request, target)
    return {name: limit, "stop": sent} if sent else {name: limit}


def stops_of(request: MessagesRequest, target: Target) -> tuple[list[str], list[str]]:
    """The stop sequences that the provider looks for, and those that the decoder has to look for: some
    models refuse them, and nobody takes more than a few (see `providers.wire.enforced`)."""
    stops = told_stops(request)
    if not stops:
        return [], []
    quirks, name = quirks_of(target.kind), target.actual_model
    if is_openai_reasoning(target.kind, name) or (quirks.no_stops and re.search(quirks.no_stops, name)):
        return [], stops
    return stops[:MAX_STOPS], stops[MAX_STOPS:]


def _sampling(request: MessagesRequest, target: Target, model: Model, quirks: Quirks) -> dict[str, Any]:
    if not takes_sampling(target, model, quirks):
        return {}
    names = ("temperature", "top_p", "top_k") if quirks.top_k else ("temperature", "top_p")
    values = {name: request.value(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def response_format(
    request: MessagesRequest, quirks: Quirks, *, beside_tools: bool = False
) -> tuple[dict[str, Any], str]:
    """The fields for an answer in a JSON Schema; or, for a provider without them, what to tell
    the model instead."""
    schema = wanted_schema(request)
    if schema is None:
        return {}, ""
    if not quirks.json_schema or (beside_tools and not quirks.schema_beside_tools):
        return {}, schema_instruction(schema)
    described: dict[str, Any] = {"name": "structured_output", "schema": schema}
    if quirks.strict and is_strict(schema):
        described["strict"] = True
    return {"response_format": {"type": "json_schema", "json_schema": described}}, ""


def wanted_schema(request: MessagesRequest) -> dict[str, Any] | None:
    """The JSON Schema that the answer shall conform to."""
    form = request.output_config.format
    wanted = msgspec.json.decode(form) if isinstance(form, msgspec.Raw) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else None


def schema_instruction(schema: dict[str, Any]) -> str:
    """What to tell a model whose provider takes no schemas."""
    text = msgspec.json.encode(schema).decode()
    return f"Answer with nothing but JSON that conforms to this JSON Schema:\n{text}"


def user_fields(request: MessagesRequest) -> dict[str, Any]:
    """Who asks, unrecognisable; and the session, whose requests share a prompt cache."""
    user_id = request.user_id
    if not user_id:
        return {}
    fields = {"user": hashlib.sha256(user_id.encode()).hexdigest()}
    session = _session(user_id)
    if session:
        fields[CACHE_KEY] = session if len(session) <= 64 else hashlib.sha256(session.encode()).hexdigest()
    return fields


def _session(user_id: str) -> str:
    """The client's session id in its `user_id`: JSON, or `user_…_session_<id>` of older clients."""
    try:
        told = msgspec.json.decode(user_id)
    except (msgspec.DecodeError, RecursionError):
        return user_id.rpartition(SESSION)[2] if SESSION in user_id else ""
    session = told.get("session_id") if isinstance(told, dict) else None
    return session if isinstance(session, str) else ""
