"""Taking data along, closing an organisation, deleting an account."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from accounts import members
from accounts.models import ApiKey, AuditEntry, Invitation, Membership, Organization, User
from accounts.roles import Role
from accounts.selectors import principal_by_digest
from accounts.services import create_key, get_or_create_user
from adminui import departures, takeout
from credits import closing
from credits import services as credits
from credits.models import AccountKind, Hold, LotKind, Transfer, Wallet
from credits.reconcile import reconcile
from credits.services import ensure_wallet
from providers.models import Credential, Provider
from tests.adminui.conftest import PASSWORD

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


@pytest.fixture
def team(customer: User) -> Organization:
    made = members.create_organization(name="Analytical Engines", owner=customer)
    ensure_wallet(made.pk)
    credits.grant(made.pk, 5_000_000_000, reason="start", idempotency_key="start")
    return made


def close(client: Client, team: Organization, name: str = "Analytical Engines") -> Any:
    return client.post(reverse("organization-close"), {"organization": team.pk, "name": name})


# --- closing ------------------------------------------------------------------------------------


def test_an_owner_closes_the_organisation(customer: User, team: Organization, member: User, signed_in: SignedIn):
    Membership.objects.create(organization=team, user=member, role=Role.DEVELOPER)
    key = ApiKey.objects.get(pk=create_key(organization=team, name="laptop", created_by=member).id)
    members.invite(organization=team, email="new@example.org", role=Role.DEVELOPER, by=customer)
    row = Credential(provider=Provider.objects.create(name="p", kind="demo"), organization=team, label="own")
    row.set_secret("their-own-key")
    row.save()
    client = signed_in(customer)
    page = client.get(reverse("organization-close"), {"organization": team.pk}).content.decode()
    assert "$5.00" in page
    assert close(client, team).status_code == 302
    assert principal_by_digest(key.digest) is None
    assert not Membership.objects.filter(organization=team).exists()
    assert not Credential.objects.filter(organization=team).exists()
    assert not Invitation.objects.filter(organization=team, ended_at=None).exists()
    assert Wallet.objects.get(pk=team.pk).posted == 0
    [left] = Transfer.objects.filter(debit__organization=team)
    assert (left.amount, left.credit.kind) == (5_000_000_000, AccountKind.ADJUSTMENT)
    assert AuditEntry.objects.get(organization=team, action="closed the organisation").actor == customer
    assert client.get("/", {"organization": team.pk}).status_code == 404
    assert "Analytical Engines" not in client.get("/").content.decode().replace("Analytical Engines is closed.", "")
    assert reconcile(full=True).ok


@pytest.mark.parametrize("kind", [LotKind.PROMO, LotKind.ADJUSTMENT])
def test_what_was_given_goes_back_to_where_it_came_from(team: Organization, customer: User, kind: LotKind):
    credits.grant(team.pk, 1_000, reason="x", idempotency_key="y", kind=kind)
    departures.close_organization(organization=team, name=team.name, by=customer)
    source = Transfer.objects.get(idempotency_key="grant:y").debit_id
    assert Transfer.objects.filter(debit__organization=team, credit_id=source, amount=1_000).exists()


def test_a_request_that_is_under_way_is_finished_and_the_rest_forfeited_later(
    team: Organization, customer: User, usage: Callable[..., None]
):
    usage(team, model="m", charge=2_000)
    Wallet.objects.filter(pk=team.pk).update(held=2_000_000_000)
    departures.close_organization(organization=team, name=team.name, by=customer)
    wallet = Wallet.objects.get(pk=team.pk)
    assert (wallet.posted, wallet.held) == (2_000_000_000, 2_000_000_000)
    assert closing.forfeit_closed() == 0
    Wallet.objects.filter(pk=team.pk).update(held=0)
    assert closing.forfeit_closed() == 2_000_000_000
    assert closing.forfeit_closed() == 0
    assert Hold.objects.filter(wallet_id=team.pk).exists()


def test_closing_is_refused_with_the_reason(
    team: Organization, customer: User, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
):
    client = signed_in(customer)
    wrong = close(client, team, "analytical engines")
    assert wrong.status_code == 400
    assert "Analytical Engines" in wrong.content.decode()
    Wallet.objects.filter(pk=team.pk).update(frozen=True)
    assert "disputed" in close(client, team).content.decode()
    Wallet.objects.filter(pk=team.pk).update(frozen=False, debt=1)
    assert "is owed" in close(client, team).content.decode()
    Wallet.objects.filter(pk=team.pk).update(debt=0)
    monkeypatch.setattr(closing, "OBJECTIONS", [lambda _organization_id: "A top-up is under way."])
    assert "A top-up is under way." in close(client, team).content.decode()
    team.refresh_from_db()
    assert team.closed_at is None
    assert Wallet.objects.get(pk=team.pk).posted == 5_000_000_000


@pytest.mark.parametrize("role", [Role.ADMIN, Role.DEVELOPER, Role.BILLING])
def test_only_owners_close(team: Organization, member: User, signed_in: SignedIn, role: Role):
    Membership.objects.create(organization=team, user=member, role=role)
    assert close(signed_in(member), team).status_code == 403
    team.refresh_from_db()
    assert team.closed_at is None


def test_strangers_find_nothing_and_a_personal_organisation_stays(
    team: Organization, organization: Organization, customer: User, stranger: User, signed_in: SignedIn
):
    assert close(signed_in(stranger), team).status_code == 404
    refused = signed_in(customer).post(
        reverse("organization-close"), {"organization": organization.pk, "name": organization.name}
    )
    assert refused.status_code == 400
    organization.refresh_from_db()
    assert organization.closed_at is None


def test_names_and_the_log_are_erased_when_the_time_is_over(team: Organization, customer: User):
    create_key(organization=team, name="ada's laptop", created_by=customer)
    departures.close_organization(organization=team, name=team.name, by=customer)
    assert departures.erase_closed() == 0
    Organization.objects.filter(pk=team.pk).update(closed_at=timezone.now() - timedelta(days=31))
    assert departures.erase_closed() == 1
    assert departures.erase_closed() == 0
    team.refresh_from_db()
    assert team.name == f"Closed organisation {team.pk}"
    assert not AuditEntry.objects.filter(organization=team).exclude(subject="", details="", actor=None).exists()
    assert ApiKey.objects.get(organization=team).name == "closed"
    assert Transfer.objects.filter(credit__organization=team).exists()


# --- leaving and deleting an account ------------------------------------------------------------


def test_somebody_leaves_and_the_last_owner_cannot(
    team: Organization, customer: User, member: User, signed_in: SignedIn
):
    Membership.objects.create(organization=team, user=member, role=Role.DEVELOPER)
    leave = lambda user: signed_in(user).post(  # noqa: E731
        reverse("organization-remove", args=[user.pk]), {"organization": team.pk}, follow=True
    )
    leave(member)
    assert not Membership.objects.filter(organization=team, user=member).exists()
    leave(customer)
    assert Membership.objects.filter(organization=team, user=customer).exists()


def signed_in_now(user: User) -> Client:
    """Signed in, and has just given the password again."""
    client = Client()
    client.post(reverse("account_login"), {"login": user.email, "password": PASSWORD})
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    return client


def delete(client: Client, email: str) -> Any:
    return client.post(reverse("account-delete"), {"email": email})


def test_an_account_is_deleted(customer: User, organization: Organization, key: ApiKey, member: User):
    credits.grant(organization.pk, 1_000, reason="x", idempotency_key="x")
    client, second = signed_in_now(customer), signed_in_now(customer)
    assert "$0.000001" in client.get(reverse("account-delete")).content.decode()
    assert delete(client, "somebody@example.com").status_code == 400
    assert delete(client, customer.email).status_code == 302
    customer.refresh_from_db()
    assert customer.email == f"deleted-{customer.pk}@deleted.invalid"
    assert not customer.is_active
    assert principal_by_digest(key.digest) is None
    for each in (client, second):
        assert each.get(reverse("keys")).status_code == 302, "no session is left"
    organization.refresh_from_db()
    assert organization.closed_at is not None
    assert organization.name == f"Closed organisation {organization.pk}"
    assert not AuditEntry.objects.filter(subject__contains="ada@").exists()
    assert reconcile(full=True).ok
    again, new = get_or_create_user(email="ada@example.com", password=PASSWORD)
    assert new, "the address can sign up anew"
    assert again.personal_organization.pk != organization.pk


def test_an_account_is_not_deleted_while_it_is_needed(customer: User, team: Organization, operator: User):
    client = signed_in_now(customer)
    refused = delete(client, customer.email)
    assert refused.status_code == 400
    assert "only owner of Analytical Engines" in refused.content.decode()
    assert "operator" in delete(signed_in_now(operator), operator.email).content.decode()
    assert User.objects.filter(email=customer.email, is_active=True).exists()


def test_an_old_sign_in_must_be_renewed_first(customer: User, signed_in: SignedIn):
    answer = delete(signed_in(customer), customer.email)
    assert answer.status_code == 302
    assert "reauthenticate" in answer["Location"]
    assert User.objects.filter(email=customer.email).exists()


# --- data ---------------------------------------------------------------------------------------


def unpacked(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_all_data_of_an_organisation_and_no_secret(
    customer: User, team: Organization, stranger: User, usage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(takeout, "BATCH", 2)
    secrets = [create_key(organization=team, name=f"=key {number}", created_by=customer).secret for number in range(3)]
    usage(team, model="my-model", charge=1_500, cost=98_765_432_109)
    usage(stranger.personal_organization, model="their-model", charge=1)
    files = unpacked(b"".join(takeout.takeout(team)))
    everything = "".join(files.values())
    for secret in secrets:
        assert secret not in everything
    for key in ApiKey.objects.filter(organization=team):
        assert key.digest not in everything
    assert "their-model" not in everything
    assert "98765432109" not in everything, "what the operator paid is not the customer's to know"
    assert [each["email"] for each in rows(files["members.csv"])] == [customer.email]
    assert [each["name"] for each in rows(files["keys.csv"])][:3] == ["'=key 0", "'=key 1", "'=key 2"]
    assert [each["model"] for each in rows(files["usage.csv"])] == ["my-model"]
    assert [(each["amount_usd"], each["what"]) for each in rows(files["ledger.csv"])] == [("5.00", "grant")]
    assert json.loads(files["organization.json"])["name"] == team.name
    assert "made the API key" in {each["action"] for each in rows(files["log.csv"])}


@pytest.mark.django_db(transaction=True)
@pytest.mark.asyncio
async def test_the_file_is_sent_in_parts(customer: User, organization: Organization):
    client = AsyncClient()
    await client.aforce_login(customer)
    answer = await client.get(reverse("organization-export"))
    assert answer["Content-Type"] == "application/zip"
    assert ".zip" in answer["Content-Disposition"]
    parts: Any = answer.streaming_content  # type: ignore[attr-defined]
    files = unpacked(b"".join([part async for part in parts]))
    await sync_to_async(connections.close_all)()  # of the thread that has asked the database
    assert "README.txt" in files


def test_only_who_may_change_the_settings_takes_all_data(organization: Organization, member: User, signed_in: SignedIn):
    assert signed_in(member).get(reverse("organization-export")).status_code == 403


def test_a_person_gets_what_is_kept_of_them(customer: User, stranger: User, signed_in: SignedIn):
    told = signed_in(customer).get(reverse("own-data"))
    assert told["Content-Disposition"].startswith("attachment")
    data = told.json()
    assert data["email"] == customer.email
    assert stranger.email not in told.content.decode()
    assert "password" not in data
