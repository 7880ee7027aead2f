"""API keys: listing, making and revoking them, and the lines that connect Claude Code."""

from typing import cast

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import services
from accounts.models import User
from accounts.permissions import Permission
from adminui.catalogue import connect_models
from adminui.connect import connect_snippet
from adminui.forms import CreateKeyForm
from adminui.workspace import Workspace, keys_of, organization_of, own_key, workspace_view


@require_GET
@workspace_view(Permission.USE_KEYS)
def listed(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return keys_page(request, workspace, CreateKeyForm())


def keys_page(request: HttpRequest, workspace: Workspace, form: CreateKeyForm, *, status: int = 200) -> HttpResponse:
    return render(request, "adminui/keys.html", {"keys": keys_of(workspace), "form": form}, status=status)


@require_POST
@workspace_view(Permission.USE_KEYS)
def create(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """Makes a key and shows it, this once: the answer is the page itself, so that the secret is
    kept in no message, session or address."""
    form = CreateKeyForm(request.POST)
    if not form.is_valid():
        return keys_page(request, workspace, form, status=400)
    name = form.cleaned_data["name"]
    new = services.create_key(organization=organization_of(workspace), name=name, created_by=cast(User, request.user))
    snippet = connect_snippet(settings.PUBLIC_URL, new.secret, connect_models(workspace.organization_id))
    return render(request, "adminui/key_created.html", {"key": new, "name": name, "snippet": snippet})


@require_POST
@workspace_view(Permission.USE_KEYS)
def revoke(request: HttpRequest, workspace: Workspace, key_id: int) -> HttpResponse:
    key = own_key(workspace, key_id)
    if services.revoke_key(key=key):
        messages.success(request, f"The key “{key.name}” is revoked. Requests with it are refused from now on.")
    return redirect("keys")


@require_GET
@workspace_view(Permission.USE_KEYS)
def connect(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    snippet = connect_snippet(settings.PUBLIC_URL, None, connect_models(workspace.organization_id))
    return render(request, "adminui/connect.html", {"snippet": snippet})
