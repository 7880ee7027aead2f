"""Every route, with another tenant's ids: 404. And every route for every role: 403 where the table of permissions says
so, and only there. The register is `routes.py`."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from accounts.members import invite
from accounts.models import ApiKey, Membership, User
from accounts.permissions import may
from accounts.roles import Role
from accounts.services import create_key, get_or_create_user
from credits.models import PriceSnapshot, UsageRecord
from credits.payments.models import TopUp, TopUpKind
from credits.services import ensure_wallet
from providers.models import Credential, Provider
from providers.profiles import Author, Owner, set_profile
from providers.types import Profile
from tests.adminui.routes import ELSEWHERE, OPERATORS, ROUTES, Row, Things

pytestmark = pytest.mark.django_db
PAGES = [(name, row) for name, row in ROUTES.items() if isinstance(row, Row)]
NAMING = [(name, row) for name, row in PAGES if row.names_an_object]


def tenant(name: str, provider: Provider) -> Things:
    """An organisation with one of everything; the key is its plain member's."""
    owner, _ = get_or_create_user(email=f"owner@{name}.example", password="a long enough password")
    organization = owner.personal_organization
    ensure_wallet(organization.pk)
    member = User.objects.create_user(f"member@{name}.example", "a long enough password")
    Membership.objects.create(organization=organization, user=member, role=Role.DEVELOPER)
    key = ApiKey.objects.get(pk=create_key(organization=organization, name="key", created_by=member).id)
    set_profile(owner=Owner.key(key.pk), profile=Profile(think="demo-sonnet"), by=Author(owner.pk, "a test"))
    credential = Credential(provider=provider, organization=organization, label="own")
    credential.set_secret(f"sk-own-of-{name}")
    credential.save()
    price, _ = PriceSnapshot.objects.get_or_create(
        input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1, web_search=0
    )
    UsageRecord.objects.create(
        request_id=f"req_{name}", organization=organization, api_key=key, model="m", route="default", status=200,
        usage_source="provider", price_snapshot=price, session_id=f"session-{name}", created_at=timezone.now(),
    )  # fmt: skip
    top_up = TopUp.objects.create(organization=organization, kind=TopUpKind.MANUAL, amount=10**10, key=f"top-up-{name}")
    invitation = invite(organization=organization, email=f"new@{name}.example", role=Role.DEVELOPER, by=owner)
    return Things(
        organization, owner, member, key, credential, invitation.invitation, top_up, f"req_{name}", f"session-{name}"
    )


@pytest.fixture
def provider(demo_model: str) -> Provider:
    return Provider.objects.create(name="closed", kind="anthropic-compatible", base_url="http://127.0.0.1:9")


@pytest.fixture
def mine(provider: Provider) -> Things:
    return tenant("mine", provider)


@pytest.fixture
def theirs(provider: Provider) -> Things:
    return tenant("theirs", provider)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may test a key's connection, and not whether it works."""

    async def dry(*_: Any) -> dict[str, Any]:
        return {}

    from providers.connection import ConnectionResult

    monkeypatch.setattr("providers.connection.check_own", lambda *_: ConnectionResult(True, "hi", 200, 1))
    monkeypatch.setattr("adminui.views.billing.client.is_on", lambda: True)
    monkeypatch.setattr("adminui.views.billing._send", lambda *_: None)
    monkeypatch.setattr("adminui.views.routing.dry_run", dry)
    monkeypatch.setattr("adminui.views.routing.running", lambda: None)
    monkeypatch.setattr(logging.root.manager, "disable", logging.WARNING)


def ask(user: User, name: str, row: Row, things: Things, organization_id: int) -> Any:
    """The route's own request, in the organisation, naming the object of `things`."""
    client = Client()
    client.force_login(user)
    address = reverse(name, kwargs={**row.fixed, **row.kwargs(things)})
    fields = {"organization": organization_id, **row.query(things), **row.form(things)}
    return client.get(address, fields) if row.method == "GET" else client.post(address, fields)


def routes(resolver: URLResolver, prefix: str = "", namespace: str = "") -> Iterator[tuple[str, str]]:
    """Address and name of each route, the included ones too."""
    for pattern in resolver.url_patterns:
        address = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from routes(pattern, address, inner)
        elif isinstance(pattern, URLPattern):
            yield address, f"{namespace}{pattern.name}"


def test_every_route_is_in_the_register():
    known = {name for address, name in routes(get_resolver()) if not address.startswith(ELSEWHERE)}
    documents = {name for address, name in routes(get_resolver()) if name in ROUTES}
    missing, gone = known - set(ROUTES), set(ROUTES) - known - documents
    assert not missing, f"Add a row for each of these routes to tests/adminui/routes.py: {sorted(missing)}"
    assert not gone, f"These routes are no more: {sorted(gone)}"


@pytest.mark.parametrize(("name", "row"), PAGES, ids=[name for name, _ in PAGES])
def test_another_tenants_organisation_is_not_there(name: str, row: Row, mine: Things, theirs: Things):
    assert ask(mine.owner, name, row, mine, theirs.organization.pk).status_code == 404
    assert ask(mine.owner, name, row, mine, mine.organization.pk).status_code != 404


@pytest.mark.parametrize(("name", "row"), NAMING, ids=[name for name, _ in NAMING])
def test_another_tenants_object_is_not_there(name: str, row: Row, mine: Things, theirs: Things):
    answer = ask(mine.owner, name, row, theirs, mine.organization.pk)
    assert answer.status_code == 404
    for secret in (theirs.key.name + theirs.key.last_four, theirs.member.email, theirs.credential.masked):
        assert secret not in answer.content.decode()
    before, after = vars(ApiKey.objects.get(pk=theirs.key.pk)), vars(theirs.key)
    assert {name: before[name] for name in after if name[0] != "_"} == {
        name: after[name] for name in after if name[0] != "_"
    }
    assert Credential.objects.get(pk=theirs.credential.pk).sealed == theirs.credential.sealed


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("name", "row"), PAGES, ids=[name for name, _ in PAGES])
def test_each_role_may_what_the_table_says(name: str, row: Row, role: Role, mine: Things):
    Membership.objects.filter(user=mine.member).update(role=role)
    answer = ask(mine.member, name, row, mine, mine.organization.pk)
    allowed = row.permission is None or may(role, row.permission)
    assert (answer.status_code == 403) == (not allowed), answer.status_code
    assert answer.status_code < 500


@pytest.mark.parametrize(("name", "row"), PAGES, ids=[name for name, _ in PAGES])
def test_visitors_are_asked_to_sign_in(name: str, row: Row, mine: Things):
    address = reverse(name, kwargs={**row.fixed, **row.kwargs(mine)})
    answer = Client().get(address) if row.method == "GET" else Client().post(address)
    if row.public:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 302
        assert answer["Location"].startswith(reverse("account_login"))


def test_customers_have_no_admin(mine: Things):
    client = Client()
    client.force_login(mine.owner)
    for model in admin.site._registry:
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert client.get(address).status_code == 302, address
    for name, row in ROUTES.items():
        if row == OPERATORS:
            assert client.get(reverse(name)).status_code in {302, 403, 404}
