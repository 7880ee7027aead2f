"""Mails about money: what the ledger's app has noted (`credits.payments.notices`), to those who pay."""

import structlog
from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership
from accounts.permissions import PERMISSIONS, Permission
from adminui import mail
from credits.payments.models import BillingNotice

log = structlog.get_logger("ccm.mail")

MOST_AT_ONCE = 200


def send_notices() -> int:
    """Hand the mails that are due to the sender; how many notices were dealt with. Each once: whoever marks it sends
    it, in one transaction, and what the mail server does not take is tried again by the task that sends."""
    done = 0
    waiting = BillingNotice.objects.filter(sent_at=None).order_by("created_at")
    for key in list(waiting.values_list("pk", flat=True)[:MOST_AT_ONCE]):
        with transaction.atomic():
            if BillingNotice.objects.filter(pk=key, sent_at=None).update(sent_at=timezone.now()):
                _send(BillingNotice.objects.select_related("organization").get(pk=key))
                done += 1
    return done


def _send(notice: BillingNotice) -> None:
    to = payers(notice.organization_id)
    if not to:
        log.warning("nobody_to_tell", organization=notice.organization_id, kind=notice.kind)
        return
    context = {
        **notice.data,
        "organization": notice.organization.name,
        "billing": f"{settings.PUBLIC_URL}{reverse('billing')}?organization={notice.organization_id}",
    }
    mail.send_template(to, f"billing_{notice.kind}", context)


def payers(organization_id: int) -> list[str]:
    """The addresses of those who may change billing."""
    roles = [role for role, permissions in PERMISSIONS.items() if Permission.MANAGE_BILLING in permissions]
    members = Membership.objects.filter(organization_id=organization_id, role__in=roles, user__is_active=True)
    return sorted(members.values_list("user__email", flat=True))
