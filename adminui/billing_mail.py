"""Mails about money: what the ledger's app has noted (`credits.payments.notices`), to those who pay."""

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse

from accounts.models import Membership
from accounts.permissions import PERMISSIONS, Permission
from adminui import mail
from credits.payments import notices

log = structlog.get_logger("ccm.mail")

MOST_AT_ONCE = 200


def send_notices() -> int:
    """Hand the mails that are due to the sender; how many notices were dealt with. Each once: whoever marks it sends
    it, in one transaction, and what the mail server does not take is tried again by the task that sends."""
    done = 0
    for key in notices.waiting(MOST_AT_ONCE):
        with transaction.atomic():
            notice = notices.take(key)
            if notice is not None:
                _send(notice)
                done += 1
    return done


def _send(notice: notices.Notice) -> None:
    to = payers(notice.organization_id)
    if not to:
        log.warning("nobody_to_tell", organization=notice.organization_id, kind=notice.kind)
        return
    context = {
        **notice.data,
        "organization": notice.organization,
        "billing": f"{settings.PUBLIC_URL}{reverse('billing')}?organization={notice.organization_id}",
    }
    mail.send_template(to, f"billing_{notice.kind}", context)


def payers(organization_id: int) -> list[str]:
    """The addresses of those who may change billing."""
    roles = [role for role, permissions in PERMISSIONS.items() if Permission.MANAGE_BILLING in permissions]
    members = Membership.objects.filter(organization_id=organization_id, role__in=roles, user__is_active=True)
    return sorted(members.values_list("user__email", flat=True))
