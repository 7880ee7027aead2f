"""The operators' pages: every one of them opens, on an empty and on a filled database."""

from collections.abc import Callable

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts.models import ApiKey, Organization, User
from adminui.unfold import SIDEBAR
from credits import guards
from credits.models import UsageRecord
from credits.selectors import balance

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


def registered() -> list[str]:
    admin.autodiscover()  # else there is nothing yet when the tests are collected
    return sorted(model._meta.label_lower for model in admin.site._registry)


def test_the_sidebar_has_every_page():
    assert {name for entries in SIDEBAR.values() for _, name, _ in entries} == set(registered())


@pytest.fixture
def filled(customer: User, key: ApiKey, demo_model: str, usage: Callable[..., None]) -> None:
    usage(customer.personal_organization, model=demo_model, charge=2_500_000_000, cost=1_000_000_000)


@pytest.mark.parametrize("name", registered())
def test_every_list_and_form_opens(name: str, filled: None, operator: User, signed_in: SignedIn):
    client = signed_in(operator)
    app_label, model_name = name.split(".")
    page = admin.site._registry[next(m for m in admin.site._registry if m._meta.label_lower == name)]
    prefix = f"admin:{app_label}_{model_name}"
    listing = client.get(reverse(f"{prefix}_changelist"))
    assert listing.status_code == 200
    may_add = page.has_add_permission(listing.wsgi_request)
    assert client.get(reverse(f"{prefix}_add")).status_code == (200 if may_add else 403)
    for row in page.model._default_manager.all()[:1]:
        assert client.get(reverse(f"{prefix}_change", args=[row.pk])).status_code == 200


def test_a_usage_record_says_in_words_why_it_took_its_route(filled: None, operator: User, signed_in: SignedIn):
    why = [
        {"rule": "think", "matched": False, "why": "Nothing asks for thinking."},
        {"rule": "background", "matched": True, "why": "The name <haiku> matches."},
    ]
    record = UsageRecord.objects.get()
    guards.remove(connection)  # a record never changes: only to have these words in it
    UsageRecord.objects.filter(pk=record.pk).update(why=why)
    guards.install(connection)
    page = signed_in(operator).get(reverse("admin:credits_usagerecord_change", args=[record.pk])).content.decode()
    assert "<b>think</b> Nothing asks for thinking." in page
    assert "<b>background</b> ✓ The name &lt;haiku&gt; matches." in page


def test_the_overview_of_an_empty_installation(operator: User, signed_in: SignedIn):
    page = signed_in(operator).get(reverse("admin:index")).content.decode()
    assert "Requests today" in page
    assert "$0.00" in page
    assert "No reconciliation has run yet." in page


def test_the_overview_counts_today(filled: None, operator: User, signed_in: SignedIn):
    page = signed_in(operator).get(reverse("admin:index")).content.decode()
    assert "$2.50" in page  # charged
    assert "$1.50" in page  # margin


def test_operators_see_usage_by_day_and_model_and_may_change_none(filled: None, operator: User, signed_in: SignedIn):
    client = signed_in(operator)
    address = reverse("admin:credits_usagerollup_changelist")
    page = client.get(address).content.decode()
    for text in ("demo-sonnet", "1,234", "$2.50", "$1.00", "$1.50", "Total"):
        assert text in page
    assert client.post(reverse("admin:credits_usagerollup_add")).status_code == 403
    User.objects.filter(pk=operator.pk).update(is_superuser=False)
    assert client.get(address).status_code == 403


def test_the_overview_warns_of_what_needs_an_operator(operator: User, signed_in: SignedIn):
    from providers.models import Model, Provider

    Provider.objects.create(name="keyless", kind="openai")
    Model.objects.create(name="priceless")
    page = signed_in(operator).get(reverse("admin:index")).content.decode()
    assert "Providers without a credential: keyless" in page
    assert "Models without a price, which are refused: priceless" in page
    assert "Models that no usable provider serves: priceless" in page


def test_the_sidebar_shows_only_what_an_operator_may_see(operator: User, signed_in: SignedIn):
    User.objects.filter(pk=operator.pk).update(is_superuser=False)
    page = signed_in(operator).get(reverse("admin:index")).content.decode()
    assert reverse("admin:accounts_user_changelist") not in page
    assert "Requests today" not in page


def test_customers_have_no_way_in(customer: User, signed_in: SignedIn):
    answer = signed_in(customer).get(reverse("admin:index"))
    assert answer.status_code == 302
    assert answer["Location"].startswith(reverse("admin:login"))


def test_a_user_added_by_an_operator_has_an_organisation_and_a_wallet(operator: User, signed_in: SignedIn):
    data = {
        "email": "Grace@Example.com",
        "usable_password": "true",
        "password1": "a long enough password",
        "password2": "a long enough password",
    }
    answer = signed_in(operator).post(reverse("admin:accounts_user_add"), data)
    assert answer.status_code == 302
    user = User.objects.get(email="grace@example.com")
    assert user.check_password("a long enough password")
    assert balance(user.personal_organization.pk).available == 0


def test_an_organisation_added_by_an_operator_has_a_wallet(operator: User, customer: User, signed_in: SignedIn):
    data = {
        "name": "Analytical Engines",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "0",
        "memberships-0-user": str(customer.pk),
        "memberships-0-role": "owner",
    }
    answer = signed_in(operator).post(reverse("admin:accounts_organization_add"), data)
    assert answer.status_code == 302
    organization = Organization.objects.get(name="Analytical Engines")
    assert organization.memberships.get().user == customer
    assert balance(organization.pk).available == 0
