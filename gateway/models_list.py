"""GET /v1/models and /v1/models/{id}, in Anthropic's shapes or OpenAI's, as the client's headers tell;
Claude Code's discovery reads the first."""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote

from gateway.errors import invalid_request, not_found
from gateway.exchange import Exchange
from gateway.openai.exchange import OpenAIExchange
from gateway.pipeline import authenticate
from gateway.routing import discovery_id, find_model
from gateway.runtime import Runtime
from providers.types import Model

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000


async def serve_models(exchange: Exchange, runtime: Runtime) -> None:
    principal = await authenticate(exchange, runtime)
    models = [m for m in runtime.catalogue.current.models.values() if m.discoverable and m.targets and m.price]
    if allowed := principal.allowed_models:
        models = [model for model in models if model.name in allowed]
    if isinstance(exchange, OpenAIExchange):
        # OpenAI's list has no pages.
        await exchange.answer_json({"object": "list", "data": [_openai_entry(model, model.name) for model in models]})
        return
    # Claude Code's picker keeps only ids that name Claude or Anthropic, so it gets such aliases.
    picker = exchange.headers.get("user-agent", "").startswith("claude-code/")
    entries = [_entry(model, discovery_id(model.name) if picker else model.name) for model in models]
    await exchange.answer_json(_page(entries, exchange.query))


async def serve_model(exchange: Exchange, runtime: Runtime, name: str) -> None:
    principal = await authenticate(exchange, runtime)
    name = unquote(name)
    found = find_model(runtime.catalogue.current, name)
    if found is not None and found.model.price is None:
        raise not_found(f"model: {name[:100]!r} has no price yet; GET /v1/models lists the models that can be used.")
    if found is None or (principal.allowed_models and found.model.name not in principal.allowed_models):
        raise not_found(f"model: {name[:100]!r} is not available here; GET /v1/models lists the models.")
    entry = _openai_entry if isinstance(exchange, OpenAIExchange) else _entry
    await exchange.answer_json(entry(found.model, name))


def _entry(model: Model, id_: str) -> dict[str, Any]:
    entry = {
        "type": "model",
        "id": id_,
        "display_name": model.display_name or model.name,
        "created_at": model.created_at,
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output,
    }
    if model.description:
        entry["description"] = model.description
    return entry


def _openai_entry(model: Model, id_: str) -> dict[str, Any]:
    created = datetime.fromisoformat(model.created_at)
    return {
        "id": id_,
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": "ccm",
        "name": model.display_name or model.name,
        "context_length": model.context_window,
        "max_output_tokens": model.max_output,
    }


def _page(entries: list[dict[str, Any]], query: bytes) -> dict[str, Any]:
    """One page by `limit`, `after_id` and `before_id`, as Anthropic's list answers."""
    parameters = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    limit_text = parameters.get("limit", str(DEFAULT_LIMIT))
    if not limit_text.isdecimal() or not 1 <= int(limit_text) <= MAX_LIMIT:
        raise invalid_request(f"limit: must be a number from 1 to {MAX_LIMIT}.")
    limit = int(limit_text)
    ids = [entry["id"] for entry in entries]
    if (after := parameters.get("after_id")) in ids:
        entries = entries[ids.index(after) + 1 :]
        page, more = entries[:limit], len(entries) > limit
    elif (before := parameters.get("before_id")) in ids:
        entries = entries[: ids.index(before)]
        page, more = entries[-limit:], len(entries) > limit
    else:
        page, more = entries[:limit], len(entries) > limit
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
