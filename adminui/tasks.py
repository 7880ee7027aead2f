"""The pages' work beside the requests."""

from smtplib import SMTPException
from typing import Any

from celery import shared_task
from celery.schedules import crontab

NOTICE_SECONDS = 15


@shared_task(
    name="adminui.send_mail",
    autoretry_for=(SMTPException, OSError),
    retry_backoff=10,
    retry_backoff_max=600,
    max_retries=8,
)
def send_mail(to: list[str], subject: str, text: str) -> None:
    from adminui.mail import message

    message(to, subject, text).send()


@shared_task(name="adminui.send_billing_notices")
def send_billing_notices() -> None:
    from adminui.billing_mail import send_notices

    send_notices()


@shared_task(name="adminui.erase_closed")
def erase_closed() -> None:
    """May run twice, or beside itself."""
    from adminui.departures import erase_closed

    erase_closed()


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "adminui.send_billing_notices": {
        "task": "adminui.send_billing_notices",
        "schedule": NOTICE_SECONDS,
        "options": {"expires": NOTICE_SECONDS},
    },
    "adminui.erase_closed": {"task": "adminui.erase_closed", "schedule": crontab(hour=4, minute=53)},
}
