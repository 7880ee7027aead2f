"""Signing up, in and out: addresses are verified, guesses are slowed down, free credits are given once."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from cryptography.fernet import Fernet
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts.disposable import canonical, is_disposable
from accounts.models import Membership, User
from accounts.roles import Role
from accounts.services import get_or_create_user
from adminui.mail import message
from credits.selectors import balance
from tests.adminui.conftest import PASSWORD

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]
CODE = re.compile(r"^([A-Z0-9-]{6,9})$", re.MULTILINE)
FIVE_DOLLARS = 5_000_000_000


@pytest.fixture(autouse=True)
def _mail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for a commit and a worker: each test is a transaction that is rolled back."""
    monkeypatch.setattr("adminui.mail.send", lambda to, subject, text: message(to, subject, text).send())


def sign_up(client: Client, email: str = "new@example.org", password: str = PASSWORD):
    return client.post(reverse("account_signup"), {"email": email, "password1": password}, follow=True)


def enter_code(client: Client):
    code = CODE.search(str(mail.outbox[-1].body))
    assert code is not None, mail.outbox[-1].body
    return client.post(reverse("account_email_verification_sent"), {"code": code[1]}, follow=True)


def sign_in(client: Client, email: str, password: str = PASSWORD):
    return client.post(reverse("account_login"), {"login": email, "password": password})


def test_who_signs_up_proves_their_address_and_owns_an_organisation_with_a_wallet(client: Client):
    page = sign_up(client, "New@Example.org").content.decode()
    assert "code" in page.lower()
    assert client.get("/").content.decode().count(reverse("account_signup"))  # not signed in yet
    [sent] = mail.outbox
    assert sent.to == ["new@example.org"]
    assert isinstance(sent, EmailMultiAlternatives)
    assert sent.alternatives[0][1] == "text/html"
    assert "new@example.org" not in sent.subject
    page = enter_code(client).content.decode()
    assert "<h1>new</h1>" in page
    user = User.objects.get(email="new@example.org")
    assert EmailAddress.objects.get(user=user).verified
    assert Membership.objects.get(user=user).role == Role.OWNER
    assert balance(user.personal_organization.pk).available == 0


def test_a_wrong_code_signs_nobody_in(client: Client):
    sign_up(client)
    client.post(reverse("account_email_verification_sent"), {"code": "AAAAAA"})
    assert "_auth_user_id" not in client.session
    assert not EmailAddress.objects.filter(verified=True).exists()


@pytest.mark.parametrize("password", ["short", "1234567890123", "password12345"[:8], "new@example.org"])
def test_a_weak_password_is_refused(client: Client, password: str):
    sign_up(client, password=password)
    assert not User.objects.exists()


def test_an_address_that_is_thrown_away_is_refused_and_told_why(client: Client):
    page = sign_up(client, "x@mailinator.com").content.decode()
    assert "thrown away" in page
    assert not User.objects.exists()


def test_signing_up_with_a_known_address_tells_nobody_but_its_owner(client: Client, customer: User):
    page = sign_up(client, customer.email).content.decode()
    assert "already" not in page.lower()
    assert User.objects.filter(email=customer.email).count() == 1
    assert mail.outbox[-1].to == [customer.email]


def test_sign_up_can_be_closed(client: Client, settings: Any):
    settings.SIGN_UP = False
    assert "closed" in sign_up(client).content.decode().lower()
    assert not User.objects.exists()


# -- the welcome credits


def test_welcome_credits_come_with_the_verified_address_once_a_mailbox(client: Client, settings: Any):
    settings.WELCOME_NANOS = FIVE_DOLLARS
    for email, given in (
        ("a.da+1@gmail.com", FIVE_DOLLARS),
        ("ada@googlemail.com", 0),
        ("eve@example.org", FIVE_DOLLARS),
    ):
        client.logout()
        sign_up(client, email)
        user = User.objects.get(email=email)
        assert balance(user.personal_organization.pk).available == 0
        enter_code(client)
        assert balance(user.personal_organization.pk).available == given


def test_one_client_address_gets_few_of_them(settings: Any):
    settings.WELCOME_NANOS = FIVE_DOLLARS
    given = []
    for number in range(5):
        client = Client()
        sign_up(client, f"person{number}@example.org")
        enter_code(client)
        user = User.objects.get(email=f"person{number}@example.org")
        given.append(balance(user.personal_organization.pk).available)
    assert given == [FIVE_DOLLARS] * 3 + [0] * 2


@pytest.mark.parametrize(
    ("email", "thrown_away"),
    [("a@mailinator.com", True), ("a@sub.mailinator.com", True), ("a@example.org", False), ("a@gmail.com", False)],
)
def test_disposable_addresses_are_known(email: str, thrown_away: bool):
    assert is_disposable(email) is thrown_away


def test_spellings_of_one_mailbox_are_one():
    assert canonical("A.D.A+x@GoogleMail.com") == canonical("ada@gmail.com") == "ada@gmail.com"
    assert canonical("a.b+c@example.org") == "a.b@example.org"


