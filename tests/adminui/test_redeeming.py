"""Customers redeem promo codes on their page."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization, User
from accounts.roles import Role
from adminui import throttle
from credits import promos
from credits.selectors import balance

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]
FIVE_DOLLARS = 5_000_000_000


@pytest.fixture
def code(db: None) -> str:
    terms = promos.Terms(amount=FIVE_DOLLARS, expires_in_days=30, max_redemptions=None)
    return promos.create_code("WELCOME", terms).code


def redeem(client: Client, organization: Organization, code: str):
    return client.post(reverse("redeem"), {"organization": organization.pk, "code": code}, follow=True)


def test_a_code_is_redeemed_and_said_to_expire(
    customer: User, organization: Organization, code: str, signed_in: SignedIn
):
    client = signed_in(customer)
    assert reverse("redeem") in client.get("/").content.decode()
    page = redeem(client, organization, " wel-come ").content.decode()
    assert "The code gave $5.00." in page
    assert "expires on" in page
    assert "$5.00 of your credits expire on" in page
    assert balance(organization.pk).available == FIVE_DOLLARS
    again = redeem(client, organization, code)
    assert again.status_code == 400
    assert "has redeemed this code already" in again.content.decode()
    assert balance(organization.pk).available == FIVE_DOLLARS


@pytest.mark.parametrize("typed", ["WELCOMF", "x", "<b>"])
def test_a_wrong_code_is_told_without_naming_any(
    customer: User, organization: Organization, code: str, signed_in: SignedIn, typed: str
):
    answer = redeem(signed_in(customer), organization, typed)
    assert answer.status_code == 400
    assert "This code is not known." in answer.content.decode()
    assert code not in answer.content.decode()


def test_whoever_guesses_must_wait_even_with_a_right_code(
    customer: User, stranger: User, organization: Organization, code: str, signed_in: SignedIn
):
    client = signed_in(customer)
    for number in range(throttle.FAILURES):
        redeem(client, organization, f"GUESS{number}")
    blocked = redeem(client, organization, code)
    assert blocked.status_code == 429
    assert "Too many attempts" in blocked.content.decode()
    assert balance(organization.pk).available == 0
    assert redeem(signed_in(stranger), stranger.personal_organization, code).status_code == 200
    sign_in = Client().post(reverse("sign-in"), {"username": customer.email, "password": "a long enough password"})
    assert sign_in.status_code == 302, "guessing codes does not lock anybody out of signing in"


def test_only_owners_and_admins_redeem_and_only_for_their_own(
    customer: User, member: User, stranger: User, organization: Organization, code: str, signed_in: SignedIn
):
    assert redeem(signed_in(stranger), organization, code).status_code == 404
    assert redeem(signed_in(member), organization, code).status_code == 403
    assert reverse("redeem") not in signed_in(member).get("/").content.decode()
    assert redeem(Client(), organization, code).redirect_chain[0][0].startswith(reverse("sign-in"))
    assert signed_in(customer).get(reverse("redeem")).status_code == 405
    assert balance(organization.pk).available == 0
    Membership.objects.filter(user=member).update(role=Role.ADMIN)
    assert redeem(signed_in(member), organization, code).status_code == 200
    assert balance(organization.pk).available == FIVE_DOLLARS
