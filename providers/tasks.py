"""The providers app's work beside the requests."""

from typing import Any

from celery import shared_task
from celery.schedules import crontab

PROBE_SECONDS = 60


@shared_task(name="providers.sync_prices")
def sync_prices() -> None:
    """Proposes and never applies: an operator decides."""
    from providers.proposals import propose

    propose()


@shared_task(name="providers.probe")
def probe() -> None:
    from providers.health_probes import probe_due

    probe_due()


@shared_task(name="providers.clean_up")
def clean_up() -> None:
    """What is kept for a time only."""
    from providers.health_probes import forget_old
    from providers.staged_imports import forget_expired

    forget_old()
    forget_expired()


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "providers.sync_prices": {"task": "providers.sync_prices", "schedule": crontab(hour=4, minute=23)},
    "providers.probe": {
        "task": "providers.probe",
        "schedule": PROBE_SECONDS,
        "options": {"expires": PROBE_SECONDS},
    },
    "providers.clean_up": {
        "task": "providers.clean_up",
        "schedule": crontab(minute=52),
        "options": {"expires": 1800},
    },
}