# -- signing in


def test_signing_in_by_e_mail_in_any_case_leads_to_the_dashboard(client: Client, customer: User):
    assert sign_in(client, "Ada@Example.COM")["Location"] == reverse("home")
    assert "API keys" in client.get("/").content.decode()


def test_a_wrong_password_says_so_without_telling_which_part_was_wrong(client: Client, customer: User):
    known = sign_in(client, customer.email, "wrong password").content.decode()
    unknown = sign_in(client, "nobody@example.com", "wrong password").content.decode()
    for page in (known, unknown):
        assert "not correct" in page
    assert "_auth_user_id" not in client.session


def test_signing_in_does_not_redirect_to_another_site(client: Client, customer: User):
    address = reverse("account_login") + "?next=https://evil.example/"
    answer = client.post(address, {"login": customer.email, "password": PASSWORD, "next": "https://evil.example/"})
    assert answer["Location"] == reverse("home")


def test_too_many_failures_must_wait_even_with_the_right_password(client: Client, operator: User):
    for _ in range(8):
        sign_in(client, operator.email, "wrong password")
    sign_in(client, operator.email)
    assert "_auth_user_id" not in client.session
    assert sign_in(client, "nobody-else@example.org", "wrong password").status_code == 200


def test_old_addresses_of_pages_lead_on(client: Client):
    assert client.get("/sign-in/?next=/keys/")["Location"] == reverse("account_login") + "?next=/keys/"


def test_operators_sign_in_where_customers_do(client: Client, operator: User):
    answer = client.get(reverse("admin:index"), follow=True)
    assert answer.redirect_chain[-1][0].startswith(reverse("account_login"))
    sign_in(client, operator.email)
    assert client.get(reverse("admin:index")).status_code == 200


def test_the_admin_is_not_for_customers(customer: User, signed_in: SignedIn):
    assert signed_in(customer).get(reverse("admin:index"), follow=True).status_code in {403, 404}


def test_signing_out_takes_a_post(customer: User, signed_in: SignedIn):
    client = signed_in(customer)
    client.get(reverse("account_logout"))
    assert "_auth_user_id" in client.session
    assert client.post(reverse("account_logout"))["Location"] == reverse("home")
    assert "_auth_user_id" not in client.session


def test_a_forgotten_password_is_set_anew_by_mail(client: Client, customer: User):
    client.post(reverse("account_reset_password"), {"email": customer.email})
    link = re.search(r"https?://[^/]+(/account/password/reset/key/\S+)", str(mail.outbox[-1].body))
    assert link is not None
    page = client.get(link[1], follow=True)
    new = "another long password"
    client.post(page.request["PATH_INFO"], {"password1": new, "password2": new})
    assert sign_in(Client(), customer.email, new).status_code == 302
    assert mail.outbox[-1].to == [customer.email], "its owner is told of the change"


@pytest.mark.parametrize(
    "name",
    [
        "account_email",
        "account_change_password",
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "usersessions_list",
    ],
)
def test_the_pages_of_ones_account_open(client: Client, customer: User, name: str):
    sign_in(client, customer.email)
    page = client.get(reverse(name), follow=True)
    if page.redirect_chain:  # what weakens or adds a way to sign in asks for the password again
        page = client.post(page.redirect_chain[-1][0], {"password": PASSWORD}, follow=True)
    assert page.status_code == 200
    assert page.request["PATH_INFO"] == reverse(name)
    assert "Two-factor and passkeys" in page.content.decode()


# -- the second factor


@pytest.fixture
def secret(customer: User) -> str:
    """The customer's authenticator app is set up."""
    secret = str(totp.generate_totp_secret())
    totp.TOTP.activate(customer, secret)
    return secret


def code_of(secret: str) -> str:
    return str(totp.format_hotp_value(totp.hotp_value(secret, next(iter(totp.yield_hotp_counters_from_time())))))


def test_the_second_factor_is_asked_for(client: Client, customer: User, secret: str):
    assert sign_in(client, customer.email)["Location"] == reverse("mfa_authenticate")
    assert "_auth_user_id" not in client.session
    client.post(reverse("mfa_authenticate"), {"code": "000000"})
    assert "_auth_user_id" not in client.session
    client.post(reverse("mfa_authenticate"), {"code": code_of(secret)})
    assert "_auth_user_id" in client.session


def test_the_second_factors_secret_is_encrypted_and_moves_to_a_new_key(
    client: Client, customer: User, secret: str, settings: Any
):
    stored = Authenticator.objects.get(user=customer).data["secret"]
    assert secret not in stored
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode(), *settings.ENCRYPTION_KEYS]
    call_command("rotate_credentials", verbosity=0)
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    assert get_adapter().decrypt(Authenticator.objects.get(user=customer).data["secret"]) == secret


def test_who_is_known_to_an_operator_need_not_prove_their_address(client: Client):
    get_or_create_user(email="known@example.org", password=PASSWORD)
    assert sign_in(client, "known@example.org")["Location"] == reverse("home")
    assert mail.outbox == []
