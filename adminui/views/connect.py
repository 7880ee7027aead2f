"""The lines that connect Claude Code, for a key and models of one's choice, and whether they have worked."""

from datetime import UTC, datetime

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import ApiKey
from accounts.permissions import Permission
from accounts.selectors import active_keys
from adminui.catalogue import connect_models, current_catalogue
from adminui.connect import TIERS, connect_snippet, usable_models
from adminui.workspace import Workspace, organization_of, workspace_view
from credits.usage.requests import RequestFilters, UsageRow, requests_page

STOP_POLLING = 286
"""The status by which htmx is told to ask no more."""


@require_GET
@workspace_view(Permission.USE_KEYS)
def page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    keys = list(active_keys(organization_of(workspace)).filter(management=False).order_by("-created_at")[:100])
    key = _chosen_key(keys, request.GET.get("key", ""))
    wanted = {tier: request.GET[tier] for tier in TIERS if request.GET.get(tier)}
    models = connect_models(workspace.organization_id, wanted)
    context = {
        "keys": keys,
        "key": key,
        "tiers": [{"name": tier, "chosen": getattr(models, tier)} for tier in TIERS],
        "models": sorted(usable_models(current_catalogue().models)),
        "snippet": connect_snippet(settings.PUBLIC_URL, None, models),
        "since": int(timezone.now().timestamp()),
        "arrived": _newest(workspace, key, None) if key else None,
    }
    return render(request, "adminui/connect.html", context)


@require_GET
@workspace_view(Permission.USE_KEYS)
def check(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """Asked every few seconds: the first request with this key since the page was opened."""
    key = ApiKey.objects.filter(organization_id=workspace.organization_id, pk=_number(request, "key")).first()
    if key is None:
        raise Http404("No such key.")
    since = datetime.fromtimestamp(_number(request, "since"), UTC)
    arrived = _newest(workspace, key, since)
    status = STOP_POLLING if arrived else 200
    context = {"key": key, "since": int(since.timestamp()), "arrived": arrived}
    return render(request, "adminui/_first_request.html", context, status=status)


def _chosen_key(keys: list[ApiKey], asked: str) -> ApiKey | None:
    """The key that was picked, else the newest. Raises Http404 for one that is not among `keys`."""
    if not asked:
        return keys[0] if keys else None
    for key in keys:
        if str(key.pk) == asked:
            return key
    raise Http404("No such key.")


def _number(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise Http404(f"{name} must be a number.")
    return int(text)


def _newest(workspace: Workspace, key: ApiKey, since: datetime | None) -> UsageRow | None:
    rows = requests_page(workspace.organization_id, None, RequestFilters(api_key_id=key.pk), None, 1).rows
    return rows[0] if rows and (since is None or rows[0].created_at >= since) else None
