"""The verbs of the accounts app. Opening a wallet for a new organisation is `credits`' part:
use `credits.services.open_account`, which calls these."""

from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts import audit, changes, keys
from accounts.emails import vouch_for
from accounts.errors import InvalidAccountData
from accounts.models import ApiKey, Membership, Organization, User
from accounts.roles import Role
from accounts.types import Limits, NewKey


@transaction.atomic
def get_or_create_user(*, email: str, password: str | None = None) -> tuple[User, bool]:
    """The user with this e-mail address (in any case) and whether it is new. A new user owns a personal
    organisation, and their address counts as verified: who calls this knows them.

    Raises InvalidAccountData for an address that is none."""
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise InvalidAccountData(f"{email!r} is not an e-mail address.") from None
    user = User.objects.filter(email__iexact=email).first()
    if user is not None:
        ensure_personal_organization(user=user)
        return user, False
    user = User.objects.create_user(email, password)
    vouch_for(user)
    ensure_personal_organization(user=user)
    return user, True


@transaction.atomic
def ensure_personal_organization(*, user: User) -> Organization:
    organization, created = Organization.objects.get_or_create(
        personal_owner=user, defaults={"name": user.email.split("@")[0][:120]}
    )
    if created:
        Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
    return organization


@transaction.atomic
def get_or_create_organization(*, name: str, owner: User) -> Organization:
    """The organisation `name` that `owner` belongs to, made with them as its owner if new."""
    name = name.strip()
    if not name or len(name) > 120:
        raise InvalidAccountData("An organisation's name has 1 to 120 characters.")
    organization = Organization.objects.filter(name=name, memberships__user=owner).first()
    if organization is None:
        organization = Organization.objects.create(name=name)
        Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
    return organization


@transaction.atomic
def create_key(
    *, organization: Organization, name: str, created_by: User | None, expires_at: datetime | None = None
) -> NewKey:
    """Make an API key; its secret is in the answer and nowhere else."""
    name = name.strip()
    if not name or len(name) > 80:
        raise InvalidAccountData("A key's name has 1 to 80 characters.")
    secret = keys.generate()
    key = ApiKey.objects.create(
        organization=organization,
        created_by=created_by,
        name=name,
        digest=keys.digest(secret),
        last_four=secret[-4:],
        expires_at=expires_at,
    )
    audit.record(organization.pk, created_by, "made the API key", name)
    changes.publish(changes.KEY, key.digest)
    return NewKey(id=key.pk, secret=secret, masked=key.masked)


@transaction.atomic
def revoke_key(*, key: ApiKey, by: User | None = None) -> bool:
    """Revoke `key` at once; False when it already was."""
    revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()) == 1
    if revoked:
        audit.record(key.organization_id, by, "revoked the API key", key.name)
    key.refresh_from_db()
    changes.publish(changes.KEY, key.digest)
    return revoked


def set_limits(*, owner: Organization | ApiKey, limits: Limits) -> None:
    """Replace the limits of an organisation or key; running processes follow at once."""
    type(owner)._default_manager.filter(pk=owner.pk).update(
        **{f"limit_{field.name}": getattr(limits, field.name) for field in fields(Limits)}
    )
    owner.refresh_from_db()
    announce(owner)


def set_allowed_models(*, key: ApiKey, names: Iterable[str]) -> None:
    """Let `key` use the models `names` only; all of them when there are none."""
    ApiKey.objects.filter(pk=key.pk).update(allowed_models=sorted(set(names)))
    key.refresh_from_db()
    announce(key)


def announce(owner: Organization | ApiKey) -> None:
    """Tell every process that what it remembers of the key, or of all the organisation's keys, is old."""
    changes.publish(changes.KEY, owner.digest if isinstance(owner, ApiKey) else "")
