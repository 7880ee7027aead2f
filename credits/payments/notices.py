"""Mails about money, each to be sent once: written here with what they tell of, sent by the pages' app."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from credits.payments.models import BillingNotice

RECEIPT = "receipt"
AUTO_FAILED = "auto_failed"
AUTO_CONFIRM = "auto_confirm"
AUTO_OFF = "auto_off"
LOW_BALANCE = "low_balance"
KEY_BUDGET = "key_budget"
REFUNDED = "refunded"
DISPUTED = "disputed"


def add(key: str, organization_id: int, kind: str, **data: Any) -> bool:
    """Whether it is new: the same key is sent once. Amounts in `data` are nanos."""
    _, new = BillingNotice.objects.get_or_create(
        key=key[:160], defaults={"organization_id": organization_id, "kind": kind, "data": data}
    )
    return new


@dataclass(frozen=True, slots=True)
class Notice:
    organization_id: int
    organization: str
    kind: str
    data: Mapping[str, Any]


def waiting(limit: int) -> Sequence[str]:
    """The keys of those that are to be sent, the oldest first."""
    return list(BillingNotice.objects.filter(sent_at=None).order_by("created_at").values_list("pk", flat=True)[:limit])


def take(key: str) -> Notice | None:
    """The notice, for whoever marks it as sent; None when somebody else has. In the caller's transaction."""
    if not BillingNotice.objects.filter(pk=key, sent_at=None).update(sent_at=timezone.now()):
        return None
    row = BillingNotice.objects.select_related("organization").get(pk=key)
    return Notice(row.organization_id, row.organization.name, row.kind, row.data)
