"""GET /api/v1/models: what can be asked for, with prices and abilities, in OpenRouter's shapes; and how it is doing."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Query, Router, Schema

from adminui.api.auth import principal_of
from adminui.api.errors import ErrorOut, answers
from adminui.api.render import answer
from adminui.catalogue import Offer, current_catalogue, offers, uptimes
from credits.usage.target_status import Answering, Window
from gateway.status import PlatformStatus, platform_status
from providers.types import Price, Tier

router = Router(tags=["Models"])

MOST = 1000
USUAL = 500
PARAMETERS = ("max_tokens", "temperature", "top_p", "top_k", "stop")


class ModelOut(Schema, extra="allow"):
    id: str
    canonical_slug: str
    name: str
    created: int
    context_length: int | None
    pricing: dict[str, Any]
    """US dollars per token (`web_search`: per search), as text. `overrides` hold above a number of input tokens."""
    uptime_last_1d: float | None
    """Percent; null when nobody asked for it."""


class LinksOut(Schema):
    next: str | None


class ModelsOut(Schema):
    data: list[ModelOut]
    total_count: int
    links: LinksOut


class OneModelOut(Schema):
    data: ModelOut


class CountOut(Schema):
    class Count(Schema):
        count: int

    data: Count


class StatusOut(Schema):
    data: dict[str, Any]


PUBLIC = {400: ErrorOut, 503: ErrorOut}


@router.get("/models", auth=None, summary="All models", response={200: ModelsOut, **PUBLIC})
async def listed(
    request: HttpRequest,  # noqa: ARG001 - ninja's
    q: Annotated[str, Query(max_length=100, description="Part of a name")] = "",
    offset: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = USUAL,
) -> HttpResponse:
    """Needs no key. By name."""
    return answer(await sync_to_async(lambda: _page(_named(q), q, offset or 0, limit))())


@router.get("/models/count", auth=None, summary="How many models there are", response={200: CountOut, **PUBLIC})
async def count(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - ninja's
    number = await sync_to_async(lambda: len(offers(current_catalogue())))()
    return answer({"data": {"count": number}})


@router.get("/models/user", summary="The models that this key may use", response=answers(ModelsOut))
async def usable(
    request: HttpRequest,
    offset: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = USUAL,
) -> HttpResponse:
    principal = principal_of(request)

    def read() -> dict[str, Any]:
        found = offers(current_catalogue(), principal.organization_id)
        allowed = [each for each in found if not principal.allowed_models or each.name in principal.allowed_models]
        return _page(allowed, "", offset or 0, limit)

    return answer(await sync_to_async(read)())


@router.get("/models/{path:name}", auth=None, summary="One model", response={200: OneModelOut, 404: ErrorOut, **PUBLIC})
async def one(request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001 - ninja's
    def read() -> dict[str, Any]:
        found = {offer.name: offer for offer in offers(current_catalogue())}.get(name)
        if found is None:
            raise Http404("There is no such model; GET /api/v1/models lists them.")
        return model_of(found, uptimes())

    return answer({"data": await sync_to_async(read)()})


@router.get("/status", summary="How providers and models are doing", response=answers(StatusOut))
async def status(request: HttpRequest, window: Window = Window.DAY) -> HttpResponse:
    """What became of all requests' attempts in the window. Uptime is percent, times are milliseconds."""
    principal_of(request)
    return answer({"data": status_of(await sync_to_async(platform_status)(window))})


def _named(words: str) -> list[Offer]:
    wanted = words.strip().lower()
    return [each for each in offers(current_catalogue()) if wanted in f"{each.name} {each.display_name}".lower()]


def _page(found: list[Offer], q: str, offset: int, limit: int) -> dict[str, Any]:
    known = uptimes()
    end = offset + limit
    query = urlencode({**({"q": q} if q else {}), "offset": end, "limit": limit})
    return {
        "data": [model_of(offer, known) for offer in found[offset:end]],
        "total_count": len(found),
        "links": {"next": f"?{query}" if end < len(found) else None},
    }


def model_of(offer: Offer, known: dict[str, float]) -> dict[str, Any]:
    inputs = ["text", "image", "file"] if offer.vision else ["text"]
    uptime = known.get(offer.name)
    return {
        "id": offer.name,
        "canonical_slug": offer.name,
        "name": offer.display_name,
        "description": offer.description,
        "created": int(datetime.fromisoformat(offer.created_at).timestamp()),
        "context_length": offer.context_window,
        "architecture": {
            "modality": f"{'+'.join(inputs)}->text",
            "input_modalities": inputs,
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": _pricing(offer.price),
        "top_provider": {
            "context_length": offer.context_window,
            "max_completion_tokens": offer.max_output,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": [
            *PARAMETERS,
            *(("tools", "tool_choice") if offer.tools else ()),
            *(("reasoning", "include_reasoning") if offer.thinking else ()),
        ],
        "supported_voices": None,
        "default_parameters": None,
        "links": {"details": f"/api/v1/models/{quote(offer.name)}"},
        "providers": list(offer.providers),
        "uptime_last_1d": None if uptime is None else round(uptime * 100, 3),
    }


def _pricing(price: Price) -> dict[str, Any]:
    overrides = [{"min_prompt_tokens": tier.above, **_rates(tier)} for tier in price.tiers]
    web_search = format(Decimal(price.web_search).scaleb(-9).normalize(), "f")
    return {**_rates(price), "web_search": web_search, **({"overrides": overrides} if overrides else {})}


def _rates(price: Price | Tier) -> dict[str, str]:
    names = {
        "prompt": price.input,
        "completion": price.output,
        "input_cache_read": price.cache_read,
        "input_cache_write": price.cache_write,
        "input_cache_write_1h": price.cache_write_1h,
    }
    return {name: _per_token(nanos) for name, nanos in names.items()}


def _per_token(nanos: int) -> str:
    """US dollars a token, of nanos a million tokens: exact, and never in the scientific notation."""
    return format(Decimal(nanos).scaleb(-15).normalize(), "f")


def status_of(found: PlatformStatus) -> dict[str, Any]:
    return {
        "window": found.window,
        "since": found.since,
        "until": found.until,
        "providers": [
            {
                "name": provider.name,
                **_answering(provider.answering),
                "targets": [
                    {"models": list(target.models), **_answering(target.answering)}
                    for target in provider.targets
                    if target.models
                ],
            }
            for provider in found.providers
            if provider.enabled
        ],
    }


def _answering(answering: Answering) -> dict[str, Any]:
    uptime, speed = answering.uptime, answering.tokens_per_second
    return {
        "uptime": None if uptime is None else round(uptime * 100, 3),
        "attempts": answering.attempts,
        "failed": answering.failed,
        "first_token_ms": answering.first_token.p50 if answering.first_token else None,
        "tokens_per_second": None if speed is None else round(speed, 1),
    }
