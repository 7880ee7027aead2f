"""Routes: which model each kind of request takes, tried out before it counts, with every version to go back to."""

from datetime import timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import ApiKey
from accounts.permissions import Permission
from accounts.types import Principal
from adminui.catalogue import current_catalogue, offers
from adminui.routing_forms import ROUTES, ProfileForm, SavingsForm, TryForm
from adminui.workspace import Workspace, keys_of, workspace_view
from gateway import profiles as verbs
from gateway.dry_run import Refused, dry_run
from gateway.errors import GatewayError
from gateway.profiles import InvalidProfile
from gateway.routing import merge
from gateway.runtime import running
from gateway.what_if import WhatIf, what_if
from providers import profiles
from providers.errors import ProfileConflict, UnknownVersion
from providers.profiles import Author, Owner
from providers.types import Profile

VERSIONS = 20
MEANS = "the page Routing"
PRICED_DAYS = 30
EVERY_NAME = ".*"
LEVELS = {"key": "this key", "organization": "the organisation", "platform": "CCM", "built_in": "built in"}


@require_http_methods(["GET", "POST"])
@workspace_view(Permission.VIEW_ROUTING)
def page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """`?key=` is whose routes; else the organisation's. A POST saves, or with `price` says what it would cost."""
    key, owner = _owner(workspace, request.POST.get("key") or request.GET.get("key") or "")
    form = _form(workspace, owner, *([request.POST] if request.method == "POST" else []))
    if request.method == "GET":
        return _page(request, workspace, key, owner, form)
    if not workspace.may(Permission.MANAGE_ROUTING):
        return _page(request, workspace, key, owner, form, status=403)
    if not form.is_valid():
        return _page(request, workspace, key, owner, form, status=400)
    try:
        if "price" in request.POST:
            priced = _priced(workspace, verbs.checked(form.profile(), current_catalogue()), PRICED_DAYS)
            return _page(request, workspace, key, owner, form, priced=priced)
        verbs.change(
            owner=owner,
            profile=form.profile(),
            by=Author(workspace.user_id, MEANS),
            catalogue=current_catalogue(),
            expected=form.cleaned_data["version"],
        )
    except InvalidProfile as error:
        form.refuse(error)
    except ProfileConflict:
        form.add_error(None, "Somebody else has changed these routes meanwhile: load the page again.")
    else:
        messages.success(request, "The routes are saved. New requests take them at once.")
        return redirect(_address(key))
    return _page(request, workspace, key, owner, form, status=400)


@require_POST
@workspace_view(Permission.MANAGE_ROUTING)
def revert(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    key, owner = _owner(workspace, request.POST.get("key", ""))
    number = request.POST.get("version", "")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise Http404("No such version.")
    by = Author(workspace.user_id, MEANS)
    try:
        verbs.revert(owner=owner, number=int(number), by=by, catalogue=current_catalogue())
    except UnknownVersion:
        raise Http404("No such version.") from None
    except InvalidProfile as error:
        messages.error(request, f"Version {number} cannot be gone back to. {error}")
    else:
        messages.success(request, f"The routes are as in version {number} again.")
    return redirect(_address(key))


@require_POST
@workspace_view(Permission.VIEW_ROUTING)
def attempt(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """The dry run: where a request would go, and why. Nothing is held, charged or sent."""
    key, owner = _owner(workspace, request.POST.get("key", ""))
    form = TryForm(request.POST)
    told: dict[str, Any] = {}
    if form.is_valid():
        principal = _principal(workspace, key)
        try:
            told = async_to_sync(dry_run)(running(), principal, form.headers, form.body)
        except Refused as error:
            told = {"refused": error.message, "rules": error.rules}
        except GatewayError as error:
            told = {"refused": error.message}
    context: dict[str, Any] = {"told": told, "try_form": form}
    if request.headers.get("HX-Request"):
        return render(request, "adminui/_dry_run.html", context)
    return _page(request, workspace, key, owner, _form(workspace, owner), **context)


def _principal(workspace: Workspace, key: ApiKey | None) -> Principal:
    """Who asks: the key, or for the organisation's own routes a key without any of its own."""
    return Principal(
        api_key_id=key.pk if key else 0,
        api_key_name=key.name if key else "",
        organization_id=workspace.organization_id,
        organization_name=workspace.name,
        allowed_models=frozenset(key.allowed_models if key else ()),
    )


@require_GET
@workspace_view(Permission.VIEW_USAGE)
def savings(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """What the routes have saved against sending everything to one model."""
    names = _models(workspace)
    dearest = max(
        offers(current_catalogue(), workspace.organization_id), key=lambda each: each.price.output, default=None
    )
    asked = {"days": "30", "model": dearest.name if dearest else "", **request.GET.dict()}
    form = SavingsForm(asked, models=names)
    found = None
    if form.is_valid():
        everything = Profile(**dict.fromkeys(ROUTES, "") | {"default": form.cleaned_data["model"]})
        found = _priced(workspace, everything, form.cleaned_data["days"])
    context = {"form": form, "found": found, "saved": found.would - found.charged if found else 0}
    return render(request, "adminui/savings.html", context)


def _priced(workspace: Workspace, profile: Profile, days: int) -> WhatIf:
    now = timezone.now()
    return what_if(workspace.organization_id, profile, current_catalogue(), now - timedelta(days=days), now)


def _owner(workspace: Workspace, key_id: str) -> tuple[ApiKey | None, Owner]:
    """Raises Http404 for a key of another organisation, as for one that is not there."""
    if not key_id:
        return None, Owner.organization(workspace.organization_id)
    number = int(key_id) if key_id.isascii() and key_id.isdecimal() and len(key_id) < 19 else 0
    key = ApiKey.objects.filter(pk=number, organization_id=workspace.organization_id).first()
    if key is None:
        raise Http404("No such key.")
    return key, Owner.key(key.pk)


def _address(key: ApiKey | None) -> str:
    return reverse("routing") + (f"?key={key.pk}" if key else "")


def _models(workspace: Workspace) -> list[str]:
    return [offer.name for offer in offers(current_catalogue(), workspace.organization_id)]


def _form(workspace: Workspace, owner: Owner, *data: Any) -> ProfileForm:
    return ProfileForm(*data, models=_models(workspace), present=profiles.stored(owner), version=profiles.latest(owner))


def _page(
    request: HttpRequest,
    workspace: Workspace,
    key: ApiKey | None,
    owner: Owner,
    form: ProfileForm,
    *,
    status: int = 200,
    **more: Any,
) -> HttpResponse:
    of_organization = profiles.stored(Owner.organization(workspace.organization_id))
    own = profiles.stored(owner) if key else None
    merged = merge(own, of_organization, profiles.stored(profiles.PLATFORM))
    context = {
        "key": key,
        "keys": [each for each in keys_of(workspace) if each.is_active and not each.management],
        "form": form,
        "in_force": [
            (label, getattr(merged.profile, name), LEVELS.get(merged.origins.get(name, ""), ""))
            for name, (label, _) in ROUTES.items()
        ],
        "versions": profiles.versions(owner, limit=VERSIONS),
        "newest": profiles.latest(owner),
        "try_form": TryForm(),
        "may_change": workspace.may(Permission.MANAGE_ROUTING),
        "priced_days": PRICED_DAYS,
        **more,
    }
    return render(request, "adminui/routing.html", context, status=status)
