"""Stripe, by its SDK: the only module that imports it. Every call refuses to be made inside a transaction, and none
belongs on a request's path: Celery calls (architecture, decision 11).

What Stripe refuses is PaymentRefused; what a later attempt may mend is PaymentsUnavailable.
"""

import functools
import hashlib
import hmac
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection

from credits.errors import PaymentRefused, PaymentsOff, PaymentsUnavailable
from credits.payments import reading
from credits.payments.amounts import to_cents
from credits.payments.models import TopUp
from credits.payments.types import (
    SeenCheckout,
    SeenCustomer,
    SeenDispute,
    SeenEvent,
    SeenInvoice,
    SeenPayment,
    SeenRefund,
    SeenTransaction,
    SeenWarning,
)

log = structlog.get_logger("ccm.payments")

TIMEOUT_SECONDS = 20
RETRIES = 2
MOST_TYPES = 20
CHECKOUT_LIFE = timedelta(hours=2)
TAX_CODE = "txcd_10103001"
"""Software as a service, business use: https://docs.stripe.com/tax/tax-codes."""
SAVED_CARD = "Your card is kept, so that you can buy credits with it again and switch on auto top-up."

TOP_UP, INSTALLATION, REFUND = "ccm_top_up", "ccm_installation", "ccm_refund"
"""Keys of the metadata by which our objects at Stripe are known."""


def is_on() -> bool:
    return bool(settings.STRIPE.secret_key)


def installation() -> str:
    """The tag of this installation's objects: others may share the Stripe account."""
    return hmac.new(settings.KEY_PEPPER.encode(), b"stripe installation", hashlib.sha256).hexdigest()[:16]


def tags(**more: str) -> dict[str, str]:
    return {INSTALLATION: installation(), **more}


def refuse_in_a_transaction() -> None:
    """A lock must never wait for a network. The transaction that Django's TestCase wraps a test in is none of ours."""
    if any(not getattr(block, "_from_testcase", False) for block in connection.atomic_blocks):
        raise RuntimeError("Stripe must not be called inside a database transaction.")


@contextmanager
def calling() -> Iterator[None]:
    """Stripe's errors as ours."""
    import stripe

    refuse_in_a_transaction()
    try:
        yield
    except stripe.CardError as error:
        code = str(getattr(error, "decline_code", None) or error.code or "card_declined")
        raise PaymentRefused(error.code or code, error.user_message or "Your card was declined.") from None
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise PaymentsUnavailable(type(error).__name__) from None
    except stripe.InvalidRequestError as error:
        log.warning("stripe_refused", code=error.code, param=error.param)
        raise PaymentRefused(error.code or "invalid_request", str(error.user_message or error)[:300]) from None
    except stripe.AuthenticationError:
        log.error("stripe_key_refused")
        raise PaymentsUnavailable("Stripe refuses STRIPE_SECRET_KEY") from None
    except stripe.StripeError as error:
        raise PaymentsUnavailable(f"{type(error).__name__} {error.http_status}") from None


def stripe_api() -> "StripeApi":
    """Raises PaymentsOff when no key is configured."""
    if not is_on():
        raise PaymentsOff("This installation sells no credits: STRIPE_SECRET_KEY is not set.")
    return _api(settings.STRIPE.secret_key, settings.STRIPE.api_base)


@functools.lru_cache(maxsize=2)
def _api(secret_key: str, api_base: str) -> "StripeApi":
    """Kept, so that connections are: the SDK has one a thread."""
    return StripeApi(secret_key, api_base)


