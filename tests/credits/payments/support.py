"""What the tests of payments share: a customer who buys."""

from itertools import count
from typing import Any

from django.test import Client

from accounts.models import Organization, User
from credits import services
from credits.models import Transfer, Wallet
from credits.payments import events, topups
from credits.payments.models import StripeEvent, TopUp
from tests.credits.support import USD
from tests.fakes.stripe import GOOD, SECRET, FakeStripe, signed

_numbers = count(1)

Ledger = set[tuple[str, str, str, int, str]]


class Shop:
    """An organisation with an empty wallet, and Stripe."""

    def __init__(self, stripe: FakeStripe) -> None:
        self.stripe = stripe
        account = services.open_account(email=f"buyer-{next(_numbers)}@example.com")
        self.user: User = account.user
        self.organization: Organization = account.organization
        self.id = self.organization.pk

    @property
    def wallet(self) -> Wallet:
        return Wallet.objects.get(pk=self.id)

    def start(self, usd: int = 20) -> TopUp:
        """A top-up whose Checkout is open."""
        top_up = topups.start(self.id, usd * USD, key=f"form-{next(_numbers)}", by=self.user)
        return topups.advance(top_up.pk)

    def pay(self, top_up: TopUp, number: str = GOOD) -> None:
        assert top_up.checkout_session
        self.stripe.pay(top_up.checkout_session, number)

    def bought(self, usd: int = 20, number: str = GOOD) -> TopUp:
        """Paid, seen and credited; the events that tell of it are gone."""
        top_up = self.start(usd)
        self.pay(top_up, number)
        self.stripe.events.clear()
        return topups.look(TopUp.objects.get(pk=top_up.pk))

    def tell(self, event: Any, secret: str = SECRET, at: float | None = None) -> int:
        """Deliver a webhook; the status of the answer."""
        body, signature = signed(event, secret, at)
        answer = Client().post(
            "/webhooks/stripe", body, content_type="application/json", headers={"stripe-signature": signature}
        )
        return answer.status_code

    def tell_and_handle(self, event: Any) -> None:
        assert self.tell(event) == 200
        if StripeEvent.objects.filter(pk=event["id"]).exists():
            events.handle(event["id"])

    def ledger(self) -> Ledger:
        """Every posting of this test, but for what differs from run to run."""
        rows = Transfer.objects.values_list("idempotency_key", "debit__kind", "credit__kind", "amount", "code")
        return {(key, str(debit), str(credit), amount, code) for key, debit, credit, amount, code in rows}
