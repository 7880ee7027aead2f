"""The billing page: what credits cost is shown before they are bought, and they arrive while the page waits."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.models import AuditEntry, Membership, Organization, User
from accounts.roles import Role
from accounts.services import create_key
from adminui import billing_mail
from adminui.tasks import send_mail
from adminui.views import billing
from credits.key_budgets import set_key_budget
from credits.models import KeyBudget, Wallet
from credits.payments import alerts, notices, tasks, topups
from credits.payments.accounts import ensure_customer, sync_customer
from credits.payments.client import stripe_api
from credits.payments.models import AutoTopUp, BillingAccount, TopUp
from credits.selectors import balance
from credits.services import grant
from tests.fakes.stripe import FakeStripe, fake_stripe

pytestmark = pytest.mark.django_db
USD = 10**9
SignedIn = Callable[[User], Client]


@pytest.fixture
def stripe(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStripe]:
    """Stripe, and a worker that does at once what pages ask for."""
    for task in (tasks.advance_top_up, tasks.look_at_top_up, tasks.open_portal):
        monkeypatch.setattr(task, "delay", task.run)
    with fake_stripe() as fake:
        settings.STRIPE = fake.settings
        yield fake


def buy(client: Client, usd: str = "25") -> str:
    """Through the pages as a browser goes; where the payment is waited for."""
    review = client.get(reverse("billing-buy"), {"amount": usd}).content.decode()
    key = re.search(r'name="key" value="([0-9a-f]+)"', review)
    assert key
    sent = client.post(reverse("billing-buy"), {"amount": usd, "key": key[1]})
    assert sent.status_code == 302
    return sent["Location"]


def test_the_price_is_shown_paid_at_stripe_and_the_credits_arrive(
    customer: User, organization: Organization, signed_in: SignedIn, stripe: FakeStripe
):
    client = signed_in(customer)
    page = client.get(reverse("billing")).content.decode()
    assert "$26.25 to pay, $1.25 of it fee" in page
    review = client.get(reverse("billing-buy"), {"amount": "25"}).content.decode()
    assert "Pay $26.25" in review
    assert not TopUp.objects.exists(), "looking at the price begins nothing"
    waiting = buy(client)
    top_up = TopUp.objects.get()
    status = client.get(reverse("billing-top-up-status", args=[top_up.pk]) + "?pay=1", headers={"hx-request": "true"})
    assert status["HX-Redirect"] == top_up.pay_url
    assert client.get(waiting).status_code == 200
    cache.clear()
    back = client.get(reverse("billing-top-up", args=[top_up.pk])).content.decode()
    assert "Waiting for the payment" in back
    stripe.pay(str(top_up.checkout_session))
    cache.clear()
    client.get(reverse("billing-top-up-status", args=[top_up.pk]))  # it has Stripe looked at, without any webhook
    done = client.get(reverse("billing-top-up-status", args=[top_up.pk]))
    assert done.status_code == 286
    assert "$25.00 of credits are yours" in done.content.decode()
    assert balance(organization.pk).available == 25 * USD
    page = client.get(reverse("billing")).content.decode()
    assert "Visa ending in 4242" in page
    assert TopUp.objects.get().receipt_url in page
    assert AuditEntry.objects.filter(action="started buying", actor=customer).count() == 1


def test_a_form_sent_twice_buys_once(customer: User, signed_in: SignedIn, stripe: FakeStripe):
    client = signed_in(customer)
    for _ in range(2):
        assert client.post(reverse("billing-buy"), {"amount": "25", "key": "a" * 32}).status_code == 302
    assert TopUp.objects.count() == 1
    other = client.post(reverse("billing-buy"), {"amount": "50", "key": "a" * 32})
    assert other.status_code == 400
    assert "bought something else" in other.content.decode()


@pytest.mark.parametrize("amount", ["1", "999999", "abc", "", "10.001", "-5", "1e99"])
def test_amounts_that_cannot_be_bought_are_refused_in_the_form(
    customer: User, signed_in: SignedIn, stripe: FakeStripe, amount: str
):
    for answer in (
        signed_in(customer).get(reverse("billing-buy"), {"amount": amount}),
        signed_in(customer).post(reverse("billing-buy"), {"amount": amount, "key": "a" * 32}),
    ):
        assert answer.status_code == 400
        assert 'role="alert"' in answer.content.decode()
    assert not TopUp.objects.exists()


def test_coming_back_without_paying_charges_nothing(customer: User, signed_in: SignedIn, stripe: FakeStripe):
    client = signed_in(customer)
    buy(client)
    top_up = TopUp.objects.get()
    back = client.get(reverse("billing-top-up", args=[top_up.pk]) + "?canceled=1", follow=True)
    assert "Nothing was paid." in back.content.decode()
    assert TopUp.objects.get().state == "canceled"
    assert stripe.all("checkout.session")[0]["status"] == "expired"
    assert "No payments yet" in back.content.decode()


def test_without_stripe_the_page_says_so(customer: User, signed_in: SignedIn, settings: Settings):
    settings.STRIPE = type(settings.STRIPE)()
    client = signed_in(customer)
    assert "Credits cannot be bought here yet" in client.get(reverse("billing")).content.decode()
    answer = client.post(reverse("billing-buy"), {"amount": "25", "key": "a" * 32})
    assert answer.status_code == 400
    assert client.post(reverse("billing-portal")).status_code == 404


def test_who_may_see_and_who_may_buy(
    customer: User, member: User, stranger: User, organization: Organization, signed_in: SignedIn, stripe: FakeStripe
):
    buy(signed_in(customer))
    top_up = TopUp.objects.get()
    there = {"organization": str(organization.pk)}
    assert signed_in(member).get(reverse("billing"), there).status_code == 403, "developers see no billing"
    assert signed_in(stranger).get(reverse("billing"), there).status_code == 404
    own = signed_in(stranger).get(reverse("billing-top-up", args=[top_up.pk]))
    assert own.status_code == 404
    Membership.objects.filter(user=member).update(role=Role.BILLING)
    assert signed_in(member).get(reverse("billing"), there).status_code == 200
    assert signed_in(member).get(reverse("billing-buy"), {**there, "amount": "25"}).status_code == 200
    assert Client().get(reverse("billing")).status_code == 302
    assert signed_in(customer).get(reverse("billing-auto")).status_code == 405


def test_auto_top_up_is_switched_on_and_off_and_audited(
    customer: User, organization: Organization, signed_in: SignedIn, stripe: FakeStripe
):
    client, form = signed_in(customer), {"threshold": "10", "amount": "25", "monthly_cap": "100"}
    assert "no card to charge" in client.post(reverse("billing-auto"), form).content.decode()
    made = ensure_customer(stripe_api(), organization.pk)
    stripe.add_card(made)
    sync_customer(made)
    assert "Auto top-up is on." in client.post(reverse("billing-auto"), form, follow=True).content.decode()
    assert AutoTopUp.objects.get().threshold == 10 * USD
    low = client.post(reverse("billing-auto"), {**form, "monthly_cap": "20"})
    assert (low.status_code, "must be at least" in low.content.decode()) == (400, True)
    client.post(reverse("billing-auto"), {"off": "1"})
    assert not AutoTopUp.objects.get().enabled
    assert set(AuditEntry.objects.values_list("action", flat=True)) == {
        "switched on auto top-up", "switched off auto top-up",
    }  # fmt: skip


def test_the_portal_opens_for_this_organisation_only(
    customer: User, stranger: User, signed_in: SignedIn, stripe: FakeStripe
):
    client = signed_in(customer)
    wait = client.post(reverse("billing-portal"))["Location"]
    assert client.get(wait).status_code == 200
    polled = client.get(wait, headers={"hx-request": "true"})
    assert polled["HX-Redirect"].startswith(f"{stripe.stripe.origin}/portal/")
    assert "HX-Redirect" not in signed_in(stranger).get(wait, headers={"hx-request": "true"}).headers


def test_a_low_balance_is_told_once_until_it_is_high_again(
    customer: User, organization: Organization, signed_in: SignedIn, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(send_mail, "delay", send_mail.run)
    signed_in(customer).post(reverse("billing-low-balance"), {"low_balance": "8"})
    assert BillingAccount.objects.get().low_balance == 8 * USD
    assert alerts.check_balances() == 0, "who never had credits is not told"
    grant(organization.pk, 9 * USD, reason="r", idempotency_key="1")
    assert alerts.check_balances() == 0
    Wallet.objects.update(held=2 * USD)
    assert [alerts.check_balances(), alerts.check_balances()] == [1, 0]
    Wallet.objects.update(held=0)
    assert alerts.check_balances() == 0
    Wallet.objects.update(held=2 * USD)
    assert alerts.check_balances() == 1
    assert billing_mail.send_notices() == 2
    assert billing_mail.send_notices() == 0


def test_a_keys_budget_is_told_at_80_and_100_percent_once_a_period(organization: Organization, customer: User):
    made = create_key(organization=organization, name="laptop", created_by=customer)
    set_key_budget(organization.pk, made.id, {"day": 10 * USD})
    told = []
    now = timezone.now()
    for spent, when in ((7, now), (8, now), (9, now), (10, now), (11, now), (11, now + timedelta(days=1))):
        KeyBudget.objects.update(spent_day=spent * USD)
        told.append(alerts.check_budgets(when))
    assert told == [0, 1, 0, 1, 0, 0], "the next day begins anew"
    KeyBudget.objects.update(spent_day=8 * USD, spent_on=(now + timedelta(days=1)).date())
    assert alerts.check_budgets(now + timedelta(days=1)) == 1


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            notices.RECEIPT,
            {"amount": USD, "fee": 5 * 10**8, "tax": 0, "receipt_url": "https://r", "auto": True},
            "https://r",
        ),
        (notices.AUTO_FAILED, {"amount": USD, "why": "Your card was declined."}, "Your card was declined."),
        (notices.AUTO_CONFIRM, {"amount": USD, "pay_url": "https://confirm"}, "https://confirm"),
        (notices.AUTO_OFF, {"amount": USD, "why": "Why."}, "third time in a row"),
        (notices.LOW_BALANCE, {"available": USD, "below": 5 * USD}, "Less than $5.00"),
        (notices.KEY_BUDGET, {"name": "a<b", "window": "day", "percent": 100, "limit": USD, "spent": USD}, "“a<b”"),
        (notices.REFUNDED, {"amount": USD}, "$1.00 go back"),
        (notices.DISPUTED, {"amount": USD}, "frozen"),
    ],
)
def test_each_mail_goes_to_those_who_pay_once(
    organization: Organization, customer: User, member: User, kind: str, data: dict[str, object], said: str,
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks,
):  # fmt: skip
    monkeypatch.setattr(send_mail, "delay", send_mail.run)
    assert notices.add("k", organization.pk, kind, **data)
    assert not notices.add("k", organization.pk, kind, **data)
    with django_capture_on_commit_callbacks(execute=True):
        billing_mail.send_notices()
        billing_mail.send_notices()
    (sent,) = mail.outbox
    assert sent.to == [customer.email]
    assert said in f"{sent.subject} {sent.body}"
    assert "{" not in str(sent.body)


def test_pages_go_on_without_a_broker(customer: User, signed_in: SignedIn, stripe: FakeStripe, monkeypatch):
    from kombu.exceptions import OperationalError

    def away(*_: object) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(tasks.advance_top_up, "delay", away)
    buy(signed_in(customer))
    assert TopUp.objects.get().state == "created"
    assert topups.sweep(timezone.now() + timedelta(minutes=2)) == 1
    assert TopUp.objects.get().pay_url


def test_older_payments_have_pages(customer: User, organization: Organization, signed_in: SignedIn, stripe: FakeStripe):
    for number in range(billing.PAGE + 1):
        TopUp.objects.create(organization=organization, kind="manual", state="failed", amount=USD, key=str(number))
    client = signed_in(customer)
    first = client.get(reverse("billing")).content.decode()
    older = re.search(r'href="([^"]*before=\d+)"', first)
    assert older
    assert client.get(older[1]).content.decode().count("<tr>") == 2
    assert client.get(reverse("billing") + "?before=x").status_code == 404


def test_an_operator_refunds_in_the_admin(
    customer: User, operator: User, signed_in: SignedIn, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.send_refund, "delay", tasks.send_refund.run)
    buy(signed_in(customer))
    top_up = TopUp.objects.get()
    stripe.pay(str(top_up.checkout_session))
    topups.look(top_up)
    staff = signed_in(operator)
    for name in ("topup", "paymentdispute", "autotopup", "billingaccount", "stripeevent"):
        assert staff.get(reverse(f"admin:credits_{name}_changelist")).status_code == 200
    url = reverse("admin:credits_topup_change", args=[top_up.pk])
    assert "Refund" in staff.get(url).content.decode()
    refund = reverse("admin:credits_topup_refund", args=[top_up.pk])
    page = staff.get(refund).content.decode()
    assert "$26.25 of it pays for credits that are still there" in page
    answer = staff.post(refund, {"amount": "10.50", "reason": "sorry", "key": "form"}, follow=True)
    assert "Refund of $10.50 requested" in answer.content.decode()
    assert stripe.all("refund")[0]["amount"] == 1050
    assert Wallet.objects.get(pk=top_up.organization_id).posted == 15 * USD
    assert "refunded" in signed_in(customer).get(reverse("billing")).content.decode()
