"""Every mail that CCM sends: text and HTML, nothing left unfilled, links that work from a mailbox."""

import copy
import re
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import allauth
import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.mail import EmailMultiAlternatives
from django.test import RequestFactory
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Invitation, Organization, User
from adminui import mail
from adminui.signing_up import Adapter

pytestmark = pytest.mark.django_db
Outbox = list[EmailMultiAlternatives]

OURS = sorted((Path(mail.__file__).parent / "templates" / "mail").glob("*.txt"))
ALLAUTH = Path(allauth.__file__).parent / "templates"
THEIRS = sorted(
    str(file.relative_to(ALLAUTH)).removesuffix("_message.txt")
    for file in ALLAUTH.glob("*/email/*_message.txt")
    if file.name != "base_message.txt"
)
UNFILLED = "UNFILLED"
LINK = "https://ccm.example/account/x/y/"


@pytest.fixture(autouse=True)
def _unfilled_shows(settings: Settings) -> None:
    engines = copy.deepcopy(settings.TEMPLATES)
    engines[0]["OPTIONS"]["string_if_invalid"] = f"{UNFILLED} %s"
    settings.TEMPLATES = engines
    settings.PUBLIC_URL = "https://ccm.example"


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    sent: Outbox = []
    monkeypatch.setattr(mail, "send", lambda to, subject, text: sent.append(mail.message(to, subject, text)))
    return sent


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if tag == "a" and name == "href"]


def check(sent: EmailMultiAlternatives, *told: str) -> None:
    [(html, kind)] = [tuple(each) for each in sent.alternatives]
    text, page = str(sent.body), str(html)
    assert kind == "text/html"
    assert sent.subject
    assert "\n" not in sent.subject
    assert len(text.split()) > 8
    for part in (sent.subject, text, page):
        assert UNFILLED not in part, part
        assert "{{" not in part
        assert "{%" not in part
    assert not re.search(r"(?<![\w:/.>])/(?:account|invitations|organization)/", text), "a link without its host"
    links = Links()
    links.feed(page)
    assert all(link.startswith(("https://", "http://", "mailto:")) for link in links.found), links.found
    for each in told:
        assert each in text
        assert each in page


def context_of(user: User, **more: Any) -> dict[str, Any]:
    """What allauth's flows tell their templates."""
    return {
        "user": user,
        "email": user.email,
        "username": user.email,
        "request_user": user,
        "activate_url": LINK,
        "password_reset_url": LINK,
        "signup_url": LINK,
        "key": "abc",
        "uid": "1",
        "token": "abc",
        "from_email": "old@example.org",
        "to_email": "new@example.org",
        "deleted_email": "old@example.org",
        "ip": "192.0.2.7",
        "user_agent": "Firefox",
        "timestamp": timezone.now(),
        "provider": "GitHub",
        "provider_name": "GitHub",
        "account": "ada",
        **more,
    }


@pytest.mark.parametrize("prefix", THEIRS)
def test_mails_of_accounts(prefix: str, customer: User, outbox: Outbox, monkeypatch: pytest.MonkeyPatch):
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    more = {"code": "ABC-123"} if prefix.endswith("_code") or "confirmation" in prefix else {}
    from allauth.core import context

    with context.request_context(request):
        Adapter().send_mail(prefix, customer.email, context_of(customer, **more))
    [sent] = outbox
    check(sent, *more.values())
    assert "https://ccm.example" in str(sent.body)
    assert "example.com" not in str(sent.body).replace(customer.email, "")


def invitation(organization: Organization, customer: User) -> dict[str, Any]:
    row = Invitation(organization=organization, email="tom@example.org", expires_at=timezone.now() + timedelta(days=7))
    return {"organization": "Ada & <Co>", "by": customer.email, "link": LINK, "invitation": row}


def payment(**more: Any) -> Callable[[Organization, User], dict[str, Any]]:
    told = {"organization": "Ada & <Co>", "billing": LINK, "amount": 25 * 10**9, "why": "The card was declined."}
    return lambda _organization, _customer: {**told, **more}


CONTEXTS: dict[str, Callable[[Organization, User], dict[str, Any]]] = {
    "invitation": invitation,
    "account_deleted": lambda _organization, customer: {"email": customer.email},
    "organization_closed": lambda _organization, customer: {
        "organization": "Ada & <Co>", "by": customer.email, "days": 30, "link": LINK,
    },
    "billing_auto_confirm": payment(pay_url=LINK),
    "billing_auto_failed": payment(),
    "billing_auto_off": payment(),
    "billing_disputed": payment(),
    "billing_key_budget": payment(name="laptop", percent=100, window="day", spent=10**9, limit=10**9),
    "billing_low_balance": payment(available=4 * 10**9, below=5 * 10**9),
    "billing_receipt": payment(auto=False, fee=10**9, tax=10**8, receipt_url=LINK, invoice_url=LINK),
    "billing_refunded": payment(),
}  # fmt: skip
WITHOUT_LINK = {"billing_disputed", "billing_key_budget"}


@pytest.mark.parametrize("name", [file.stem for file in OURS])
def test_our_own_mails(name: str, organization: Organization, customer: User, outbox: Outbox):
    context = CONTEXTS[name](organization, customer)
    mail.send_template(["tom@example.org"], name, context)
    [sent] = outbox
    paid = name.startswith("billing_")
    linked = "link" in context or (paid and name not in WITHOUT_LINK)
    check(sent, *([] if paid else [customer.email]), *([LINK] if linked else []))
    if "organization" in context:
        assert "Ada & <Co>" in str(sent.subject) + str(sent.body)
        assert "Ada &amp; &lt;Co&gt;" in str(sent.alternatives[0][0])


def test_none_is_forgotten():
    assert len(THEIRS) > 15
    assert {file.stem for file in OURS} == set(CONTEXTS)
