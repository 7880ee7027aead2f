"""/api/v1/key and /api/v1/keys: the key that asks, and with a management key all the others, in OpenRouter's shapes."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from accounts import services
from accounts.models import ApiKey, Organization
from accounts.permissions import Permission
from accounts.types import Principal
from adminui.api.auth import author_of, principal_of, require_management
from adminui.api.errors import answers
from adminui.api.render import answer, usd
from adminui.catalogue import current_catalogue, offers
from adminui.key_settings import KeyRow, change_key, key_rows, make_key
from credits.budgets import WINDOWS, resets_at
from credits.money import usd_to_nanos
from gateway.errors import invalid_request

router = Router(tags=["Keys"])

PAGE = 100
RESETS = {"total": None, "day": "daily", "week": "weekly", "month": "monthly"}
WINDOW_OF = {reset: window for window, reset in RESETS.items()}
NO_LIMIT = -1
"""How OpenRouter says it of a rate."""

Reset = Literal["daily", "weekly", "monthly"]
Name = Annotated[str, Field(min_length=1, max_length=80)]
Usd = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=9)]


class KeyOut(Schema):
    hash: str
    """The key's number, which stays the same when the key is rotated. `key_id` of the other resources."""
    name: str
    label: str
    disabled: bool
    limit: float | None
    """USD; the tightest one where there are several (`limits` has them all)."""
    limit_remaining: float | None
    limit_reset: Reset | None
    include_byok_in_limit: bool
    usage: float
    usage_daily: float
    usage_weekly: float
    usage_monthly: float
    byok_usage: float
    byok_usage_daily: float
    byok_usage_weekly: float
    byok_usage_monthly: float
    created_at: datetime
    updated_at: datetime | None
    last_used_at: datetime | None
    expires_at: datetime | None
    creator_user_id: str | None
    external_user: str | None
    workspace_id: str
    is_management_key: bool
    allowed_models: list[str]
    """Empty: all."""
    limits: dict[Literal["total", "day", "week", "month"], float | None]


class OneKeyOut(Schema):
    data: KeyOut


class KeysOut(Schema):
    data: list[KeyOut]


class NewKeyOut(Schema):
    data: KeyOut
    key: str
    """The secret, told this once."""


class DeletedOut(Schema):
    deleted: Literal[True]


class CurrentKeyOut(Schema):
    data: dict[str, Any]


class KeyIn(Schema, extra="forbid"):
    name: Name
    limit: Usd | None = None
    """USD that it may spend within `limit_reset`, or ever."""
    limit_reset: Reset | None = None
    expires_at: datetime | None = None
    include_byok_in_limit: Literal[False] = False
    """What you pay a provider yourself, for requests with your own provider keys, never counts here."""
    allowed_models: list[str] = Field([], max_length=200)
    """The only models that it may use; empty: all."""


class KeyChangeIn(Schema, extra="forbid"):
    """What is left out stays as it is. `limit` null lifts every limit."""

    name: Name | None = None
    disabled: bool | None = None
    limit: Usd | None = None
    limit_reset: Reset | None = None
    include_byok_in_limit: Literal[False] | None = None
    expires_at: datetime | None = None
    allowed_models: list[str] | None = Field(None, max_length=200)


@router.get("/key", summary="The key that asks", response=answers(CurrentKeyOut))
async def current(request: HttpRequest) -> HttpResponse:
    """What it may spend and has spent. Amounts are US dollars."""
    principal = principal_of(request)

    def read() -> dict[str, Any]:
        key = ApiKey.objects.get(pk=principal.api_key_id)
        (row,) = key_rows(principal.organization_id, [key])
        return current_key(row, principal)

    return answer({"data": await sync_to_async(read)()})


