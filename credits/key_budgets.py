"""Setting what an API key may spend. How budgets are kept: `budgets.py`, `batch.py`."""

from collections.abc import Mapping
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from accounts.models import ApiKey
from credits import budgets
from credits.errors import InvalidAmount
from credits.models import IS_UNFINISHED, Hold, KeyBudget, UsageRecord, Wallet
from credits.money import LARGEST, format_usd


@transaction.atomic
def set_key_budget(
    organization_id: int, api_key_id: int, limits: Mapping[str, int | None], *, now: datetime | None = None
) -> KeyBudget:
    """Limit what the organisation's key may spend: nanos by window (`budgets.WINDOWS`); None lifts
    that limit, and a window that is not named keeps its own. What the key has spent so far counts.

    Raises ApiKey.DoesNotExist for another organisation's key, InvalidAmount, ValueError for an unknown window."""
    unknown = set(limits) - set(budgets.WINDOWS)
    if unknown:
        raise ValueError(f"There is no window {min(unknown)!r}; there are {', '.join(budgets.WINDOWS)}.")
    for window, limit in limits.items():
        if limit is not None and not 0 <= limit <= LARGEST:
            raise InvalidAmount(f"{format_usd(limit)} cannot be a {window} limit.")
    key = ApiKey.objects.get(pk=api_key_id, organization_id=organization_id)
    # The wallet's lock keeps the writer from this key's holds while they are added up.
    Wallet.objects.select_for_update().get(pk=organization_id)
    budget = KeyBudget.objects.filter(pk=key.pk).first()
    if budget is None:
        budget = KeyBudget(api_key=key, **_counters(key, now or timezone.now()))
    for window, limit in limits.items():
        setattr(budget, f"limit_{window}", limit)
    budget.save()
    return budget


def key_budget(api_key_id: int, now: datetime) -> budgets.Budget | None:
    """What the key may spend and has spent, as of `now`; None when it was never given a budget."""
    row = KeyBudget.objects.filter(pk=api_key_id).first()
    return None if row is None else _as_of(row, now)


def key_budgets(organization_id: int, now: datetime) -> dict[int, budgets.Budget]:
    """As `key_budget`, of all the organisation's keys that have one, by the key's id."""
    rows = KeyBudget.objects.filter(api_key__organization_id=organization_id)
    return {row.api_key_id: _as_of(row, now) for row in rows}


def _as_of(row: KeyBudget, now: datetime) -> budgets.Budget:
    budget = budgets.Budget(
        row.api_key_id,
        limits=tuple(getattr(row, f"limit_{window}") for window in budgets.WINDOWS),
        spent=tuple(getattr(row, f"spent_{window}") for window in budgets.WINDOWS),
        held=row.held,
        spent_on=row.spent_on,
    )
    budget.roll(now)
    return budget


def _counters(key: ApiKey, now: datetime) -> dict[str, object]:
    """What the key has spent in each window, and what its unfinished holds reserve."""
    today = budgets.utc_date(now)
    since = {
        window: Q(created_at__gte=datetime(first.year, first.month, first.day, tzinfo=UTC))
        for window, first in budgets.starts(today).items()
    }
    sums = UsageRecord.objects.filter(api_key=key).aggregate(
        **{f"spent_{window}": Sum("charge", filter=condition, default=0) for window, condition in since.items()}
    )
    held = Hold.objects.filter(IS_UNFINISHED, api_key=key).aggregate(held=Sum("amount", default=0))
    return {**sums, **held, "spent_on": today}
