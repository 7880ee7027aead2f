"""Mails before the money ends: few credits left, and API keys near their limits. Each once: a low balance until it
is high again, a key's limit once in each of its windows."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from credits import budgets
from credits.models import KeyBudget, Wallet
from credits.payments import notices
from credits.payments.models import BillingAccount

LEVELS = (100, 80)
"""Percent of a key's limit."""
LIMIT = 500


def check_balances(now: datetime | None = None) -> int:
    """Tell organisations that few credits are left, if they ever had any; how many were told."""
    now = now or timezone.now()
    _watch_everybody()
    low = Q(posted__lt=F("held") + F("debt") + F("organization__billing__low_balance"))
    watched = Wallet.objects.filter(organization__billing__low_balance__gt=0)
    BillingAccount.objects.filter(
        low_told=True, pk__in=watched.filter(~low).values("pk")
    ).update(low_told=False)  # fmt: skip
    told = 0
    fallen = watched.filter(low, organization__billing__low_told=False, lots__isnull=False).distinct()
    for wallet in fallen.select_related("organization__billing")[:LIMIT]:
        with transaction.atomic():
            if BillingAccount.objects.filter(pk=wallet.pk, low_told=False).update(low_told=True):
                notices.add(
                    f"low_balance:{wallet.pk}:{now.timestamp():.6f}", wallet.pk, notices.LOW_BALANCE,
                    available=wallet.available, below=wallet.organization.billing.low_balance,
                )  # fmt: skip
                told += 1
    return told


def _watch_everybody() -> None:
    """Who has credits and has never looked at billing is told all the same."""
    unknown = Wallet.objects.filter(organization__billing=None, lots__isnull=False).distinct()
    BillingAccount.objects.bulk_create(
        [BillingAccount(organization_id=id_) for id_ in unknown.values_list("pk", flat=True)[:LIMIT]],
        ignore_conflicts=True,
    )


def check_budgets(now: datetime | None = None) -> int:
    """Tell of keys that have spent 80 and 100 % of a limit; how many notices were new."""
    now = now or timezone.now()
    near = Q()
    for window in budgets.WINDOWS:
        near |= Q(**{f"limit_{window}__gt": 0, f"spent_{window}__gte": F(f"limit_{window}") * LEVELS[-1] / 100})
    rows = KeyBudget.objects.filter(near, api_key__revoked_at=None).select_related("api_key")[:LIMIT]
    return sum(_check_budget(row, now) for row in rows)


def _check_budget(row: KeyBudget, now: datetime) -> int:
    limits = tuple(getattr(row, f"limit_{window}") for window in budgets.WINDOWS)
    spent = tuple(getattr(row, f"spent_{window}") for window in budgets.WINDOWS)
    budget = budgets.Budget(row.pk, limits, spent, row.held, row.spent_on)
    budget.roll(now)  # a window that has ended begins anew
    begins = budgets.starts(budget.spent_on)
    told = 0
    for window, limit, used in zip(budgets.WINDOWS, budget.limits, budget.spent, strict=True):
        level = next((level for level in LEVELS if limit and used * 100 >= limit * level), None)
        if level is None:
            continue
        data: dict[str, Any] = {
            "name": row.api_key.name,
            "window": window,
            "percent": level,
            "limit": limit,
            "spent": used,
        }
        key = f"budget:{row.pk}:{window}:{begins[window]}:{limit}:{level}"
        told += notices.add(key, row.api_key.organization_id, notices.KEY_BUDGET, **data)
    return told
