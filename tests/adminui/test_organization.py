"""Members, invitations, roles and the audit log, on the pages."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry, Invitation, Membership, Organization, User
from accounts.permissions import PERMISSIONS, Permission, may
from accounts.roles import Role
from adminui.mail import message
from credits.models import Wallet

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]


@pytest.fixture(autouse=True)
def _mail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adminui.mail.send", lambda to, subject, text: message(to, subject, text).send())


def invite(client: Client, email: str = "tom@example.org", role: str = Role.DEVELOPER):
    return client.post(reverse("organization-invite"), {"email": email, "role": role})


def link() -> str:
    found = re.search(r"https?://[^/]+(/invitations/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found[1]


def role_of(user: User, organization: Organization) -> str | None:
    return Membership.objects.filter(user=user, organization=organization).values_list("role", flat=True).first()


def test_somebody_is_invited_by_mail_and_joins_by_a_click(
    customer: User, organization: Organization, stranger: User, signed_in: SignedIn
):
    assert invite(signed_in(customer), stranger.email, Role.BILLING).status_code == 302
    assert mail.outbox[-1].to == [stranger.email]
    assert organization.name in mail.outbox[-1].subject
    theirs = signed_in(stranger)
    assert "Join ada" in theirs.get(link()).content.decode()
    assert role_of(stranger, organization) is None, "opening the link joins nobody"
    page = theirs.post(link(), follow=True).content.decode()
    assert "You are a member of ada." in page
    assert role_of(stranger, organization) == Role.BILLING
    assert theirs.post(link()).status_code == 409, "a link is good once"


def test_an_invitation_is_for_one_address_only(customer: User, organization: Organization, stranger: User, signed_in):
    invite(signed_in(customer), "somebody.else@example.org")
    answer = signed_in(stranger).post(link())
    assert answer.status_code == 409
    assert "somebody.else@example.org" in answer.content.decode()
    assert role_of(stranger, organization) is None


def test_an_invitation_ends_when_it_is_withdrawn_replaced_or_old(
    customer: User, organization: Organization, stranger: User, signed_in: SignedIn
):
    client, theirs = signed_in(customer), signed_in(stranger)
    invite(client, stranger.email)
    first = link()
    invite(client, stranger.email)
    second = link()
    assert theirs.get(first).status_code == 409
    client.post(reverse("organization-withdraw", args=[Invitation.objects.latest("pk").pk]))
    assert theirs.get(second).status_code == 409
    invite(client, stranger.email)
    Invitation.objects.filter(ended_at=None).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert theirs.get(link()).status_code == 409
    assert theirs.get("/invitations/nonsense/").status_code == 409
    assert role_of(stranger, organization) is None


@pytest.mark.parametrize(("email", "says"), [("ada@example.com", "member already"), ("nonsense", "valid email")])
def test_who_cannot_be_invited_and_why(customer: User, signed_in: SignedIn, email: str, says: str):
    answer = invite(signed_in(customer), email)
    assert answer.status_code == 400
    assert says in answer.content.decode()
    assert mail.outbox == []


def test_the_mails_token_is_kept_nowhere(customer: User, signed_in: SignedIn):
    invite(signed_in(customer))
    token = link().strip("/").rsplit("/", 1)[-1]
    stored = str(list(Invitation.objects.values())) + str(list(AuditEntry.objects.values()))
    assert token not in stored


def test_an_admin_manages_members_but_no_owners(
    customer: User, member: User, organization: Organization, stranger: User, signed_in: SignedIn
):
    Membership.objects.filter(user=member).update(role=Role.ADMIN)
    Membership.objects.create(organization=organization, user=stranger, role=Role.DEVELOPER)
    client = signed_in(member)
    client.post(reverse("organization-role", args=[stranger.pk]), {"role": Role.BILLING})
    assert role_of(stranger, organization) == Role.BILLING
    for user, role in ((stranger, Role.OWNER), (customer, Role.DEVELOPER), (member, Role.OWNER)):
        page = client.post(reverse("organization-role", args=[user.pk]), {"role": role}, follow=True)
        assert "does not let you change owners" in page.content.decode()
    client.post(reverse("organization-remove", args=[customer.pk]))
    assert role_of(customer, organization) == Role.OWNER
    assert invite(client, "boss@example.org", Role.OWNER).status_code == 400
    client.post(reverse("organization-remove", args=[stranger.pk]))
    assert role_of(stranger, organization) is None


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.BILLING])
def test_others_see_the_members_and_change_none(
    customer: User, member: User, organization: Organization, signed_in: SignedIn, role: str
):
    Membership.objects.filter(user=member).update(role=role)
    client = signed_in(member)
    page = client.get(reverse("organization")).content.decode()
    assert customer.email in page
    assert reverse("organization-invite") not in page
    assert invite(client).status_code == 403
    assert client.post(reverse("organization-role", args=[member.pk]), {"role": Role.ADMIN}).status_code == 403
    assert client.post(reverse("organization-rename"), {"name": "Mine"}).status_code == 403
    assert client.get(reverse("organization-log")).status_code == 403
    client.post(reverse("organization-remove", args=[customer.pk]))
    assert role_of(customer, organization) == Role.OWNER
    assert role_of(member, organization) == role


def test_a_member_leaves_and_the_last_owner_cannot(customer: User, signed_in: SignedIn, stranger: User):
    client = signed_in(customer)
    client.post(reverse("organizations-new"), {"name": "Engines"})
    team = Organization.objects.get(name="Engines")
    assert Wallet.objects.filter(pk=team.pk).exists()
    page = client.post(reverse("organization-remove", args=[customer.pk]), {"organization": team.pk}, follow=True)
    assert "needs an owner" in page.content.decode()
    Membership.objects.create(organization=team, user=stranger, role=Role.OWNER)
    client.post(reverse("organization-remove", args=[customer.pk]), {"organization": team.pk})
    assert role_of(customer, team) is None
    assert "<h1>ada</h1>" in client.get("/").content.decode()


def test_a_personal_organisation_keeps_its_owner(customer: User, organization: Organization, stranger, signed_in):
    Membership.objects.create(organization=organization, user=stranger, role=Role.OWNER)
    page = signed_in(customer).post(reverse("organization-remove", args=[customer.pk]), follow=True)
    assert role_of(customer, organization) == Role.OWNER
    assert page.status_code == 200


def test_every_change_is_in_the_log_with_who_did_it(
    customer: User, member: User, organization: Organization, signed_in: SignedIn
):
    client = signed_in(customer)
    client.post(reverse("organization-rename"), {"name": "Lovelace & Co"})
    invite(client, "x@example.org")
    client.post(reverse("organization-role", args=[member.pk]), {"role": Role.ADMIN})
    client.post(reverse("key-create"), {"name": "laptop"})
    client.post(reverse("organization-remove", args=[member.pk]))
    page = client.get(reverse("organization-log")).content.decode()
    for words in ("renamed the organisation", "invited", "changed the role of", "made the API key", "removed"):
        assert words in page
    assert page.count(f"<td>{customer.email}</td>") == 5
    assert "sk-ccm-" not in page


def test_another_tenants_members_and_invitations_are_not_there(
    customer: User, organization: Organization, stranger: User, signed_in: SignedIn
):
    invite(signed_in(customer), "x@example.org")
    client = signed_in(stranger)
    invitation = Invitation.objects.get()
    for name, number in (
        ("organization-withdraw", invitation.pk),
        ("organization-role", customer.pk),
        ("organization-remove", customer.pk),
    ):
        assert client.post(reverse(name, args=[number]), {"role": Role.ADMIN}).status_code == 404
    invitation.refresh_from_db()
    assert invitation.ended_at is None
    assert (
        client.post(reverse("organization-rename"), {"organization": organization.pk, "name": "x"}).status_code == 404
    )


def test_the_table_of_permissions():
    """Who may do what, in full: a change of the table is a change of this test."""
    managing = {
        Permission.MANAGE_KEYS,
        Permission.MANAGE_ROUTING,
        Permission.MANAGE_MEMBERS,
        Permission.MANAGE_SETTINGS,
    }
    everybody = {Permission.VIEW_USAGE, Permission.VIEW_MEMBERS}
    building = {Permission.USE_KEYS, Permission.VIEW_ROUTING}
    paying = {Permission.VIEW_BILLING, Permission.MANAGE_BILLING}
    assert {
        Role.OWNER: everybody | building | paying | managing | {Permission.OWN},
        Role.ADMIN: everybody | building | paying | managing,
        Role.DEVELOPER: everybody | building,
        Role.BILLING: everybody | paying,
    } == PERMISSIONS
    assert not may("emperor", Permission.VIEW_USAGE)
