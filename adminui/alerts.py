"""What a customer should know at once, on top of their dashboard."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from accounts.models import ApiKey
from accounts.permissions import Permission
from adminui.workspace import Workspace
from credits.key_budgets import key_budgets
from credits.money import format_usd
from credits.selectors import Balance
from credits.usage.selectors import Spending

RUNS_OUT = timedelta(days=3)
EXPIRES = timedelta(days=7)
NEAR = 80
"""Percent of a key's budget."""
MOST = 5
"""Alerts about keys."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`level` is a class of the style sheet's notices: "error" or "warning"."""

    level: str
    text: str
    link: str = ""
    url: str = ""


def alerts(workspace: Workspace, have: Balance, spent: Spending, now: datetime) -> list[Alert]:
    """The worst first."""
    found = [*_about_credits(have, spent)]
    if workspace.may(Permission.USE_KEYS):
        found += list(_about_keys(workspace, now))[:MOST]
    return sorted(found, key=lambda alert: alert.level != "error")


def _about_credits(have: Balance, spent: Spending) -> Iterator[Alert]:
    if have.frozen:
        yield Alert("error", "This organisation’s credits are frozen. Please write to support.")
    if have.debt:
        yield Alert("error", f"You owe {format_usd(have.debt)}: new credits pay that first.")
    if have.available <= 0:
        yield Alert("warning", "There are no credits left: requests are refused until there are.")
    elif spent.lasts is not None and spent.lasts < RUNS_OUT:
        yield Alert("warning", "Your credits will be used up in less than three days, if requests go on like this.")


def _about_keys(workspace: Workspace, now: datetime) -> Iterator[Alert]:
    keys = ApiKey.objects.filter(organization_id=workspace.organization_id, revoked_at=None, disabled_at=None)
    if not workspace.may(Permission.MANAGE_KEYS):
        keys = keys.filter(created_by_id=workspace.user_id)
    active = {key.pk: key for key in keys if not key.is_expired}
    for key_id, budget in key_budgets(workspace.organization_id, now).items():
        tightest, key = budget.binding(), active.get(key_id)
        if key is None or tightest is None or (tightest.limit - tightest.room) * 100 < tightest.limit * NEAR:
            continue
        level, words = ("error", "has used up") if tightest.room == 0 else ("warning", "has nearly used up")
        window = "budget" if tightest.window == "total" else f"{tightest.window}’s budget"
        yield _of(key, level, f"The key “{key.name}” {words} its {window} of {format_usd(tightest.limit)}.")
    for key in active.values():
        if key.expires_at is not None and key.expires_at - now < EXPIRES:
            yield _of(key, "warning", f"The key “{key.name}” expires on {key.expires_at:%-d %B}.")


def _of(key: ApiKey, level: str, text: str) -> Alert:
    return Alert(level, text, "Open the key", reverse("key-one", args=[key.pk]))
