"""Making and revoking API keys."""

from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts import services
from accounts.models import User
from adminui.catalogue import connect_models
from adminui.connect import connect_snippet
from adminui.forms import CreateKeyForm
from adminui.views.home import dashboard
from adminui.workspace import managed_key, organization_of, workspace_of


@require_POST
@login_required
def create(request: HttpRequest) -> HttpResponse:
    """Makes a key and shows it, this once: the answer is the page itself, so that the secret is
    kept in no message, session or address."""
    user = cast(User, request.user)
    workspace = workspace_of(user, request.POST.get("organization"))
    if workspace is None or not workspace.can_manage_keys:
        raise PermissionDenied("Only owners and admins of an organisation make its API keys.")
    form = CreateKeyForm(request.POST)
    if not form.is_valid():
        return dashboard(request, workspace, form, status=400)
    organization = organization_of(workspace)
    new = services.create_key(organization=organization, name=form.cleaned_data["name"], created_by=user)
    snippet = connect_snippet(settings.PUBLIC_URL, new.secret, connect_models(workspace.organization_id))
    context = {"workspace": workspace, "key": new, "name": form.cleaned_data["name"], "snippet": snippet}
    response = render(request, "adminui/key_created.html", context)
    response["Cache-Control"] = "no-store"
    return response


@require_POST
@login_required
def revoke(request: HttpRequest, key_id: int) -> HttpResponse:
    workspace, key = managed_key(cast(User, request.user), key_id)
    if not workspace.can_manage_keys:
        raise PermissionDenied("Only owners and admins of an organisation revoke its API keys.")
    if services.revoke_key(key=key):
        messages.success(request, f"The key “{key.name}” is revoked. Requests with it are refused from now on.")
    return redirect(f"{reverse('home')}?organization={workspace.organization_id}")
