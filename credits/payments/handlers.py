"""Which object an event is about, and what is done about it: the object is fetched anew, and its state applied. So it
is of no matter in which order events come, how often, or what they claim."""

from collections.abc import Callable

from credits.payments import disputes, refunds, topups
from credits.payments.accounts import sync_customer
from credits.payments.client import stripe_api
from credits.payments.models import StripeEvent, TopUp, TopUpKind

APPLIED, FOREIGN, IGNORED = "applied", "foreign", "ignored"


def _checkout(event: StripeEvent) -> str:
    top_up = topups.find(session=event.object_id)
    if top_up is None:
        metadata = stripe_api().metadata_of("checkout.session", event.object_id)
        top_up = topups.adopt(metadata, session=event.object_id)
    return _look(top_up)


def _invoice(event: StripeEvent) -> str:
    """Of an auto top-up; a Checkout's invoice has the top-up's tag too, and its session is looked at."""
    top_up = topups.find(invoice=event.object_id)
    if top_up is None:
        metadata = stripe_api().metadata_of("invoice", event.object_id)
        top_up = topups.adopt(metadata)
        if top_up is not None and top_up.kind == TopUpKind.AUTO:
            top_up = topups.adopt(metadata, invoice=event.object_id)
    return _look(top_up)


def _payment_intent(event: StripeEvent) -> str:
    return _look(topups.of_payment(event.object_id))


def _look(top_up: TopUp | None) -> str:
    if top_up is None:
        return FOREIGN
    topups.look(top_up)
    return APPLIED


def _customer(event: StripeEvent) -> str:
    about = event.payload["data"]["object"]
    if about.get("object") == "customer":
        customer = event.object_id
    else:
        before = event.payload["data"].get("previous_attributes") or {}
        customer = about.get("customer") or before.get("customer") or ""
    return APPLIED if customer and sync_customer(customer) else FOREIGN


Handler = Callable[[StripeEvent], str]

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(
        (
            "checkout.session.completed", "checkout.session.async_payment_succeeded",
            "checkout.session.async_payment_failed", "checkout.session.expired",
        ),
        _checkout,
    ),
    **dict.fromkeys(
        (
            "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.requires_action",
            "payment_intent.canceled",
        ),
        _payment_intent,
    ),
    **dict.fromkeys(("invoice.paid", "invoice.payment_failed", "invoice.finalized", "invoice.voided"), _invoice),
    **dict.fromkeys(
        ("refund.created", "refund.updated", "refund.failed"), lambda event: refunds.sync(event.object_id)
    ),
    **dict.fromkeys(
        (
            "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed",
            "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated",
        ),
        lambda event: disputes.sync(event.object_id),
    ),
    **dict.fromkeys(
        ("radar.early_fraud_warning.created", "radar.early_fraud_warning.updated"),
        lambda event: disputes.sync_warning(event.object_id),
    ),
    **dict.fromkeys(
        (
            "customer.updated", "customer.deleted", "payment_method.attached", "payment_method.detached",
            "payment_method.automatically_updated", "customer.tax_id.created", "customer.tax_id.updated",
            "customer.tax_id.deleted",
        ),
        _customer,
    ),
}  # fmt: skip
"""The events to subscribe to at Stripe. Others are not stored."""


def handle(event: StripeEvent) -> str:
    """What came of it. Raises what the app's calls to Stripe raise, after which it is tried again."""
    handler = HANDLERS.get(event.type)
    return handler(event) if handler else IGNORED
