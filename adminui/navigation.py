"""The customers' navigation: which pages there are, and who sees which."""

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest
from django.urls import reverse

from accounts.permissions import Permission
from adminui.workspace import Workspace, current_workspace, their_workspaces
from credits.selectors import balance


@dataclass(frozen=True, slots=True)
class Page:
    """`name` is the page's URL name; `under` begins the URL names that belong to it. `icon` is one of
    templates/adminui/_icons.html."""

    name: str
    label: str
    icon: str
    permission: Permission | None = None
    under: str = ""


PAGES = (
    Page("home", "Dashboard", "home"),
    Page("keys", "API keys", "key", Permission.USE_KEYS, under="key-"),
    Page("connect", "Connect", "plug", Permission.USE_KEYS, under="connect-"),
    Page("routing", "Routing", "route", Permission.VIEW_ROUTING, under="routing-"),
    Page("models", "Models", "model"),
    Page("own-keys", "Provider keys", "vault", Permission.MANAGE_SETTINGS, under="own-key"),
    Page("usage", "Usage", "chart", Permission.VIEW_USAGE, under="usage-request"),
    Page("usage-sessions", "Sessions", "threads", Permission.VIEW_USAGE, under="usage-session"),
    Page("billing", "Billing", "card", Permission.VIEW_BILLING, under="billing-"),
    Page("organization", "Organisation", "people", Permission.VIEW_MEMBERS, under="organization-"),
)


@dataclass(frozen=True, slots=True)
class Item:
    label: str
    icon: str
    url: str
    current: bool


def items(workspace: Workspace, url_name: str) -> list[Item]:
    return [
        Item(page.label, page.icon, reverse(page.name), _is_at(page, url_name))
        for page in PAGES
        if page.permission is None or workspace.may(page.permission)
    ]


def _is_at(page: Page, url_name: str) -> bool:
    return url_name == page.name or bool(page.under and url_name.startswith(page.under))


def context(request: HttpRequest) -> dict[str, Any]:
    """For every page of somebody who is signed in: their organisations, what they have left, where they can go.
    Nothing for the admin, which has its own navigation, nor where there is no organisation to show."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or request.path.startswith(reverse("admin:index")):
        return {}
    try:
        workspace = current_workspace(request)
    except Http404:  # the page says so itself
        return {}
    if workspace is None:
        return {}
    url_name = request.resolver_match.url_name if request.resolver_match else ""
    return {
        "workspace": workspace,
        "workspaces": their_workspaces(request),
        "navigation": items(workspace, url_name or ""),
        "available": balance(workspace.organization_id).available,
    }
