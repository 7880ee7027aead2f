"""Who belongs to an organisation: invitations, roles, leaving. Every change is in the audit log.

What a caller may do is decided here, whichever page or API asks (permissions.py has the table)."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts import audit, changes
from accounts.errors import InvalidAccountData, NotAllowed
from accounts.models import Invitation, Membership, Organization, User
from accounts.permissions import Permission, may
from accounts.roles import Role

VALID_FOR = timedelta(days=7)
MOST_OPEN = 50
"""Open invitations of one organisation: more is a mailing."""


@dataclass(frozen=True, slots=True)
class Invited:
    """`token` goes into the mail and nowhere else."""

    invitation: Invitation
    token: str


@transaction.atomic
def create_organization(*, name: str, owner: User) -> Organization:
    """A new organisation, owned by `owner`. Its wallet is opened by `credits.services.ensure_wallet`."""
    organization = Organization.objects.create(name=_name(name))
    Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
    audit.record(organization.pk, owner, "created the organisation", organization.name)
    return organization


@transaction.atomic
def rename(*, organization: Organization, name: str, by: User) -> None:
    _require(organization, by, Permission.MANAGE_SETTINGS)
    earlier, organization.name = organization.name, _name(name)
    organization.save(update_fields=("name",))
    audit.record(organization.pk, by, "renamed the organisation", organization.name, f"It was {earlier}.")


@transaction.atomic
def set_keeps_text(*, organization: Organization, on: bool, by: User) -> None:
    """Whether prompts and answers are kept; running processes follow at once. Raises NotAllowed."""
    _require(organization, by, Permission.MANAGE_SETTINGS)
    if Organization.objects.filter(pk=organization.pk, keeps_text=not on).update(keeps_text=on):
        audit.record(organization.pk, by, f"switched prompt logging {'on' if on else 'off'}")
        changes.publish(changes.KEY)


@transaction.atomic
def invite(*, organization: Organization, email: str, role: str, by: User) -> Invited:
    """Ask `email` to join; an open invitation of theirs is replaced. Raises InvalidAccountData and NotAllowed."""
    _require(organization, by, Permission.MANAGE_MEMBERS)
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidAccountData(f"{email!r} is not an e-mail address.") from None
    _require_role(organization, by, role)
    if Membership.objects.filter(organization=organization, user__email__iexact=email).exists():
        raise NotAllowed(f"{email} is a member already.")
    still_open = Invitation.objects.filter(organization=organization, ended_at=None)
    still_open.filter(email=email).update(ended_at=timezone.now())
    if still_open.filter(expires_at__gt=timezone.now()).count() >= MOST_OPEN:
        raise NotAllowed(f"{MOST_OPEN} invitations are open already: withdraw some first.")
    token = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        organization=organization,
        email=email,
        role=role,
        digest=_digest(token),
        invited_by=by,
        expires_at=timezone.now() + VALID_FOR,
    )
    audit.record(organization.pk, by, "invited", email, f"As {Role(role).label.lower()}.")
    return Invited(invitation, token)


def invitation_for(token: str) -> Invitation:
    """The open invitation behind a mail's link. Raises NotAllowed for one that is over or never was."""
    found = Invitation.objects.filter(digest=_digest(token)).select_related("organization", "invited_by").first()
    if found is None or found.ended_at is not None or found.expires_at <= timezone.now():
        raise NotAllowed("This invitation has ended. Ask for a new one.")
    return found


@transaction.atomic
def accept(*, token: str, user: User) -> Organization:
    """Join. Only the person who was invited may: the link alone is not enough. Raises NotAllowed."""
    invitation = invitation_for(token)
    if user.email.lower() != invitation.email:
        raise NotAllowed(f"This invitation is for {invitation.email}. Sign in with that address to accept it.")
    if not Invitation.objects.filter(pk=invitation.pk, ended_at=None).update(ended_at=timezone.now()):
        raise NotAllowed("This invitation has ended. Ask for a new one.")
    organization = invitation.organization
    _, joined = Membership.objects.get_or_create(
        organization=organization, user=user, defaults={"role": invitation.role}
    )
    if joined:
        audit.record(organization.pk, user, "joined", user.email, f"As {Role(invitation.role).label.lower()}.")
    return organization


@transaction.atomic
def withdraw(*, invitation: Invitation, by: User) -> None:
    _require(invitation.organization, by, Permission.MANAGE_MEMBERS)
    if Invitation.objects.filter(pk=invitation.pk, ended_at=None).update(ended_at=timezone.now()):
        audit.record(invitation.organization_id, by, "withdrew the invitation of", invitation.email)


@transaction.atomic
def change_role(*, organization: Organization, user: User, role: str, by: User) -> None:
    """Raises NotAllowed: only owners make or unmake owners, and one owner must remain."""
    _require(organization, by, Permission.MANAGE_MEMBERS)
    membership = _membership(organization, user)
    if membership.role == role:
        return
    _require_role(organization, by, role)
    _require_role(organization, by, membership.role)
    earlier, membership.role = membership.role, role
    membership.save(update_fields=("role",))
    _require_an_owner(organization)
    words = f"From {Role(earlier).label.lower()} to {Role(role).label.lower()}."
    audit.record(organization.pk, by, "changed the role of", user.email, words)


@transaction.atomic
def remove(*, organization: Organization, user: User, by: User) -> None:
    """Take a member out, or leave (`by` is `user`). Raises NotAllowed."""
    membership = _membership(organization, user)
    if by != user:
        _require(organization, by, Permission.MANAGE_MEMBERS)
        _require_role(organization, by, membership.role)
    if organization.personal_owner_id == user.pk:
        raise NotAllowed("A personal organisation keeps its owner.")
    membership.delete()
    _require_an_owner(organization)
    audit.record(organization.pk, by, "left" if by == user else "removed", user.email)


def _name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 120:
        raise InvalidAccountData("An organisation's name has 1 to 120 characters.")
    return name


def _digest(token: str) -> str:
    """Tokens are random: no key is needed to keep them from being guessed."""
    return sha256(token.encode()).hexdigest()


def _membership(organization: Organization, user: User) -> Membership:
    """Locks the organisation's row first, so that two owners cannot both leave at once."""
    Organization.objects.select_for_update().get(pk=organization.pk)
    membership = Membership.objects.filter(organization=organization, user=user).first()
    if membership is None:
        raise NotAllowed(f"{user.email} is no member of {organization.name}.")
    return membership


def _require(organization: Organization, user: User, permission: Permission) -> None:
    role = Membership.objects.filter(organization=organization, user=user).values_list("role", flat=True).first()
    if role is None or not may(role, permission):
        raise NotAllowed(f"Your role in {organization.name} does not let you {permission.value}.")


def _require_role(organization: Organization, by: User, role: str) -> None:
    """Whether `by` may give or take this role."""
    if role not in Role.values:
        raise InvalidAccountData(f"{role!r} is no role: choose one of {', '.join(Role.values)}.")
    if role == Role.OWNER:
        _require(organization, by, Permission.OWN)


def _require_an_owner(organization: Organization) -> None:
    if not Membership.objects.filter(organization=organization, role=Role.OWNER).exists():
        raise NotAllowed("An organisation needs an owner: make somebody else one first.")
