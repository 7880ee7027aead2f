"""The pages that visitors and customers see."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Organization, User
from accounts.roles import Role
from adminui import throttle
from credits import services as credits
from credits.services import ensure_wallet
from credits.usage import rollups
from providers.models import Model, ModelPrice
from tests.adminui.conftest import PASSWORD

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


def sign_in(client: Client, email: str, password: str = PASSWORD, **data: str):
    return client.post(reverse("sign-in"), {"username": email, "password": password, **data})


def test_a_visitor_sees_what_ccm_is_and_where_to_sign_in(client: Client):
    page = client.get("/").content.decode()
    assert "Claude" in page
    assert reverse("sign-in") in page
    assert "No models are on offer yet." in page


def test_the_landing_page_lists_models_with_their_prices(client: Client, demo_model: str):
    page = client.get("/").content.decode()
    assert demo_model in page
    assert "$1.25" in page
    assert "$0.125" in page
    assert "$10.00" in page


def test_signing_in_by_e_mail_in_any_case_leads_to_the_dashboard(client: Client, customer: User):
    answer = sign_in(client, "Ada@Example.COM")
    assert answer.status_code == 302
    assert answer["Location"] == reverse("home")
    assert "API keys" in client.get("/").content.decode()


def test_a_wrong_password_says_so_without_telling_which_part_was_wrong(client: Client, customer: User):
    known, unknown = sign_in(client, customer.email, "wrong"), sign_in(client, "nobody@example.com", "wrong")
    for answer in (known, unknown):
        assert answer.status_code == 200
        assert "The e-mail address or the password is wrong." in answer.content.decode()


def test_signing_in_does_not_redirect_to_another_site(client: Client, customer: User):
    assert sign_in(client, customer.email, next="https://evil.example/")["Location"] == reverse("home")


@pytest.mark.parametrize("page", ["sign-in", "admin:login"])
def test_too_many_failures_must_wait_even_with_the_right_password(client: Client, operator: User, page: str):
    data = {"username": operator.email, "password": "wrong"}
    for _ in range(throttle.FAILURES):
        client.post(reverse(page), data)
    blocked = client.post(reverse(page), {**data, "password": PASSWORD})
    assert "Too many attempts" in blocked.content.decode()
    assert "_auth_user_id" not in client.session
    elsewhere = client.post(reverse(page), {**data, "password": PASSWORD}, REMOTE_ADDR="192.0.2.7")
    assert elsewhere.status_code == 302


def test_a_success_clears_the_failures(client: Client, customer: User):
    for _ in range(2):
        for _ in range(throttle.FAILURES - 1):
            sign_in(client, customer.email, "wrong")
        assert sign_in(client, customer.email).status_code == 302
        client.logout()


def test_signing_out_takes_a_post(customer: User, signed_in: SignedIn):
    client = signed_in(customer)
    assert client.get(reverse("sign-out")).status_code == 405
    assert client.post(reverse("sign-out")).status_code == 302
    assert "_auth_user_id" not in client.session


def test_a_password_is_changed(client: Client, customer: User, signed_in: SignedIn):
    new = "another long password"
    data = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    page = signed_in(customer).post(reverse("password-change"), data, follow=True)
    assert "Password changed" in page.content.decode()
    assert sign_in(client, customer.email, new).status_code == 302


def test_a_customer_finds_balance_keys_and_the_lines_to_paste(
    customer: User, organization: Organization, key, signed_in: SignedIn
):
    credits.grant(organization.pk, 12_340_000_000, reason="test", idempotency_key="test:1")
    client = signed_in(customer)
    page = client.get("/").content.decode()
    assert "$12.34" in page
    assert "No requests yet" in page
    keys = client.get(reverse("keys")).content.decode()
    assert "laptop" in keys
    assert key.masked in keys
    lines = client.get(reverse("connect")).content.decode()
    assert "export ANTHROPIC_BASE_URL=" in lines
    assert "CLAUDE_CODE_GATEWAY_HINT_HEADERS" in lines


def test_the_dashboard_shows_the_newest_requests_of_this_organisation_only(
    customer: User, stranger: User, usage: Callable[..., None], signed_in: SignedIn
):
    usage(customer.personal_organization, model="my-model", charge=1_234_567)
    usage(stranger.personal_organization, model="their-model", charge=1)
    page = signed_in(customer).get("/").content.decode()
    assert "my-model" in page
    assert "$0.001234567" in page
    assert "background" in page
    assert "their-model" not in page


def test_a_member_of_two_organisations_can_look_at_either(customer: User, signed_in: SignedIn):
    team = Organization.objects.create(name="Analytical Engines")
    ensure_wallet(team.pk)
    Membership.objects.create(organization=team, user=customer, role=Role.DEVELOPER)
    client = signed_in(customer)
    assert "<h1>ada</h1>" in client.get("/").content.decode()
    page = client.get("/", {"organization": team.pk}).content.decode()
    assert "<h1>Analytical Engines</h1>" in page
    assert "<h1>Analytical Engines</h1>" in client.get("/").content.decode()  # it stays chosen


@pytest.mark.parametrize("asked", ["other", "999999", "x"])
def test_another_tenants_dashboard_is_not_there(customer: User, stranger: User, signed_in: SignedIn, asked: str):
    organization = str(stranger.personal_organization.pk) if asked == "other" else asked
    assert signed_in(customer).get("/", {"organization": organization}).status_code == 404


def test_somebody_in_no_organisation_is_told_so(operator: User, signed_in: SignedIn):
    page = signed_in(operator).get("/").content.decode()
    assert "No organisation yet" in page
    assert reverse("admin:index") in page


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/no/such/page"])
def test_pages_carry_a_strict_content_security_policy(client: Client, path: str):
    policy = client.get(path)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


def test_the_admin_may_run_what_it_is_built_on(operator: User, signed_in: SignedIn):
    policy = signed_in(operator).get(reverse("admin:index"))["Content-Security-Policy"]
    assert "'unsafe-eval'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("path", ["/", "/sign-in/"])
def test_pages_have_no_inline_script_or_style(client: Client, path: str):
    page = client.get(path).content.decode()
    assert page.count("<script") == page.count("<script src=")
    assert "style=" not in page
    assert "<style" not in page


def test_an_unknown_page_is_our_own_404(client: Client):
    answer = client.get("/no/such/page")
    assert answer.status_code == 404
    assert "Page not found" in answer.content.decode()


def test_an_error_is_our_own_500(monkeypatch: pytest.MonkeyPatch):
    def fail(_request: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("adminui.views.home.landing", fail)
    answer = Client(raise_request_exception=False).get("/")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.content.decode()
    assert "on purpose" not in answer.content.decode()


def test_browsers_find_an_icon(client: Client):
    assert client.get("/favicon.ico")["Location"].endswith("/favicon.svg")


def test_the_price_page_tells_what_long_requests_cost(client: Client, demo_model: str):
    model = Model.objects.get(name=demo_model)
    tiers = [{"above": 200000, "input": "2.75", "output": "15"}]
    ModelPrice.objects.create(model=model, input=Decimal("1.25"), output=Decimal(10), tiers=tiers)
    page = client.get("/").content.decode()
    assert "with more than 200,000 input tokens" in page
    assert "$2.75" in page


def test_the_dashboard_sums_up_what_this_organisation_spent(
    customer: User, stranger: User, usage: Callable[..., None], signed_in: SignedIn
):
    for model, charge in (("my-model", 1_250_000_000), ("my-model", 2_000_000_000), ("my-other", 500_000_000)):
        usage(customer.personal_organization, model=model, charge=charge, cost=123_456_789)
    usage(stranger.personal_organization, model="their-model", charge=7_000_000_000)
    for _ in range(2):
        page = signed_in(customer).get("/").content.decode()
        figures = page[page.index("<dl") : page.index("</dl>")]
        assert figures.count("$3.75") == 2  # today and this month
        assert page.index("$3.25") < page.index('<td class="num">$0.50</td>')  # the most first
        assert "2,468" in page  # input tokens of my-model
        assert "their-model" not in page
        assert "$0.123456789" not in page
        rollups.roll_up(timezone.now() + timedelta(minutes=5))
