"""How organisations and people leave for good.

Records of money stay, and with them the rows that they refer to; what these tell of people goes: a person's at once,
an organisation's when its time is over (`erase`). What becomes of the credits is decided in `credits.closing`."""

from datetime import datetime

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from accounts import audit, changes
from accounts.errors import InvalidAccountData, NotAllowed
from accounts.models import (
    ApiKey,
    AuditEntry,
    Invitation,
    Membership,
    OperatorToken,
    Organization,
    User,
)
from accounts.permissions import Permission, may
from accounts.roles import Role

GONE = "a deleted account"


@transaction.atomic
def close(*, organization: Organization, name: str, by: User) -> None:
    """Close it for good: its keys end at once, its invitations too, and nobody is a member any more.

    Raises NotAllowed, and InvalidAccountData when `name`, which the owner types, is not the organisation's."""
    organization = Organization.objects.select_for_update().get(pk=organization.pk)
    role = Membership.objects.filter(organization=organization, user=by).values_list("role", flat=True).first()
    if role is None or not may(role, Permission.OWN):
        raise NotAllowed(f"Your role in {organization.name} does not let you {Permission.OWN.value}.")
    if organization.personal_owner_id is not None:
        raise NotAllowed("A personal organisation is closed with its owner's account.")
    if name.strip() != organization.name:
        raise InvalidAccountData(f"Type the organisation's name as it stands here: {organization.name}")
    _close(organization, by)


def _close(organization: Organization, by: User) -> None:
    if organization.closed_at is not None:
        raise NotAllowed(f"{organization.name} is closed already.")
    now = timezone.now()
    ended = ApiKey.objects.filter(organization=organization, revoked_at=None).update(revoked_at=now)
    Invitation.objects.filter(organization=organization, ended_at=None).update(ended_at=now)
    audit.record(organization.pk, by, "closed the organisation", organization.name, f"{ended} API keys ended.")
    Membership.objects.filter(organization=organization).delete()
    Organization.objects.filter(pk=organization.pk).update(closed_at=now, keeps_text=False)
    changes.publish(changes.KEY)


def erase(organization: Organization) -> None:
    """Delete what a closed organisation still tells of people: names of things, its log. Money's records stay."""
    with transaction.atomic():
        AuditEntry.objects.filter(organization=organization).update(actor=None, subject="", details="")
        Invitation.objects.filter(organization=organization).delete()
        ApiKey.objects.filter(organization=organization).update(name="closed", created_by=None)
        Organization.objects.filter(pk=organization.pk).update(
            name=f"Closed organisation {organization.pk}", erased_at=timezone.now()
        )


def erasable(closed_before: datetime) -> list[Organization]:
    return list(Organization.objects.filter(closed_at__lt=closed_before, erased_at=None).order_by("pk")[:100])


def must_part_with(user: User) -> list[Organization]:
    """Organisations that would be left without an owner, their personal one aside."""
    owned = Membership.objects.filter(user=user, role=Role.OWNER, organization__personal_owner=None)
    return [
        each.organization
        for each in owned.select_related("organization").order_by("organization__name")
        if not _other_owners(each)
    ]


def _other_owners(membership: Membership) -> bool:
    owners = Membership.objects.filter(organization=membership.organization, role=Role.OWNER)
    return owners.exclude(user=membership.user).exists()


@transaction.atomic
def delete_account(*, user: User, email: str) -> None:
    """Delete a person's account: their personal organisation is closed, they leave all others, and what is kept of
    them goes at once. Raises NotAllowed, and InvalidAccountData when `email`, which they type, is not theirs."""
    user = User.objects.select_for_update().get(pk=user.pk)
    if email.strip().lower() != user.email:
        raise InvalidAccountData(f"Type your address as it stands here: {user.email}")
    if user.is_staff:
        raise NotAllowed("You are an operator of CCM: another operator must take that from you first.")
    if left := must_part_with(user):
        names = ", ".join(organization.name for organization in left)
        raise NotAllowed(f"You are the only owner of {names}: make somebody else one, or close it first.")
    personal = Organization.objects.filter(personal_owner=user, closed_at=None).first()
    if personal is not None:
        _close(personal, user)
        erase(personal)
    for membership in Membership.objects.filter(user=user):
        audit.record(membership.organization_id, None, "deleted their account", GONE)
    _forget(user)


def _forget(user: User) -> None:
    """The row stays, since records of money refer to it; nothing in it tells whose it was."""
    from allauth.account.models import EmailAddress
    from allauth.mfa.models import Authenticator
    from allauth.socialaccount.models import SocialAccount
    from allauth.usersessions.models import UserSession

    Membership.objects.filter(user=user).delete()
    Invitation.objects.filter(email__iexact=user.email).delete()
    AuditEntry.objects.filter(subject__iexact=user.email).update(subject=GONE)
    AuditEntry.objects.filter(actor=user).update(actor=None)
    OperatorToken.objects.filter(user=user).delete()
    Session.objects.filter(pk__in=UserSession.objects.filter(user=user).values("session_key")).delete()
    for model in (UserSession, EmailAddress, Authenticator, SocialAccount):
        model.objects.filter(user=user).delete()
    ApiKey.objects.filter(created_by=user).update(created_by=None)
    user.email = f"deleted-{user.pk}@deleted.invalid"
    user.first_name = user.last_name = ""
    user.is_active = False
    user.set_unusable_password()
    user.save()
