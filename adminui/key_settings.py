"""What customers set of their keys, on the page and through the API alike: the key itself (accounts) and its budget
(credits), in one transaction and with one line in the audit log each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit, services
from accounts.errors import InvalidAccountData
from accounts.models import ApiKey, Organization, User
from accounts.types import NewKey
from credits.budgets import WINDOWS, Budget
from credits.key_budgets import key_budgets, set_key_budget
from credits.money import format_usd
from credits.usage.selectors import By, keys_last_used, usage_by
from credits.usage.types import DAY, Span, day_of, month_of

Limits = Mapping[str, int | None]
"""Nanos by window (`budgets.WINDOWS`); None is no limit."""

FIRST = datetime.fromisoformat("2020-01-01T00:00:00+00:00")
"""Before any usage."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Nanos that a key was charged: in all, and in the UTC day, week (from Monday) and month that run."""

    total: int = 0
    day: int = 0
    week: int = 0
    month: int = 0


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key with what its organisation wants to know of it; `last_used` is None for never."""

    key: ApiKey
    use: KeyUse
    budget: Budget | None
    last_used: datetime | None

    @property
    def limits(self) -> list[tuple[str, int, int]]:
        """Window, limit and what was spent within it, for each limit that is set."""
        if self.budget is None:
            return []
        each = zip(WINDOWS, self.budget.limits, self.budget.spent, strict=True)
        return [(window, limit, spent) for window, limit, spent in each if limit is not None]


def key_rows(organization_id: int, keys: list[ApiKey], now: datetime | None = None) -> list[KeyRow]:
    """Seven queries, however many keys."""
    now = now or timezone.now()
    today = day_of(now)
    spans = {
        "total": Span(FIRST, today + DAY),
        "day": Span(today, today + DAY),
        "week": Span(today - today.weekday() * DAY, today + DAY),
        "month": Span(month_of(now), today + DAY),
    }
    charges = {
        window: {line.value: line.sums.charge for line in usage_by(organization_id, By.API_KEY, span)}
        for window, span in spans.items()
    }
    budgets, used = key_budgets(organization_id, now), keys_last_used(organization_id, now)
    return [
        KeyRow(
            key,
            KeyUse(**{window: found.get(key.pk, 0) for window, found in charges.items()}),
            budgets.get(key.pk),
            used.get(key.pk),
        )
        for key in keys
    ]


@transaction.atomic
def make_key(
    *,
    organization: Organization,
    by: User | None,
    name: str,
    limits: Limits | None = None,
    rates: Mapping[str, Any] | None = None,
    via: str = "",
    **settings: Any,
) -> NewKey:
    """As `accounts.services.create_key`, which takes `settings`, with its spending limits and its request and token
    `rates` (columns of ApiKey). Raises what that raises, and InvalidAmount."""
    _check_expiry(settings.get("expires_at"))
    new = services.create_key(organization=organization, name=name, created_by=by, via=via, **settings)
    if rates:
        ApiKey.objects.filter(pk=new.id).update(**rates)
    if limits and any(limit is not None for limit in limits.values()):
        set_key_budget(organization.pk, new.id, limits)
    return new


@transaction.atomic
def change_key(*, key: ApiKey, by: User | None, to: Mapping[str, Any], limits: Limits | None, via: str = "") -> None:
    """As `accounts.services.change_key`, and its budget unless `limits` is None. Raises what that raises, and
    InvalidAmount."""
    if to.get("expires_at") != key.expires_at:
        _check_expiry(to.get("expires_at"))
    services.change_key(key=key, to=to, by=by, via=via)
    if limits is None:
        return
    stored = key_budgets(key.organization_id, timezone.now()).get(key.pk)
    before = dict(zip(WINDOWS, stored.limits, strict=True)) if stored else dict.fromkeys(WINDOWS)
    if all(before[window] == limit for window, limit in limits.items()):
        return
    set_key_budget(key.organization_id, key.pk, limits)
    after = {**before, **limits}
    words = [f"{format_usd(limit)} {_per(window)}" for window, limit in after.items() if limit is not None]
    details = f"{', '.join(words) or 'No limit'}. {via}".strip()
    audit.record(key.organization_id, by, "changed the budget of the API key", key.name, details)


def _check_expiry(moment: datetime | None) -> None:
    if moment is not None and moment <= timezone.now():
        raise InvalidAccountData("expires_at: a key expires in the future, or never.")


def _per(window: str) -> str:
    return "in all" if window == "total" else f"a {window}"
