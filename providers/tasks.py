"""The providers app's work beside the requests."""

from typing import Any

from celery import shared_task
from celery.schedules import crontab


@shared_task(name="providers.sync_prices")
def sync_prices() -> None:
    """Proposes and never applies: an operator decides."""
    from providers.proposals import propose

    propose()


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "providers.sync_prices": {"task": "providers.sync_prices", "schedule": crontab(hour=4, minute=23)},
}
