"""What an organisation is at Stripe: its customer there, made once, and the card that auto top-up would use."""

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Membership, Organization, User
from accounts.roles import Role
from credits.errors import InvalidAmount
from credits.money import LARGEST, format_usd
from credits.payments.client import StripeApi, installation, stripe_api
from credits.payments.models import AutoTopUp, BillingAccount

log = structlog.get_logger("ccm.payments")


def billing_account(organization_id: int) -> BillingAccount:
    return BillingAccount.objects.get_or_create(organization_id=organization_id)[0]


def ensure_customer(api: StripeApi, organization_id: int) -> str:
    """The id of the organisation's customer at Stripe. Two workers at once get the same one: they ask with the same
    idempotency key, and the first answer is kept."""
    account = billing_account(organization_id)
    if account.customer:
        return str(account.customer)
    organization = Organization.objects.get(pk=organization_id)
    owner = Membership.objects.filter(organization=organization, role=Role.OWNER).select_related("user").first()
    email = owner.user.email if owner else ""
    # A customer that was deleted at Stripe is replaced: the hour keeps a key from leading to the old one for ever.
    key = f"customer:{installation()}:{organization_id}:{timezone.now():%Y%m%d%H}"
    made = api.create_customer(organization_id, organization.name, email, key)
    BillingAccount.objects.filter(pk=organization_id, customer=None).update(customer=made)
    return BillingAccount.objects.values_list("customer", flat=True).get(pk=organization_id) or made


def sync_customer(customer_id: str) -> bool:
    """Learn which card there is now; whether the customer is one of ours. One that was deleted is forgotten, and its
    auto top-up with it."""
    account = BillingAccount.objects.filter(customer=customer_id).first()
    if account is None:
        return False
    seen = stripe_api().customer(customer_id)
    if seen.deleted:
        BillingAccount.objects.filter(pk=account.pk, customer=customer_id).update(
            customer=None, payment_method="", card=""
        )
        AutoTopUp.objects.filter(pk=account.pk).update(enabled=False)
        log.warning("stripe_customer_deleted", organization=account.pk)
        return True
    BillingAccount.objects.filter(pk=account.pk, customer=customer_id).update(
        payment_method=seen.payment_method, card=seen.card
    )
    if not seen.payment_method and AutoTopUp.objects.filter(pk=account.pk, enabled=True).update(enabled=False):
        audit.record(account.pk, None, "switched off auto top-up", details="the card was removed")
    return True


def warn_below(organization_id: int, low_balance: int, *, by: User) -> None:
    """Send a mail when less than `low_balance` nanos is available; 0 for never."""
    if not 0 <= low_balance <= LARGEST:
        raise InvalidAmount("Enter an amount of zero or more.")
    account = billing_account(organization_id)
    if account.low_balance != low_balance:
        with transaction.atomic():
            BillingAccount.objects.filter(pk=account.pk).update(low_balance=low_balance, low_told=False)
            audit.record(organization_id, by, "set the low-balance mail", format_usd(low_balance))
