"""Tokens of operators' programs, for /admin/api/: `ccm-op-` and 43 random base62 characters, stored as an HMAC.

A token acts as the person whom it belongs to and never as more: their permissions are asked with each request."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import keys
from accounts.errors import InvalidAccountData
from accounts.models import OperatorToken, User
from accounts.types import NewKey

PREFIX = "ccm-op-"


@transaction.atomic
def create(*, user: User, name: str, expires_at: datetime | None = None) -> NewKey:
    """Its secret is in the answer and nowhere else. Raises InvalidAccountData."""
    name = name.strip()
    if not name or len(name) > 80:
        raise InvalidAccountData("A token's name has 1 to 80 characters.")
    if not user.is_staff:
        raise InvalidAccountData(f"{user.email} is no operator.")
    secret = keys.generate(PREFIX)
    token = OperatorToken.objects.create(
        user=user, name=name, digest=keys.digest(secret), last_four=secret[-4:], expires_at=expires_at
    )
    return NewKey(id=token.pk, secret=secret, masked=f"{PREFIX}…{token.last_four}")


def revoke(token: OperatorToken) -> bool:
    """At once; False when it already was."""
    return OperatorToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now()) == 1


def find(presented: str) -> OperatorToken | None:
    """The token, with its user, when it is valid now."""
    if not presented.startswith(PREFIX) or len(presented) != len(PREFIX) + keys.LENGTH:
        return None
    valid = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    tokens = OperatorToken.objects.select_related("user").filter(valid, revoked_at=None, user__is_active=True)
    return tokens.filter(digest=keys.digest(presented)).first()