@router.get("/keys", summary="All keys", response=answers(KeysOut, 403))
async def listed(
    request: HttpRequest,
    include_disabled: bool = False,
    include_expired: bool = False,
    offset: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> HttpResponse:
    """The newest first. `offset` skips as many. Revoked keys are not listed."""
    principal = await require_management(request, Permission.MANAGE_KEYS)

    def read() -> list[dict[str, Any]]:
        keys = ApiKey.objects.filter(organization_id=principal.organization_id, revoked_at=None)
        if not include_disabled:
            keys = keys.filter(disabled_at=None)
        if not include_expired:
            keys = keys.exclude(expires_at__lte=timezone.now())
        start = offset or 0
        page = list(keys.order_by("-created_at", "-id")[start : start + limit])
        return [key_of(row) for row in key_rows(principal.organization_id, page)]

    return answer({"data": await sync_to_async(read)()})


@router.post("/keys", summary="Make a key", response=answers(NewKeyOut, 403, status=201))
async def create(request: HttpRequest, wanted: KeyIn) -> HttpResponse:
    """`key` is the secret: it is told this once. The key belongs to whoever made the management key."""
    principal = await require_management(request, Permission.MANAGE_KEYS)

    def make() -> dict[str, Any]:
        new = make_key(
            organization=Organization.objects.get(pk=principal.organization_id),
            by=author_of(principal),
            name=wanted.name,
            expires_at=_aware(wanted.expires_at),
            allowed_models=_offered(wanted.allowed_models),
            limits=_limits(wanted.limit, wanted.limit_reset),
            via=_via(principal),
        )
        return {"data": _read(principal, new.id), "key": new.secret}

    return answer(await sync_to_async(make)(), status=201)


@router.get("/keys/{hash}", summary="One key", response=answers(OneKeyOut, 403, 404))
async def one(request: HttpRequest, hash: str) -> HttpResponse:  # noqa: A002 - OpenRouter's name
    principal = await require_management(request, Permission.MANAGE_KEYS)
    return answer({"data": await sync_to_async(lambda: _read(principal, _own(principal, hash).pk))()})


@router.patch("/keys/{hash}", summary="Change a key", response=answers(OneKeyOut, 403, 404))
async def change(request: HttpRequest, hash: str, wanted: KeyChangeIn) -> HttpResponse:  # noqa: A002
    """What is disabled or limited here holds for the very next request."""
    principal = await require_management(request, Permission.MANAGE_KEYS)
    named = wanted.model_fields_set

    def update() -> dict[str, Any]:
        key, by, via = _own(principal, hash), author_of(principal), _via(principal)
        to: dict[str, Any] = {}
        if wanted.name is not None:
            to["name"] = wanted.name
        if "expires_at" in named:
            to["expires_at"] = _aware(wanted.expires_at)
        if wanted.allowed_models is not None:
            to["allowed_models"] = _offered(wanted.allowed_models)
        limits = _changed_limits(principal, key, wanted) if named & {"limit", "limit_reset"} else None
        change_key(key=key, by=by, to=to, limits=limits, via=via)
        if wanted.disabled is not None:
            services.set_disabled(key=key, disabled=wanted.disabled, by=by, via=via)
        return _read(principal, key.pk)

    return answer({"data": await sync_to_async(update)()})


@router.delete("/keys/{hash}", summary="Revoke a key for good", response=answers(DeletedOut, 403, 404))
async def delete(request: HttpRequest, hash: str) -> HttpResponse:  # noqa: A002
    """At once. Its usage stays on record."""
    principal = await require_management(request, Permission.MANAGE_KEYS)

    def revoke() -> None:
        services.revoke_key(key=_own(principal, hash), by=author_of(principal), via=_via(principal))

    await sync_to_async(revoke)()
    return answer({"deleted": True})


def _own(principal: Principal, hash_: str) -> ApiKey:
    """Raises Http404 for a revoked key and another organisation's, as for one that is not there."""
    number = hash_ if hash_.isascii() and hash_.isdecimal() and len(hash_) < 19 else "0"
    key = ApiKey.objects.filter(pk=int(number), organization_id=principal.organization_id, revoked_at=None).first()
    if key is None:
        raise Http404("There is no such key.")
    return key


def _read(principal: Principal, key_id: int) -> dict[str, Any]:
    (row,) = key_rows(principal.organization_id, [ApiKey.objects.get(pk=key_id)])
    return key_of(row)


def _via(principal: Principal) -> str:
    return f"By the management key {principal.masked}."


def _aware(moment: datetime | None) -> datetime | None:
    """A time without a zone is UTC."""
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=timezone.get_default_timezone())


