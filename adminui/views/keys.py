"""API keys: listing, making, changing, rotating, disabling and revoking them."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import services
from accounts.errors import AccountsError
from accounts.models import ApiKey, User
from accounts.permissions import Permission
from accounts.types import NewKey
from adminui.catalogue import connect_models, current_catalogue
from adminui.connect import connect_snippet
from adminui.key_forms import KeyForm, NewKeyForm, RotateForm
from adminui.key_settings import change_key, key_rows, make_key
from adminui.workspace import Workspace, keys_of, organization_of, own_key, workspace_view
from gateway import profiles as verbs
from providers import profiles
from providers.profiles import Author, Owner, values_of
from providers.selectors import keys_with_profile


@require_GET
@workspace_view(Permission.USE_KEYS)
def listed(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return keys_page(request, workspace, _new_form(workspace))


def _new_form(workspace: Workspace, *data: object) -> NewKeyForm:
    with_routes = keys_with_profile(workspace.organization_id)
    sources = [(str(key.pk), f"As “{key.name}”") for key in keys_of(workspace) if key.pk in with_routes]
    return NewKeyForm(
        *data,
        organization_id=workspace.organization_id,
        sources=sources,
        may_manage=workspace.may(Permission.MANAGE_KEYS),
    )


def keys_page(request: HttpRequest, workspace: Workspace, form: NewKeyForm, *, status: int = 200) -> HttpResponse:
    rows = key_rows(workspace.organization_id, keys_of(workspace))
    return render(request, "adminui/keys.html", {"rows": rows, "form": form}, status=status)


@require_POST
@workspace_view(Permission.USE_KEYS)
def create(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """Makes a key and shows it, this once: the answer is the page itself, so that the secret is
    kept in no message, session or address."""
    form = _new_form(workspace, request.POST)
    if not form.is_valid():
        return keys_page(request, workspace, form, status=400)
    by, cleaned = cast(User, request.user), form.cleaned_data
    with transaction.atomic():
        new = make_key(
            organization=organization_of(workspace),
            by=by,
            name=cleaned["name"],
            expires_at=cleaned["expires_on"],
            allowed_models=cleaned["allowed_models"],
            management=cleaned.get("management", False),
            limits=form.budgets,
            rates=form.rates,
        )
        if cleaned["routes_from"]:
            _copy_routes(workspace, int(cleaned["routes_from"]), new)
    return _shown(request, workspace, new, cleaned["name"], management=cleaned.get("management", False))


def _copy_routes(workspace: Workspace, source: int, new: NewKey) -> None:
    owner = profiles.key_of(workspace.organization_id, source)
    if owner is not None and values_of(profile := profiles.stored(owner)):
        by = Author(workspace.user_id, "the page API keys")
        verbs.change(owner=Owner.key(new.id), profile=profile, by=by, catalogue=current_catalogue())


def _shown(
    request: HttpRequest, workspace: Workspace, new: NewKey, name: str, *, management: bool, rotated: bool = False
) -> HttpResponse:
    snippet = connect_snippet(settings.PUBLIC_URL, new.secret, connect_models(workspace.organization_id))
    context = {"key": new, "name": name, "snippet": snippet, "management": management, "rotated": rotated}
    return render(request, "adminui/key_created.html", {**context, "api_url": f"{settings.PUBLIC_URL}/api/v1"})


@require_http_methods(["GET", "POST"])
@workspace_view(Permission.USE_KEYS)
def one(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    """A key's settings, and what it has used."""
    key = own_key(workspace, key_id)
    (row,) = key_rows(workspace.organization_id, [key])
    context = {"key": key, "row": row, "rotate_form": RotateForm()}
    asked: dict[str, Any] = {"organization_id": workspace.organization_id, "key": key, "budget": row.budget}
    if request.method == "GET":
        return render(request, "adminui/key.html", {**context, "form": KeyForm(**asked)})
    form = KeyForm(request.POST, **asked)
    if form.is_valid():
        try:
            change_key(key=key, by=cast(User, request.user), to=form.changes, limits=form.budgets)
        except AccountsError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"The key “{key.name}” is changed.")
            return redirect("key-one", key.pk)
    return render(request, "adminui/key.html", {**context, "form": form}, status=400)


@require_POST
@workspace_view(Permission.USE_KEYS)
def rotate(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    """Shows the new secret, this once, as `create` does."""
    key, form = own_key(workspace, key_id), RotateForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose when the old secret ends.")
        return redirect("key-one", key.pk)
    try:
        new = services.rotate_key(key=key, by=cast(User, request.user), grace=form.duration)
    except AccountsError as error:
        return _refused(request, key, error)
    return _shown(request, workspace, new, key.name, management=key.management, rotated=True)


@require_POST
@workspace_view(Permission.USE_KEYS)
def disable(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    return _set_disabled(request, own_key(workspace, key_id), disabled=True)


@require_POST
@workspace_view(Permission.USE_KEYS)
def enable(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    return _set_disabled(request, own_key(workspace, key_id), disabled=False)


def _set_disabled(request: HttpRequest, key: ApiKey, *, disabled: bool) -> HttpResponse:
    try:
        services.set_disabled(key=key, disabled=disabled, by=cast(User, request.user))
    except AccountsError as error:
        return _refused(request, key, error)
    words = "is disabled: requests with it are refused from now on" if disabled else "serves again"
    messages.success(request, f"The key “{key.name}” {words}.")
    return redirect("key-one", key.pk)


def _refused(request: HttpRequest, key: ApiKey, error: AccountsError) -> HttpResponse:
    messages.error(request, str(error))
    return redirect("key-one", key.pk)


@require_POST
@workspace_view(Permission.USE_KEYS)
def revoke(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    key = own_key(workspace, key_id)
    if services.revoke_key(key=key, by=cast(User, request.user)):
        messages.success(request, f"The key “{key.name}” is revoked. Requests with it are refused from now on.")
    return redirect("keys")
