"""The credits app's work beside the requests. Every task may run twice, or beside itself."""

from typing import Any

from celery import shared_task
from celery.schedules import crontab

from credits import reconcile as checks
from credits import services

SWEEP_SECONDS = 15


@shared_task(name="credits.sweep")
def sweep() -> None:
    services.sweep()


@shared_task(name="credits.reconcile")
def reconcile() -> None:
    checks.reconcile()


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "credits.sweep": {"task": "credits.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}},
    "credits.reconcile": {"task": "credits.reconcile", "schedule": crontab(hour=3, minute=17)},
}
