"""`/`: the landing page for visitors, the dashboard for customers."""

from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import User
from adminui.catalogue import connect_models, current_catalogue, offers
from adminui.connect import ConnectModels, connect_snippet
from adminui.forms import CreateKeyForm, RedeemForm
from adminui.workspace import Workspace, keys_of, workspace_of, workspaces_of
from credits.selectors import balance, expiring
from credits.usage.requests import requests_page
from credits.usage.selectors import By, spending, usage_by
from credits.usage.types import Span

NEWEST = 50
SUMMED_DAYS = 30


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return landing(request)
    return dashboard(request, workspace_of(request.user, request.GET.get("organization")), CreateKeyForm())


def landing(request: HttpRequest) -> HttpResponse:
    snippet = connect_snippet(settings.PUBLIC_URL, None, ConnectModels())
    context = {"offers": offers(current_catalogue()), "snippet": snippet, "essentials": snippet.export_lines[:2]}
    return render(request, "adminui/landing.html", context)


def dashboard(
    request: HttpRequest,
    workspace: Workspace | None,
    form: CreateKeyForm,
    *,
    redeem_form: RedeemForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """The page of one organisation; `workspace` is None for somebody who is in none, as an operator may be."""
    if workspace is None:
        return render(request, "adminui/no_organization.html")
    now = timezone.now()
    context = {
        "workspace": workspace,
        "workspaces": workspaces_of(cast(User, request.user)),
        "balance": balance(workspace.organization_id),
        "keys": keys_of(workspace),
        "expiring": expiring(workspace.organization_id),
        "form": form,
        "redeem_form": redeem_form or RedeemForm(),
        "snippet": connect_snippet(settings.PUBLIC_URL, None, connect_models(workspace.organization_id)),
        "requests": requests_page(workspace.organization_id, limit=NEWEST).rows,
        "spending": spending(workspace.organization_id, now),
        "models": usage_by(workspace.organization_id, By.MODEL, Span.last_days(now, SUMMED_DAYS)),
        "summed_days": SUMMED_DAYS,
    }
    response = render(request, "adminui/dashboard.html", context, status=status)
    response["Cache-Control"] = "private, no-store"
    return response
