"""The verbs of the accounts app. Opening a wallet for a new organisation is `credits`' part:
use `credits.services.open_account`, which calls these."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from accounts import audit, changes, keys
from accounts.emails import vouch_for
from accounts.errors import InvalidAccountData, NotAllowed
from accounts.models import LIMIT_COLUMNS, ApiKey, Membership, Organization, User
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
    *,
    organization: Organization,
    name: str,
    created_by: User | None,
    expires_at: datetime | None = None,
    allowed_models: Iterable[str] = (),
    management: bool = False,
    via: str = "",
) -> NewKey:
    """Make an API key; its secret is in the answer and nowhere else. `via` is by what means, for the log.

    Raises InvalidAccountData."""
    secret = keys.generate()
    key = ApiKey.objects.create(
        organization=organization,
        created_by=created_by,
        name=_key_name(name),
        digest=keys.digest(secret),
        last_four=secret[-4:],
        expires_at=expires_at,
        allowed_models=sorted(set(allowed_models)),
        management=management,
    )
    kind = "management key" if management else "API key"
    audit.record(organization.pk, created_by, f"made the {kind}", key.name, via)
    changes.publish(changes.KEY, key.digest)
    return NewKey(id=key.pk, secret=secret, masked=key.masked)


@transaction.atomic
def revoke_key(*, key: ApiKey, by: User | None = None, via: str = "") -> bool:
    """Revoke `key` at once; False when it already was."""
    revoked = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()) == 1
    if revoked:
        audit.record(key.organization_id, by, "revoked the API key", key.name, via)
    key.refresh_from_db()
    announce(key)
    return revoked


CHANGEABLE = ("name", "expires_at", "allowed_models", *LIMIT_COLUMNS)


@transaction.atomic
def change_key(*, key: ApiKey, to: Mapping[str, Any], by: User | None, via: str = "") -> bool:
    """Set those of CHANGEABLE that `to` names; what is not in it stays. False when nothing is different.

    Raises InvalidAccountData, and NotAllowed for a revoked key."""
    unknown = set(to) - set(CHANGEABLE)
    if unknown:
        raise ValueError(f"A key's {min(unknown)} cannot be changed.")
    stored = _locked(key)
    wanted = dict(to)
    if "name" in wanted:
        wanted["name"] = _key_name(wanted["name"])
    if "allowed_models" in wanted:
        wanted["allowed_models"] = sorted(set(wanted["allowed_models"]))
    different = {column: value for column, value in wanted.items() if getattr(stored, column) != value}
    if different:
        ApiKey.objects.filter(pk=key.pk).update(**different, updated_at=timezone.now())
        words = ", ".join(column.removeprefix("limit_").replace("_", " ") for column in sorted(different))
        audit.record(key.organization_id, by, "changed the API key", stored.name, f"Its {words}. {via}".strip())
    key.refresh_from_db()
    announce(key)
    return bool(different)


@transaction.atomic
def set_disabled(*, key: ApiKey, disabled: bool, by: User | None, via: str = "") -> bool:
    """Let a key rest, or serve again, at once; False when it does already. Raises NotAllowed for a revoked key."""
    stored = _locked(key)
    changed = (stored.disabled_at is not None) != disabled
    if changed:
        now = timezone.now()
        ApiKey.objects.filter(pk=key.pk).update(disabled_at=now if disabled else None, updated_at=now)
        action = "disabled the API key" if disabled else "enabled the API key"
        audit.record(key.organization_id, by, action, stored.name, via)
    key.refresh_from_db()
    announce(key)
    return changed


@transaction.atomic
def rotate_key(*, key: ApiKey, by: User | None, grace: timedelta = timedelta(0)) -> NewKey:
    """A new secret for the same key: its budget, limits, routes and history go on. The old secret ends at once, or
    after `grace`; one that was still good from a rotation before ends now. Raises NotAllowed for a revoked key."""
    stored = _locked(key)
    announce(stored)  # of the secrets as they were
    secret, now = keys.generate(), timezone.now()
    ApiKey.objects.filter(pk=key.pk).update(
        digest=keys.digest(secret),
        last_four=secret[-4:],
        previous_digest=stored.digest if grace else None,
        previous_until=now + grace if grace else None,
        updated_at=now,
    )
    ends = f"The old secret is good until {now + grace:%Y-%m-%d %H:%M} UTC." if grace else "The old secret ended."
    audit.record(key.organization_id, by, "rotated the API key", stored.name, ends)
    key.refresh_from_db()
    announce(key)
    return NewKey(id=key.pk, secret=secret, masked=key.masked)


def _locked(key: ApiKey) -> ApiKey:
    stored = ApiKey.objects.select_for_update().get(pk=key.pk)
    if stored.revoked_at is not None:
        raise NotAllowed("This key is revoked, for good. Make a new one.")
    return stored


def _key_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 80 or not name.isprintable():
        raise InvalidAccountData("A key's name has 1 to 80 characters, on one line.")
    return name


def set_limits(*, owner: Organization | ApiKey, limits: Limits) -> None:
    """Replace the limits of an organisation or key; running processes follow at once."""
    type(owner)._default_manager.filter(pk=owner.pk).update(
        **{f"limit_{name}": getattr(limits, name) for name in Limits.__struct_fields__}
    )
    owner.refresh_from_db()
    announce(owner)


@transaction.atomic
def set_own_keys_only(*, organization: Organization, only: bool, by: User) -> None:
    """Whether CCM's provider keys stay unused where the organisation has its own; requests follow at once."""
    if Organization.objects.filter(pk=organization.pk).exclude(own_keys_only=only).update(own_keys_only=only):
        words = "Only its own, where it has one." if only else "CCM's where its own fail."
        audit.record(organization.pk, by, "changed which provider keys are used", "", words)
    organization.refresh_from_db()
    announce(organization)


def set_allowed_models(*, key: ApiKey, names: Iterable[str]) -> None:
    """Let `key` use the models `names` only; all of them when there are none."""
    ApiKey.objects.filter(pk=key.pk).update(allowed_models=sorted(set(names)))
    key.refresh_from_db()
    announce(key)


def announce(owner: Organization | ApiKey) -> None:
    """Tell every process that what it remembers of the key, or of all the organisation's keys, is old."""
    digests = (owner.digest, owner.previous_digest) if isinstance(owner, ApiKey) else ("",)
    for digest in digests:
        if digest is not None:
            changes.publish(changes.KEY, digest)
