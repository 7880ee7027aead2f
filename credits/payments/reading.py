"""Stripe's objects, as the API's JSON has them (version 2026-10-28.endive), read into `types.py`. Pure.

References to other objects are ids, or the objects themselves where they were asked to be expanded.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from credits.payments.amounts import from_cents
from credits.payments.models import TopUpState
from credits.payments.types import (
    SeenCustomer,
    SeenDispute,
    SeenEvent,
    SeenInvoice,
    SeenPayment,
    SeenRefund,
    SeenTransaction,
    SeenWarning,
)

Json = Mapping[str, Any]

CONFIRM = "authentication_required"
"""The failure of a payment that the customer can still confirm."""


def id_of(reference: Any) -> str | None:
    if isinstance(reference, Mapping):
        return str(reference["id"]) if reference else None
    return str(reference) if reference else None


def _object(reference: Any) -> Json:
    return reference if isinstance(reference, Mapping) else {}


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def checkout(session: Json) -> SeenPayment:
    """`complete` says that the customer is done, not that the money is there: some methods take days."""
    intent, invoiced = _object(session.get("payment_intent")), _object(session.get("invoice"))
    details = _object(session.get("total_details"))
    state = TopUpState.PROCESSING
    if session.get("status") == "expired":
        state = TopUpState.CANCELED
    elif session.get("payment_status") == "paid" and intent.get("status") == "succeeded":
        state = TopUpState.SUCCEEDED
    elif session.get("status") == "complete" and intent.get("status") in {"requires_payment_method", "canceled"}:
        state = TopUpState.FAILED
    return _payment(
        state,
        intent,
        tax=details.get("amount_tax") or 0,
        pay_url=session.get("url") or "",
        invoice_url=invoiced.get("hosted_invoice_url") or "",
    )


def payment_of(invoice: Json) -> str | None:
    """The id of the payment intent that pays an invoice, or is to; None before it is finished."""
    paid = [_object(each) for each in _object(invoice.get("payments")).get("data", [])]
    chosen = next((each for each in paid if each.get("status") == "paid"), paid[0] if paid else {})
    return id_of(_object(chosen.get("payment")).get("payment_intent"))


def invoice(found: Json, intent: Json) -> SeenInvoice:
    """`intent`: its payment intent, {} before there is one."""
    status, attempted = str(found.get("status")), bool(found.get("attempted"))
    state = TopUpState.PROCESSING
    if status == "paid" and intent.get("status") == "succeeded":
        state = TopUpState.SUCCEEDED
    elif status in {"void", "uncollectible"}:
        state = TopUpState.CANCELED
    elif attempted and intent.get("status") in {"requires_payment_method", "requires_action", "canceled"}:
        state = TopUpState.FAILED
    url = found.get("hosted_invoice_url") or ""
    taxes = sum(tax.get("amount") or 0 for tax in found.get("total_taxes") or [])
    payment = _payment(state, intent, tax=taxes, pay_url=url, invoice_url=url)
    return SeenInvoice(str(found["id"]), status, len(_object(found.get("lines")).get("data", [])), attempted, payment)


def _payment(state: TopUpState, intent: Json, *, tax: int, pay_url: str, invoice_url: str) -> SeenPayment:
    charge = _object(intent.get("latest_charge"))
    failed = _object(intent.get("last_payment_error")) if state == TopUpState.FAILED else {}
    failure = str(failed.get("code") or "")
    if state == TopUpState.FAILED and intent.get("status") == "requires_action":
        failure = CONFIRM
    return SeenPayment(
        state=state,
        received=from_cents(intent.get("amount_received") or 0),
        tax=from_cents(tax),
        currency=str(intent.get("currency") or "usd"),
        payment_intent=id_of(intent),
        charge=id_of(charge),
        pay_url=pay_url,
        receipt_url=charge.get("receipt_url") or "",
        invoice_url=invoice_url,
        failure=failure,
        failure_text=str(failed.get("message") or ""),
    )


def customer(found: Json, methods: Sequence[Json]) -> SeenCustomer:
    if found.get("deleted"):
        return SeenCustomer(str(found["id"]), deleted=True)
    default = _object(_object(found.get("invoice_settings")).get("default_payment_method"))
    method = default or next(iter(methods), {})
    return SeenCustomer(str(found["id"]), deleted=False, payment_method=id_of(method) or "", card=_card(method))


def _card(method: Json) -> str:
    card = _object(method.get("card"))
    if card:
        brand = str(card.get("brand") or "card").replace("_", " ").title()
        return f"{brand} ending in {card.get('last4')}, {int(card['exp_month']):02d}/{int(card['exp_year']) % 100:02d}"
    return str(method.get("type") or "").replace("_", " ").title()


def refund(found: Json) -> SeenRefund:
    return SeenRefund(
        id=str(found["id"]),
        status=str(found.get("status")),
        amount=from_cents(found["amount"]),
        payment_intent=id_of(found.get("payment_intent")),
        metadata=dict(found.get("metadata") or {}),
        failure=str(found.get("failure_reason") or ""),
    )


def dispute(found: Json) -> SeenDispute:
    moved = [int(each.get("amount") or 0) for each in found.get("balance_transactions") or []]
    return SeenDispute(
        id=str(found["id"]),
        status=str(found.get("status")),
        reason=str(found.get("reason") or ""),
        amount=from_cents(found["amount"]),
        withdrawn=from_cents(-sum(amount for amount in moved if amount < 0)),
        reinstated=from_cents(sum(amount for amount in moved if amount > 0)),
        payment_intent=id_of(found.get("payment_intent")),
    )


def warning(found: Json) -> SeenWarning:
    intent = id_of(found.get("payment_intent")) or id_of(_object(found.get("charge")).get("payment_intent"))
    return SeenWarning(str(found["id"]), str(found.get("fraud_type") or ""), intent)


def event(found: Json) -> SeenEvent:
    """Raises KeyError, TypeError or ValueError for what is no event."""
    about = found["data"]["object"]
    return SeenEvent(
        id=str(found["id"]),
        type=str(found["type"]),
        object_id=str(about.get("id") or ""),
        created_at=_time(int(found["created"])),
        payload=dict(found),
    )


def transaction(found: Json) -> SeenTransaction:
    return SeenTransaction(
        id=str(found["id"]),
        type=str(found["type"]),
        source=id_of(found.get("source")) or "",
        amount=from_cents(found["amount"]),
        fee=from_cents(found["fee"]),
        created_at=_time(int(found["created"])),
    )