def _offered(names: list[str]) -> list[str]:
    """Raises GatewayError (400) for a model that nobody offers: a typing error would shut the key out."""
    known = {offer.name for offer in offers(current_catalogue())}
    for name in names:
        if name not in known:
            raise invalid_request(f"allowed_models: there is no model {name[:100]!r}; GET /api/v1/models lists them.")
    return names


def _limits(limit: Decimal | None, reset: str | None) -> dict[str, int | None]:
    if limit is None and reset is not None:
        raise invalid_request("limit_reset: say the limit too, in US dollars.")
    found: dict[str, int | None] = dict.fromkeys(WINDOWS)
    if limit is not None:
        found[WINDOW_OF[reset]] = usd_to_nanos(limit)
    return found


def _changed_limits(principal: Principal, key: ApiKey, wanted: KeyChangeIn) -> dict[str, int | None]:
    """One limit takes the place of all: a change of its amount keeps its window, and the other way round."""
    (row,) = key_rows(principal.organization_id, [key])
    named, tightest = wanted.model_fields_set, row.budget.binding() if row.budget else None
    limit = wanted.limit
    reset: str | None = wanted.limit_reset
    if "limit" not in named:
        limit = usd(tightest.limit) if tightest else None
    elif limit is None:
        return dict.fromkeys(WINDOWS)
    if "limit_reset" not in named:
        reset = RESETS[tightest.window] if tightest else None
    return _limits(limit, reset)


def key_of(row: KeyRow) -> dict[str, Any]:
    key = row.key
    return {
        "hash": str(key.pk),
        "name": key.name,
        "disabled": key.disabled_at is not None,
        "created_at": key.created_at,
        "updated_at": key.updated_at,
        "last_used_at": row.last_used,
        "external_user": None,
        "workspace_id": str(key.organization_id),
        "is_management_key": key.management,
        "allowed_models": key.allowed_models,
        "limits": dict.fromkeys(WINDOWS) | {window: usd(limit) for window, limit, _ in row.limits},
        **_shared(row),
    }


def _shared(row: KeyRow) -> dict[str, Any]:
    """What both /key and /keys tell."""
    tightest = row.budget.binding() if row.budget else None
    periods = {"": row.use.total, "_daily": row.use.day, "_weekly": row.use.week, "_monthly": row.use.month}
    return {
        "label": row.key.masked,
        "creator_user_id": str(row.key.created_by_id) if row.key.created_by_id else None,
        "expires_at": row.key.expires_at,
        "limit": usd(tightest.limit) if tightest else None,
        "limit_remaining": usd(tightest.room) if tightest else None,
        "limit_reset": RESETS[tightest.window] if tightest else None,
        "include_byok_in_limit": False,
        **{f"usage{period}": usd(charge) for period, charge in periods.items()},
        **{f"byok_usage{period}": 0 for period in periods},
    }


def current_key(row: KeyRow, principal: Principal) -> dict[str, Any]:
    budgets = [_budget(row, *each) for each in row.limits]
    requests = principal.limits.requests
    return {
        **_shared(row),
        "is_free_tier": False,
        "is_management_key": principal.is_management,
        "is_provisioning_key": principal.is_management,
        "organization_id": str(principal.organization_id),
        "workspace_id": str(principal.organization_id),
        "budgets": budgets,
        "effective_budget": min(budgets, key=lambda each: each["remaining_usd"], default=None),
        "allowed_data_regions": ["global"],
        "free_model_daily_requests": {"limit": 0, "remaining": 0, "used": 0},
        "rate_limit": {
            "requests": NO_LIMIT if requests is None else requests,
            "interval": "1m",
            "note": "The answers of /v1/messages tell all limits in their headers.",
        },
        "hash": str(row.key.pk),
        "name": row.key.name,
        "allowed_models": row.key.allowed_models,
    }


def _budget(row: KeyRow, window: str, limit: int, spent: int) -> dict[str, Any]:
    assert row.budget is not None
    return {
        "scope": "key_limit",
        "budget_id": None,
        "guardrail_id": None,
        "include_byok": False,
        "limit_usd": usd(limit),
        "spend_usd": usd(spent),
        "remaining_usd": usd(limit - spent),
        "reset_interval": RESETS[window],
        "resets_at": resets_at(window, row.budget.spent_on),
    }
