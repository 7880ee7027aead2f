"""Payments' work beside the requests: every call to Stripe is made here. Every task may run twice, or beside itself."""

from typing import Any

import structlog
from celery import shared_task
from django.core.cache import cache

from credits.errors import CreditsError, PaymentsUnavailable
from credits.payments import alerts, auto, balance, events, refunds, topups
from credits.payments.accounts import ensure_customer
from credits.payments.client import is_on, stripe_api
from credits.payments.models import TopUp

log = structlog.get_logger("ccm.payments")

SWEEP_SECONDS = 30
AUTO_SECONDS = 20
ALERT_SECONDS = 60
POLL_SECONDS = 3600
BALANCE_SECONDS = 1800
PORTAL_SECONDS = 300
"""How long a portal's address is kept for the page that waits for it."""

RETRIED: dict[str, Any] = {
    "autoretry_for": (PaymentsUnavailable,), "retry_backoff": 2, "retry_backoff_max": 60, "max_retries": 4,
}  # fmt: skip
"""What is still not done then, the sweep does."""


@shared_task(name="credits.advance_top_up", **RETRIED)
def advance_top_up(top_up_id: int) -> None:
    topups.advance(top_up_id)


@shared_task(name="credits.look_at_top_up", **RETRIED)
def look_at_top_up(top_up_id: int, canceled: bool = False) -> None:
    top_up = TopUp.objects.get(pk=top_up_id)
    if canceled:
        topups.cancel(top_up)
    else:
        topups.look(top_up)


@shared_task(name="credits.send_refund", **RETRIED)
def send_refund(refund_id: str) -> None:
    refunds.send(refund_id)


@shared_task(name="credits.handle_stripe_event", **RETRIED)
def handle_event(event_id: str) -> None:
    events.handle(event_id)


@shared_task(name="credits.open_portal", **RETRIED)
def open_portal(organization_id: int, name: str, return_url: str) -> None:
    """The address for the page that waits under `name`; "" says that there is none."""
    try:
        api = stripe_api()
        url = api.portal_url(ensure_customer(api, organization_id), return_url)
    except PaymentsUnavailable:
        raise
    except CreditsError as error:
        log.warning("portal_not_opened", organization=organization_id, error=type(error).__name__)
        url = ""
    cache.set(portal_name(name), url, PORTAL_SECONDS)


def portal_name(name: str) -> str:
    return f"portal:{name}"


@shared_task(name="credits.sweep_payments")
def sweep_payments() -> None:
    if is_on():
        events.sweep()
        topups.sweep()
        refunds.sweep()


@shared_task(name="credits.auto_top_up")
def auto_top_up() -> None:
    if not is_on():
        return
    for organization_id in auto.due():
        begun = auto.begin(organization_id)
        if begun is not None:
            advance_top_up.delay(begun.pk)


@shared_task(name="credits.billing_alerts")
def billing_alerts() -> None:
    alerts.check_balances()
    alerts.check_budgets()


@shared_task(name="credits.poll_stripe", **RETRIED)
def poll_stripe() -> None:
    events.poll()


@shared_task(name="credits.read_stripe_balance", **RETRIED)
def read_stripe_balance() -> None:
    balance.read()


def _every(task: str, seconds: int) -> dict[str, dict[str, Any]]:
    return {task: {"task": task, "schedule": seconds, "options": {"expires": seconds}}}


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    **_every("credits.sweep_payments", SWEEP_SECONDS),
    **_every("credits.auto_top_up", AUTO_SECONDS),
    **_every("credits.billing_alerts", ALERT_SECONDS),
    **_every("credits.poll_stripe", POLL_SECONDS),
    **_every("credits.read_stripe_balance", BALANCE_SECONDS),
}
