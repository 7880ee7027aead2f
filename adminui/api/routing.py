"""/api/v1/routing: the organisation's and the keys' router profiles, their versions, and going back."""

from typing import Annotated, Any, Literal

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from ninja import Field, Router, Schema

from accounts.permissions import Permission
from accounts.types import Principal
from adminui.api.auth import principal_of, require
from adminui.api.errors import answers
from adminui.api.render import answer
from adminui.catalogue import current_catalogue
from gateway import profiles as verbs
from gateway.dry_run import profile_lines
from gateway.routing import merge
from providers import profiles
from providers.profiles import Author, Owner, Version, profile_with, values_of

router = Router(tags=["Routing"])

Scope = Literal["organization", "key"]


class ProfileIn(Schema, extra="forbid"):
    """Fields that are left out or null are not set: the wider profile decides. "" switches a route off."""

    default: str | None = None
    think: str | None = None
    websearch: str | None = None
    image: str | None = None
    long_context: str | None = None
    background: str | None = None
    subagent: str | None = None
    safety: str | None = None
    long_context_threshold: int | None = Field(None, strict=True)
    auto_map_regex: str | None = None
    background_regex: str | None = None
    think_efforts: list[str] | None = Field(None, max_length=20)
    think_in_plan_mode: bool | None = Field(None, strict=True)
    pin_explicit_model: bool | None = Field(None, strict=True)


class ChangeIn(Schema, extra="forbid"):
    scope: Scope = "organization"
    key_id: int | None = None
    """Of scope `key`: whose profile, when it is not the key's that asks."""
    profile: ProfileIn
    version: int | None = None
    """The version that the change is based on: another one in force is a conflict (409)."""


class RevertIn(Schema, extra="forbid"):
    scope: Scope = "organization"
    key_id: int | None = None
    version: int


class RoutingOut(Schema):
    data: dict[str, Any]


class VersionsOut(Schema):
    data: list[dict[str, Any]]


@router.get("/routing", summary="The profiles, and what they come to", response=answers(RoutingOut, 404))
async def read(request: HttpRequest, key_id: int | None = None) -> HttpResponse:
    """The organisation's profile, the key's (or that of `key_id`), and the profile that both and the platform's
    come to, with whose each field is."""
    principal = principal_of(request)
    return answer({"data": await sync_to_async(_state)(principal, key_id)})


@router.put("/routing", summary="Replace a profile", response=answers(RoutingOut, 403, 404, 409))
async def change(request: HttpRequest, change: ChangeIn) -> HttpResponse:
    """Every change is a version that can be gone back to. A route may name any model of GET /v1/models."""
    principal = await require(request, Permission.MANAGE_ROUTING)

    def put() -> dict[str, Any]:
        verbs.change(
            owner=_owner(principal, change.scope, change.key_id),
            profile=profile_with(change.profile.dict(exclude_none=True)),
            by=_author(principal),
            catalogue=current_catalogue(),
            expected=change.version,
        )
        return _state(principal, change.key_id)

    return answer({"data": await sync_to_async(put)()})


@router.get("/routing/versions", summary="Who changed what, and when", response=answers(VersionsOut, 404))
async def versions(
    request: HttpRequest,
    scope: Scope = "organization",
    key_id: int | None = None,
    before: int | None = None,
    limit: Annotated[int, Field(ge=1, le=profiles.MOST_VERSIONS)] = 50,
) -> HttpResponse:
    """The newest first; `before` takes the last number of a page for the next one."""
    principal = principal_of(request)

    def listed() -> list[dict[str, Any]]:
        owner = _owner(principal, scope, key_id)
        return [_version(each) for each in profiles.versions(owner, before=before, limit=limit)]

    return answer({"data": await sync_to_async(listed)()})


@router.post("/routing/revert", summary="Go back to a version", response=answers(RoutingOut, 403, 404, 409))
async def revert(request: HttpRequest, change: RevertIn) -> HttpResponse:
    """Makes a new version with the values of an old one."""
    principal = await require(request, Permission.MANAGE_ROUTING)

    def go_back() -> dict[str, Any]:
        verbs.revert(
            owner=_owner(principal, change.scope, change.key_id),
            number=change.version,
            by=_author(principal),
            catalogue=current_catalogue(),
        )
        return _state(principal, change.key_id)

    return answer({"data": await sync_to_async(go_back)()})


def _owner(principal: Principal, scope: Scope, key_id: int | None) -> Owner:
    """Raises Http404 for a key of another organisation, as for one that is not there."""
    if scope == "organization":
        return Owner.organization(principal.organization_id)
    owner = profiles.key_of(principal.organization_id, key_id or principal.api_key_id)
    if owner is None:
        raise Http404("There is no such key.")
    return owner


def _author(principal: Principal) -> Author:
    return Author(principal.created_by_id, f"API key {principal.masked}")


def _state(principal: Principal, key_id: int | None) -> dict[str, Any]:
    of_organization = _owner(principal, "organization", None)
    of_key = _owner(principal, "key", key_id)
    own, tenants = profiles.stored(of_key), profiles.stored(of_organization)
    merged = merge(own, tenants, profiles.stored(profiles.PLATFORM))
    return {
        "organization": {"version": profiles.latest(of_organization), "profile": values_of(tenants)},
        "key": {"id": of_key.api_key_id, "version": profiles.latest(of_key), "profile": values_of(own)},
        "merged": profile_lines(merged),
    }


def _version(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "created_at": version.created_at,
        "by": version.author or None,
        "means": version.means,
        "profile": version.values,
        "changes": {name: {"old": old, "new": new} for name, (old, new) in version.changes.items()},
        "reverts": version.reverts,
    }