class StripeApi:
    """One worker's way to Stripe. `key` arguments are idempotency keys, good for 24 hours at Stripe."""

    def __init__(self, secret_key: str, api_base: str = "") -> None:
        import stripe

        stripe.enable_telemetry = False
        logging.getLogger("stripe").setLevel(logging.WARNING)  # it would log two lines a request
        self._client = stripe.StripeClient(
            secret_key,
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            max_network_retries=RETRIES,
            base_addresses={"api": api_base} if api_base else None,
        )
        self._v1: Any = self._client.v1

    # Customers

    def create_customer(self, organization_id: int, name: str, email: str, key: str) -> str:
        params = {"name": name, "email": email, "metadata": tags(ccm_organization=str(organization_id))}
        with calling():
            return str(self._v1.customers.create(params, {"idempotency_key": key}).id)

    def customer(self, customer_id: str) -> SeenCustomer:
        """With the card that auto top-up would use: the default one, else the newest."""
        with calling():
            found = self._v1.customers.retrieve(
                customer_id, {"expand": ["invoice_settings.default_payment_method"]}
            ).to_dict()
            methods = []
            if not found.get("deleted") and not (found.get("invoice_settings") or {}).get("default_payment_method"):
                methods = self._v1.customers.payment_methods.list(customer_id, {"limit": 1}).to_dict()["data"]
        return reading.customer(found, methods)

    def portal_url(self, customer_id: str, return_url: str) -> str:
        """Where the customer manages cards, addresses, tax ids and invoices; good for minutes."""
        with calling():
            made = self._v1.billing_portal.sessions.create({"customer": customer_id, "return_url": return_url})
            return str(made.url)

    # Top-ups by Checkout

    def create_checkout(self, top_up: TopUp, customer_id: str, return_url: str, key: str) -> SeenCheckout:
        metadata = tags(**{TOP_UP: str(top_up.pk)})
        expires_at = datetime.now(UTC) + CHECKOUT_LIFE
        params: dict[str, Any] = {
            "mode": "payment",
            "customer": customer_id,
            "client_reference_id": str(top_up.pk),
            "metadata": metadata,
            "line_items": [{"quantity": 1, "price_data": data} for data in _prices(top_up)],
            "payment_intent_data": {"metadata": metadata, "setup_future_usage": "off_session"},
            "custom_text": {"submit": {"message": SAVED_CARD}},
            "invoice_creation": {"enabled": True, "invoice_data": {"metadata": metadata}},
            "success_url": return_url,
            "cancel_url": f"{return_url}?canceled=1",
            "expires_at": int(expires_at.timestamp()),
            "adaptive_pricing": {"enabled": False},  # what is paid is compared with what was asked for, in dollars
        }
        if settings.STRIPE.automatic_tax:
            params["automatic_tax"] = {"enabled": True}
            params["tax_id_collection"] = {"enabled": True}
            params["customer_update"] = {"address": "auto", "name": "auto"}
        with calling():
            made = self._v1.checkout.sessions.create(params, {"idempotency_key": key})
            return SeenCheckout(str(made.id), str(made.url))

    def checkout(self, session_id: str) -> SeenPayment:
        with calling():
            expand = ["payment_intent.latest_charge", "invoice"]
            found = self._v1.checkout.sessions.retrieve(session_id, {"expand": expand})
            return reading.checkout(found.to_dict())

    def expire_checkout(self, session_id: str) -> None:
        with calling():
            self._v1.checkout.sessions.expire(session_id)

    # Auto top-ups by invoice

    def find_invoice(self, top_up: TopUp, customer_id: str) -> SeenInvoice | None:
        """The top-up's invoice, if an earlier attempt made one whose answer never came."""
        since = int((top_up.created_at - timedelta(minutes=5)).timestamp())
        with calling():
            listed = self._v1.invoices.list({"customer": customer_id, "created": {"gte": since}, "limit": 100})
            for invoice in listed.auto_paging_iter():
                found = invoice.to_dict()
                metadata = found.get("metadata") or {}
                if metadata.get(TOP_UP) == str(top_up.pk) and metadata.get(INSTALLATION) == installation():
                    break
            else:
                return None
        return self.invoice(found["id"])

    def create_invoice(self, top_up: TopUp, customer_id: str, payment_method: str, key: str) -> SeenInvoice:
        params: dict[str, Any] = {
            "customer": customer_id,
            "currency": "usd",
            "collection_method": "charge_automatically",
            "default_payment_method": payment_method,
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "metadata": tags(**{TOP_UP: str(top_up.pk)}),
        }
        if settings.STRIPE.automatic_tax:
            params["automatic_tax"] = {"enabled": True}
        with calling():
            made = self._v1.invoices.create(params, {"idempotency_key": key})
        return self.invoice(str(made.id))

    def add_invoice_lines(self, top_up: TopUp, invoice_id: str, key: str) -> SeenInvoice:
        """All at once, so that an invoice has either all of its lines or none."""
        lines = [{"price_data": data, "quantity": 1, "description": _names(data)} for data in _prices(top_up)]
        with calling():
            self._v1.invoices.add_lines(invoice_id, {"lines": lines}, {"idempotency_key": key})
        return self.invoice(invoice_id)

    def finalize_invoice(self, invoice_id: str, key: str) -> SeenInvoice:
        with calling():
            self._v1.invoices.finalize_invoice(invoice_id, {"auto_advance": False}, {"idempotency_key": key})
        return self.invoice(invoice_id)

    def pay_invoice(self, invoice_id: str, payment_method: str, key: str) -> SeenInvoice:
        """Off session. Raises PaymentRefused when the card is declined or the bank wants the customer."""
        with calling():
            params = {"off_session": True, "payment_method": payment_method}
            self._v1.invoices.pay(invoice_id, params, {"idempotency_key": key})
        return self.invoice(invoice_id)

    def void_invoice(self, invoice_id: str) -> None:
        with calling():
            self._v1.invoices.void_invoice(invoice_id)

    def invoice(self, invoice_id: str) -> SeenInvoice:
        """In two steps: the charge is deeper in it than Stripe expands (four levels)."""
        with calling():
            found = self._v1.invoices.retrieve(invoice_id, {"expand": ["payments"]}).to_dict()
            intent = reading.payment_of(found)
            paid = self._v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]}).to_dict() if intent else {}
        return reading.invoice(found, paid)

    # What events are about

    def owner_of(self, payment_intent: str) -> Mapping[str, str]:
        """The metadata of a payment, or of the invoice that it paid."""
        with calling():
            found = self._v1.payment_intents.retrieve(payment_intent).to_dict()
            metadata: dict[str, str] = found.get("metadata") or {}
            if INSTALLATION in metadata:
                return metadata
            asked = {
                "payment": {"type": "payment_intent", "payment_intent": payment_intent},
                "expand": ["data.invoice"],
            }
            for paid in self._v1.invoice_payments.list(asked).to_dict()["data"]:
                return dict((paid["invoice"] or {}).get("metadata") or {})
        return metadata

    def session_of(self, payment_intent: str) -> str:
        """The Checkout session of a payment; "" for none."""
        with calling():
            found = self._v1.checkout.sessions.list({"payment_intent": payment_intent, "limit": 1}).to_dict()["data"]
        return str(found[0]["id"]) if found else ""

    def metadata_of(self, kind: str, object_id: str) -> Mapping[str, str]:
        """Of a Checkout session or an invoice; `kind` as events spell it."""
        service = self._v1.checkout.sessions if kind == "checkout.session" else self._v1.invoices
        with calling():
            return dict(service.retrieve(object_id).to_dict().get("metadata") or {})

    def create_refund(self, payment_intent: str, amount: int, refund_id: str, key: str) -> SeenRefund:
        params = {
            "payment_intent": payment_intent,
            "amount": to_cents(amount),
            "metadata": tags(**{REFUND: refund_id}),
        }
        with calling():
            return reading.refund(self._v1.refunds.create(params, {"idempotency_key": key}).to_dict())

    def refund(self, stripe_id: str) -> SeenRefund:
        with calling():
            return reading.refund(self._v1.refunds.retrieve(stripe_id).to_dict())

    def refunds_of(self, payment_intent: str) -> Sequence[SeenRefund]:
        with calling():
            found = self._v1.refunds.list({"payment_intent": payment_intent, "limit": 100}).to_dict()["data"]
            return [reading.refund(each) for each in found]

    def dispute(self, dispute_id: str) -> SeenDispute:
        with calling():
            return reading.dispute(self._v1.disputes.retrieve(dispute_id).to_dict())

    def warning(self, warning_id: str) -> SeenWarning:
        with calling():
            found = self._v1.radar.early_fraud_warnings.retrieve(warning_id, {"expand": ["charge"]}).to_dict()
            return reading.warning(found)

    # What has happened

    def events(self, since: datetime, types: Sequence[str]) -> Iterator[SeenEvent]:
        """The newest of each 20 types first, which is how many may be asked for at once. Stripe keeps them for 30
        days."""
        for first in range(0, len(types), MOST_TYPES):
            some = list(types[first : first + MOST_TYPES])
            params = {"created": {"gte": int(since.timestamp())}, "types": some, "limit": 100}
            with calling():
                for event in self._v1.events.list(params).auto_paging_iter():
                    yield reading.event(event.to_dict())

    def balance_transactions(self, since: datetime) -> Iterator[SeenTransaction]:
        params = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        with calling():
            for transaction in self._v1.balance_transactions.list(params).auto_paging_iter():
                yield reading.transaction(transaction.to_dict())


def _prices(top_up: TopUp) -> list[dict[str, Any]]:
    """The lines of the bill: the credits, and the fee if there is one. Tax is reckoned on top of both."""
    lines = [("CCM credits", top_up.amount), ("Processing fee", top_up.fee)]
    return [
        {
            "currency": "usd",
            "unit_amount": to_cents(amount),
            "tax_behavior": "exclusive",
            "product_data": {"name": name, "tax_code": TAX_CODE},
        }
        for name, amount in lines
        if amount
    ]


def _names(data: Mapping[str, Any]) -> str:
    return str(data["product_data"]["name"])
