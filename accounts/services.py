"""The verbs of the accounts app. Opening a wallet for a new organisation is `credits`' part:
use `credits.services.open_account`, which calls these."""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts import changes, keys
from accounts.errors import InvalidAccountData
from accounts.models import ApiKey, Membership, Organization, User
from accounts.roles import Role
from accounts.types import NewKey


@transaction.atomic
def get_or_create_user(*, email: str, password: str | None = None) -> tuple[User, bool]:
    """The user with this e-mail address (in any case) and whether it is new. A new user owns
    a personal organisation. Raises InvalidAccountData for an address that is none."""
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
    changes.publish(changes.KEY, key.digest)
    return NewKey(id=key.pk, secret=secret, masked=key.masked)


def revoke_key(*, key: ApiKey) -> bool:
    """Revoke `key` at once; False when it already was."""
    revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db()
    changes.publish(changes.KEY, key.digest)
    return revoked == 1
