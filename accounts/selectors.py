"""Reads of the accounts app. What belongs to a tenant takes the organisation first."""

from datetime import datetime

from django.db import DatabaseError, InterfaceError
from django.db.models import QuerySet
from django.utils import timezone

from accounts.errors import AccountsUnavailable
from accounts.models import ApiKey, Membership, Organization, User
from accounts.types import Principal


def principal_by_digest(digest: str) -> Principal | None:
    """The principal of a stored key's digest, None when there is no such active key.

    Raises AccountsUnavailable when the database does not answer."""
    try:
        key, until = _key_by_digest(digest)
    except (DatabaseError, InterfaceError) as error:
        raise AccountsUnavailable("The database did not answer.") from error
    if key is None or not key.is_active:
        return None
    return Principal(
        api_key_id=key.pk,
        api_key_name=key.name,
        organization_id=key.organization_id,
        organization_name=key.organization.name,
        own_keys_only=key.organization.own_keys_only,
        keeps_text=key.organization.keeps_text,
        expires_at=min((end for end in (key.expires_at, until) if end), default=None),
        limits=key.limits,
        organization_limits=key.organization.limits,
        allowed_models=frozenset(key.allowed_models),
        created_by_id=key.created_by_id,
        masked=key.masked,
        is_management=key.management,
    )


def _key_by_digest(digest: str) -> tuple[ApiKey | None, datetime | None]:
    """The key, and until when this secret of it is good: None while it is its newest one."""
    keys = ApiKey.objects.select_related("organization")
    key = keys.filter(digest=digest).first()
    if key is not None:
        return key, None
    key = keys.filter(previous_digest=digest, previous_until__gt=timezone.now()).first()
    return key, key.previous_until if key else None


def organizations_of(user: User) -> QuerySet[Organization]:
    return Organization.objects.filter(memberships__user=user)


def active_keys(organization: Organization) -> QuerySet[ApiKey]:
    now = timezone.now()
    keys = ApiKey.objects.filter(organization=organization, revoked_at=None, disabled_at=None)
    return keys.exclude(expires_at__lte=now)


def role_in(organization_id: int, user_id: int | None) -> str:
    """The user's role in the organisation, "" for none."""
    if user_id is None:
        return ""
    roles = Membership.objects.filter(organization_id=organization_id, user_id=user_id).values_list("role", flat=True)
    return roles.first() or ""
