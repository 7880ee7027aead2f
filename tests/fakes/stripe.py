"""Stripe for tests: the demo's stand-in on a real socket, spoken to by the real SDK."""

import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import httpx

from ccm_site.demo_stripe import bills, money
from ccm_site.demo_stripe.server import Stripe, running
from ccm_site.demo_stripe.store import Json, Store
from ccm_site.demo_stripe.webhooks import body_of
from ccm_site.env import Stripe as StripeSettings

KEY, SECRET, OLD_SECRET = "sk_test_of_the_tests", "whsec_of_the_tests", "whsec_of_before"
GOOD = "4242424242424242"


class FakeStripe:
    """What a test asks Stripe to do behind CCM's back. `events` are those that no webhook has told yet."""

    def __init__(self, stripe: Stripe) -> None:
        self.stripe, self.store = stripe, stripe.store
        self.events: list[Json] = []
        self.store.tell = self.events.append

    @property
    def settings(self) -> StripeSettings:
        return StripeSettings(KEY, (SECRET, OLD_SECRET), automatic_tax=False, api_base=self.stripe.origin)

    def pay(self, session: str, number: str = GOOD, *, agreed: bool = True) -> None:
        """The customer pays on the hosted page, as a browser would."""
        url = f"{self.stripe.origin}/pay/{session}"
        with httpx.Client(trust_env=False, follow_redirects=False) as browser:
            answer = browser.post(url, data={"number": number})
            if answer.status_code == 200 and "Your bank asks" in answer.text:
                method = answer.text.split('name="method" value="')[1].split('"')[0]
                answer = browser.post(url, data={"method": method, "agreed": "yes" if agreed else "no"})
            self.page = answer.text

    def add_card(self, customer: str, number: str = GOOD) -> str:
        with self.store.change():
            method = money.add_method(self.store, number, 12, 2034)
            money.attach(self.store, method, customer)
            return str(method["id"])

    def intent(self, id_: str | None) -> Json:
        return self.store.get(str(id_), "payment_intent")

    def refund(self, intent: str | None, cents: int | None = None) -> Json:
        """In Stripe's dashboard."""
        with self.store.change():
            return money.refund(self.store, self.intent(intent), cents, {})

    def fail_refund(self, refund: Json) -> None:
        with self.store.change():
            money.fail_refund(self.store, refund)

    def dispute(self, intent: str | None, cents: int | None = None) -> Json:
        with self.store.change():
            return money.open_dispute(self.store, self.intent(intent), cents)

    def end_dispute(self, dispute: Json, status: str) -> None:
        with self.store.change():
            money.end_dispute(self.store, dispute, status)

    def warn(self, intent: str | None) -> Json:
        with self.store.change():
            return money.warn(self.store, self.intent(intent))

    def expire(self, session: str) -> None:
        with self.store.change():
            bills.expire(self.store, self.store.get(session))

    def all(self, kind: str, **wanted: Any) -> list[Json]:
        return self.store.all(kind, **wanted)


def signed(event: Json | bytes, secret: str = SECRET, at: float | None = None) -> tuple[bytes, str]:
    """Body and `Stripe-Signature` of a webhook."""
    body = event if isinstance(event, bytes) else body_of(event)
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, sha256).hexdigest()
    return body, f"t={stamp},v1={digest}"


@contextmanager
def fake_stripe() -> Iterator[FakeStripe]:
    with running(Stripe(Store(), KEY)) as stripe:
        yield FakeStripe(stripe)
