"""Closing an organisation and deleting an account: what the apps below each do of it, together or not at all."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import closing as accounts
from accounts.errors import NotAllowed
from accounts.models import Organization, User
from adminui import mail
from credits import closing as credits
from gateway import texts
from providers.models import Credential, RouterProfile

log = structlog.get_logger("ccm.accounts")


def close_organization(*, organization: Organization, name: str, by: User) -> None:
    """Raises NotAllowed with the reasons, and InvalidAccountData."""
    _check(organization.pk)
    members = list(organization.members.filter(is_active=True).values_list("email", flat=True))
    with transaction.atomic():
        accounts.close(organization=organization, name=name, by=by)
        _clear(organization.pk)
        told = {
            "organization": organization.name,
            "by": by.email,
            "days": settings.CLOSED_RETENTION_DAYS,
            "link": settings.PUBLIC_URL,
        }
        for email in members:
            mail.send_template([email], "organization_closed", told)
    log.info("organization_closed", organization=organization.pk, by=by.pk)


def delete_account(*, user: User, email: str) -> None:
    """Raises NotAllowed with the reasons, and InvalidAccountData."""
    personal = Organization.objects.filter(personal_owner=user, closed_at=None).first()
    if personal is not None:
        _check(personal.pk)
    with transaction.atomic():
        accounts.delete_account(user=user, email=email)
        if personal is not None:
            _clear(personal.pk)
        mail.send_template([user.email], "account_deleted", {"email": user.email})
    log.info("account_deleted", user=user.pk)


def _check(organization_id: int) -> None:
    if reasons := credits.objections(organization_id):
        raise NotAllowed(" ".join(reasons))


def _clear(organization_id: int) -> None:
    """Its provider keys and routes serve nobody any more. Its requests that are open end as they would have."""
    Credential.objects.filter(organization_id=organization_id).delete()
    RouterProfile.objects.filter(
        Q(organization_id=organization_id) | Q(api_key__organization_id=organization_id)
    ).delete()
    texts.forget(organization_id)
    credits.forfeit(organization_id)


def erase_closed() -> int:
    """Delete what organisations that were closed long enough ago tell of people; how many."""
    due = accounts.erasable(timezone.now() - timedelta(days=settings.CLOSED_RETENTION_DAYS))
    for organization in due:
        accounts.erase(organization)
    if due:
        log.info("closed_organizations_erased", number=len(due))
    return len(due)
