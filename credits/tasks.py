"""The credits app's work beside the requests. Every task may run twice, or beside itself."""

from typing import Any

from celery import shared_task
from celery.schedules import crontab

from credits import reconcile as checks
from credits import services

SWEEP_SECONDS = 15
EXPIRE_SECONDS = 60
"""Nobody can reserve what has expired in between (`expiry.py`): this only keeps the balance shown true."""


@shared_task(name="credits.sweep")
def sweep() -> None:
    services.sweep()


@shared_task(name="credits.expire_lots")
def expire_lots() -> None:
    services.expire_lots()


@shared_task(name="credits.reconcile")
def reconcile() -> None:
    checks.reconcile()


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "credits.sweep": {"task": "credits.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}},
    "credits.expire_lots": {
        "task": "credits.expire_lots",
        "schedule": EXPIRE_SECONDS,
        "options": {"expires": EXPIRE_SECONDS},
    },
    "credits.reconcile": {"task": "credits.reconcile", "schedule": crontab(hour=3, minute=17)},
}
