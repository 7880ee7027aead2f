"""An organisation's own provider keys: entered, tested, replaced, switched off and deleted; never shown."""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar, cast

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from accounts.permissions import Permission
from accounts.services import set_own_keys_only
from adminui.forms import OwnKeyForm
from adminui.workspace import Workspace, organization_of, workspace_view
from providers import own_keys
from providers.errors import ConfigError
from providers.models import Credential

Result = TypeVar("Result")

TESTS = 10
TESTS_SECONDS = 60
"""So many tests of connections an organisation may make in this time: each is a real call."""


@require_http_methods(["GET", "POST"])
@workspace_view(Permission.MANAGE_SETTINGS)
def page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    providers = own_keys.open_providers()
    choices = [(str(each.id), f"{each.name} ({each.kind})") for each in providers]
    form = OwnKeyForm(request.POST if request.method == "POST" else None, providers=choices)
    if request.method == "POST" and form.is_valid():
        cleaned = form.cleaned_data
        try:
            own_keys.add(
                organization_id=workspace.organization_id,
                provider_id=int(cleaned["provider"]),
                label=cleaned["label"],
                secret=cleaned["secret"],
                by=cast(User, request.user),
            )
        except ConfigError as error:
            _at_its_field(form, error)
        else:
            messages.success(request, "The key is stored. Test it, or just use it: it serves from now on.")
            return redirect("own-keys")
    context = {
        "keys": own_keys.own_keys(workspace.organization_id),
        "providers": providers,
        "form": form,
        "only": organization_of(workspace).own_keys_only,
        "fee": (Decimal(settings.BYOK_FEE_BASIS_POINTS) / 100).normalize(),
    }
    return render(request, "adminui/own_keys.html", context, status=400 if form.is_bound else 200)


def _at_its_field(form: OwnKeyForm, error: ConfigError) -> None:
    field, _, text = str(error).partition(": ")
    if field in form.fields:
        form.add_error(field, text[:1].upper() + text[1:])
    else:
        form.add_error(None, str(error))


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def replace(request: HttpRequest, workspace: Workspace, credential_id: int) -> HttpResponse:
    try:
        _mine(
            lambda: own_keys.replace_secret(
                organization_id=workspace.organization_id,
                credential_id=credential_id,
                secret=request.POST.get("secret", ""),
                by=cast(User, request.user),
            )
        )
    except ConfigError as error:
        messages.error(request, str(error).removeprefix("secret: "))
    else:
        messages.success(request, "The new secret is stored and serves from now on.")
    return redirect("own-keys")


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def switch(request: HttpRequest, workspace: Workspace, credential_id: int) -> HttpResponse:
    enabled = request.POST.get("enabled") == "1"
    _mine(
        lambda: own_keys.set_enabled(
            organization_id=workspace.organization_id,
            credential_id=credential_id,
            enabled=enabled,
            by=cast(User, request.user),
        )
    )
    messages.success(request, "The key serves again." if enabled else "The key is not used from now on.")
    return redirect("own-keys")


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def delete(request: HttpRequest, workspace: Workspace, credential_id: int) -> HttpResponse:
    _mine(
        lambda: own_keys.delete(
            organization_id=workspace.organization_id, credential_id=credential_id, by=cast(User, request.user)
        )
    )
    messages.success(request, "The key is deleted.")
    return redirect("own-keys")


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def test(request: HttpRequest, workspace: Workspace, credential_id: int) -> HttpResponse:
    counter = f"own-key-tests:{workspace.organization_id}"
    cache.add(counter, 0, TESTS_SECONDS)
    if cache.incr(counter) > TESTS:
        messages.error(request, "That were many tests: wait a minute.")
        return redirect("own-keys")
    result = _mine(lambda: own_keys.test_connection(workspace.organization_id, credential_id))
    level = messages.SUCCESS if result.ok else messages.ERROR
    messages.add_message(request, level, f"{result.words} ({result.milliseconds} ms)")
    return redirect("own-keys")


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def only(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    wanted = request.POST.get("only") == "1"
    set_own_keys_only(organization=organization_of(workspace), only=wanted, by=cast(User, request.user))
    messages.success(request, "Saved. New requests follow at once.")
    return redirect("own-keys")


def _mine(verb: Callable[[], Result]) -> Result:
    """Raises Http404 for a key of another organisation, as for one that is not there."""
    try:
        return verb()
    except Credential.DoesNotExist:
        raise Http404("No such key.") from None
