"""Mails about money, each to be sent once: written here with what they tell of, sent by the pages' app."""

from typing import Any

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
