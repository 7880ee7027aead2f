"""GET /api/v1/credits and /api/v1/activity: what is left, and what was used, in OpenRouter's shapes."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router, Schema

from accounts.permissions import Permission
from accounts.types import Principal
from adminui.api.auth import require_management
from adminui.api.errors import answers
from adminui.api.render import answer, usd
from adminui.key_settings import FIRST
from credits.selectors import balance
from credits.usage.selectors import DayLine, usage_by_day_and_model, usage_total
from credits.usage.types import DAY, Filters, Span, day_of
from gateway.errors import invalid_request
from providers.profiles import key_of

router = Router(tags=["Usage"])

DAYS = 30


class CreditsOfOut(Schema):
    total_credits: float
    """USD that were ever there to spend: what was used and what is left."""
    total_usage: float
    available: float
    held: float
    """Reserved for requests that run."""
    debt: float


class CreditsOut(Schema):
    data: CreditsOfOut


class ActivityItemOut(Schema):
    date: date
    model: str
    model_permaslug: str
    endpoint_id: str
    provider_name: str
    usage: float
    byok_usage_inference: float
    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


class ActivityOut(Schema):
    data: list[ActivityItemOut]


@router.get("/credits", summary="What is left", response=answers(CreditsOut, 403))
async def balances(request: HttpRequest) -> HttpResponse:
    """With a management key. `total_credits - total_usage` is the balance, of which `held` is reserved."""
    principal = await require_management(request, Permission.VIEW_USAGE)

    def read() -> dict[str, Any]:
        have = balance(principal.organization_id)
        used = usage_total(principal.organization_id, Span(FIRST, timezone.now())).charge
        return {
            "total_credits": usd(used + have.posted - have.debt),
            "total_usage": usd(used),
            "available": usd(have.available),
            "held": usd(have.held),
            "debt": usd(have.debt),
        }

    return answer({"data": await sync_to_async(read)()})


@router.get("/activity", summary="Usage by day, model and provider", response=answers(ActivityOut, 403, 404))
async def activity(
    request: HttpRequest,
    date: Annotated[str | None, Query(description="One UTC day, YYYY-MM-DD: today or one of the 30 before")] = None,
    api_key_hash: Annotated[str | None, Query(description="Of this key alone")] = None,
) -> HttpResponse:
    """With a management key: the last 30 complete days (UTC), the newest first."""
    principal = await require_management(request, Permission.VIEW_USAGE)
    span = _span(date, timezone.now())

    def read() -> list[dict[str, Any]]:
        filters = Filters(api_key_id=_key(principal, api_key_hash)) if api_key_hash is not None else Filters()
        return [_item(line) for line in usage_by_day_and_model(principal.organization_id, span, filters)]

    return answer({"data": await sync_to_async(read)()})


def _span(text: str | None, now: datetime) -> Span:
    """Raises GatewayError (400)."""
    today = day_of(now)
    if text is None:
        return Span(today - DAYS * DAY, today)
    try:
        day = datetime.combine(date.fromisoformat(text[:40]), datetime.min.time(), UTC)
    except ValueError:
        raise invalid_request("date: write it as YYYY-MM-DD.") from None
    if not today - timedelta(days=DAYS) <= day <= today:
        raise invalid_request(f"date: must be today or one of the last {DAYS} days (UTC).")
    return Span(day, day + DAY)


def _key(principal: Principal, hash_: str) -> int:
    number = int(hash_) if hash_.isascii() and hash_.isdecimal() and len(hash_) < 19 else 0
    if key_of(principal.organization_id, number) is None:
        raise Http404("There is no such key.")
    return number


def _item(line: DayLine) -> dict[str, Any]:
    return {
        "date": line.day.date(),
        "model": line.model,
        "model_permaslug": line.model,
        "endpoint_id": f"{line.provider}/{line.model}",
        "provider_name": line.provider,
        "usage": usd(line.sums.charge),
        "byok_usage_inference": 0,
        "requests": line.sums.requests,
        "prompt_tokens": line.sums.input_tokens + line.sums.cached_tokens,
        "completion_tokens": line.sums.output_tokens,
        "reasoning_tokens": line.sums.reasoning_tokens,
        "cached_tokens": line.sums.cache_read_tokens,
    }
