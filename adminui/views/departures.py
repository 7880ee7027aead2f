"""Taking one's data along, closing an organisation, deleting an account."""

import json
from typing import cast

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts.closing import must_part_with
from accounts.errors import AccountsError
from accounts.models import Organization, User
from accounts.permissions import Permission
from accounts.selectors import active_keys
from adminui import departures
from adminui.forms import CloseForm, DeleteAccountForm
from adminui.streams import one_by_one
from adminui.takeout import about, takeout
from adminui.workspace import SESSION, Workspace, organization_of, workspace_view
from credits.closing import objections
from credits.selectors import balance


@require_GET
@workspace_view(Permission.MANAGE_SETTINGS)
def export(request: HttpRequest, workspace: Workspace) -> StreamingHttpResponse:  # noqa: ARG001 - a view
    parts = takeout(organization_of(workspace))
    response = StreamingHttpResponse(one_by_one(parts), content_type="application/zip")
    response["Content-Disposition"] = (
        f'attachment; filename="ccm-{workspace.organization_id}-{timezone.now():%Y-%m-%d}.zip"'
    )
    return response


@require_http_methods(["GET", "POST"])
@workspace_view(Permission.OWN)
def close(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    organization = organization_of(workspace)
    form = CloseForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            departures.close_organization(
                organization=organization, name=form.cleaned_data["name"], by=cast(User, request.user)
            )
        except AccountsError as refusal:
            form.add_error(None, str(refusal))
        else:
            request.session.pop(SESSION, None)
            messages.success(request, f"{workspace.name} is closed.")
            return redirect("home")
    context = {
        "form": form,
        "personal": organization.personal_owner_id is not None,
        **_what_ends(organization),
    }
    return render(request, "adminui/organization_close.html", context, status=400 if form.errors else 200)


def _what_ends(organization: Organization) -> dict[str, object]:
    return {
        "balance": balance(organization.pk),
        "active_keys": active_keys(organization).count(),
        "members": organization.memberships.count(),
        "reasons": objections(organization.pk),
    }


@require_http_methods(["GET", "POST"])
@login_required
@reauthentication_required  # type: ignore[untyped-decorator]
def delete_account(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    form = DeleteAccountForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            departures.delete_account(user=user, email=form.cleaned_data["email"])
        except AccountsError as refusal:
            form.add_error(None, str(refusal))
        else:
            logout(request)
            messages.success(request, "Your account is deleted.")
            return redirect("home")
    personal = Organization.objects.filter(personal_owner=user, closed_at=None).first()
    context = {
        "form": form,
        "left": must_part_with(user),
        "operator": user.is_staff,
        **(_what_ends(personal) if personal else {}),
    }
    return render(request, "adminui/account_delete.html", context, status=400 if form.errors else 200)


@require_GET
@login_required
def own_data(request: HttpRequest) -> HttpResponse:
    text = json.dumps(about(cast(User, request.user)), indent=2, default=str)
    response = HttpResponse(text, content_type="application/json")
    response["Content-Disposition"] = 'attachment; filename="ccm-account.json"'
    response["Cache-Control"] = "private, no-store"
    return response
