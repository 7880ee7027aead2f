"""`/`: the landing page for visitors, the dashboard for customers."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from adminui.alerts import alerts
from adminui.catalogue import current_catalogue, offers
from adminui.connect import ConnectModels, connect_snippet
from adminui.forms import RedeemForm
from adminui.workspace import Workspace, workspace_view
from credits.selectors import balance, expiring
from credits.usage.requests import requests_page
from credits.usage.selectors import By, spending, usage_by
from credits.usage.types import Span

NEWEST = 10
SUMMED_DAYS = 30


@require_GET
def home(request: HttpRequest) -> HttpResponseBase:
    if not request.user.is_authenticated:
        return landing(request)
    return customers_home(request)


@workspace_view()
def customers_home(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return dashboard(request, workspace)


def landing(request: HttpRequest) -> HttpResponse:
    snippet = connect_snippet(settings.PUBLIC_URL, None, ConnectModels())
    context = {"offers": offers(current_catalogue()), "snippet": snippet, "essentials": snippet.export_lines[:2]}
    return render(request, "adminui/landing.html", context)


def dashboard(
    request: HttpRequest, workspace: Workspace, *, redeem_form: RedeemForm | None = None, status: int = 200
) -> HttpResponse:
    now = timezone.now()
    have, spent = balance(workspace.organization_id), spending(workspace.organization_id, now)
    context = {
        "balance": have,
        "alerts": alerts(workspace, have, spent, now),
        "expiring": expiring(workspace.organization_id),
        "redeem_form": redeem_form or RedeemForm(),
        "requests": requests_page(workspace.organization_id, limit=NEWEST).rows,
        "spending": spent,
        "models": usage_by(workspace.organization_id, By.MODEL, Span.last_days(now, SUMMED_DAYS)),
        "summed_days": SUMMED_DAYS,
    }
    return render(request, "adminui/dashboard.html", context, status=status)
