"""What Stripe tells, as this app uses it: the SDK's objects stay in `client.py`. Amounts are nanos."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from credits.payments.models import TopUpState


@dataclass(frozen=True, slots=True)
class SeenPayment:
    """A top-up as it stands at Stripe now. `received` and `tax` are of a payment that has succeeded."""

    state: TopUpState
    received: int = 0
    tax: int = 0
    currency: str = "usd"
    payment_intent: str | None = None
    charge: str | None = None
    pay_url: str = ""
    receipt_url: str = ""
    invoice_url: str = ""
    failure: str = ""
    failure_text: str = ""


@dataclass(frozen=True, slots=True)
class SeenCheckout:
    id: str
    url: str


@dataclass(frozen=True, slots=True)
class SeenInvoice:
    """`lines` is how many it has; `attempted` says that Stripe has tried to collect it."""

    id: str
    status: str
    lines: int
    attempted: bool
    payment: SeenPayment


@dataclass(frozen=True, slots=True)
class SeenRefund:
    """`metadata` holds the id of the request, if it was asked for here."""

    id: str
    status: str
    amount: int
    payment_intent: str | None
    metadata: Mapping[str, str]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class SeenDispute:
    """`withdrawn` and `reinstated` are what has left our balance for it, and come back, before fees."""

    id: str
    status: str
    reason: str
    amount: int
    withdrawn: int
    reinstated: int
    payment_intent: str | None


@dataclass(frozen=True, slots=True)
class SeenWarning:
    id: str
    reason: str
    payment_intent: str | None


@dataclass(frozen=True, slots=True)
class SeenCustomer:
    """`card` is what the page shows, such as "Visa ending in 4242, 12/30"; "" for none."""

    id: str
    deleted: bool
    payment_method: str = ""
    card: str = ""


@dataclass(frozen=True, slots=True)
class SeenEvent:
    id: str
    type: str
    object_id: str
    created_at: datetime
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SeenTransaction:
    """A line of our balance at Stripe (models.BalanceTransaction)."""

    id: str
    type: str
    source: str
    amount: int
    fee: int
    created_at: datetime
