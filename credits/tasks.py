"""The credits app's work beside the requests. Every task may run twice, or beside itself."""

from datetime import UTC, datetime
from typing import Any

import structlog
from celery import shared_task
from celery.schedules import crontab
from django.utils import timezone

from credits import closing, services
from credits.explanations import forget_before
from credits.payments.tasks import BEAT_SCHEDULE as OF_PAYMENTS
from credits.reconcile import reconcile as run_reconciliation
from credits.usage import agreement, archive, rollups, targets
from credits.usage.reading import snapshot_cursor

log = structlog.get_logger("ccm.usage")

SWEEP_SECONDS = 15
EXPIRE_SECONDS = 60
"""Nobody can reserve what has expired in between (`expiry.py`): this only keeps the balance shown true."""
ROLL_UP_SECONDS = 120
ARCHIVE_SECONDS = 200
"""Less than a task may take; what is left over is done an hour later."""
RECONCILE_SECONDS = 3600


@shared_task(name="credits.sweep")
def sweep() -> None:
    services.sweep()


@shared_task(name="credits.expire_lots")
def expire_lots() -> None:
    services.expire_lots()


@shared_task(name="credits.reconcile", time_limit=RECONCILE_SECONDS)
def reconcile(full: bool = False) -> None:
    run_reconciliation(full=full)


@shared_task(name="credits.roll_up_usage")
def roll_up_usage() -> None:
    rollups.roll_up()


@shared_task(name="credits.roll_up_targets")
def roll_up_targets() -> None:
    targets.roll_up()


@shared_task(name="credits.check_rollups")
def check_rollups() -> None:
    """Rollups are made from records, so days on which they differ are made anew. What then still differs
    is the records' and the ledger's difference, for a person to look at."""
    with snapshot_cursor() as cursor:
        found = agreement.differences(cursor)
    if not found:
        return
    log.warning("rollups_differ", count=len(found), first=str(found[0]))
    if any(difference.day is None for difference in found):
        rollups.rebuild()
    for day in sorted({difference.day for difference in found if difference.day}):
        moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
        rollups.rebuild(moment, moment)
    with snapshot_cursor() as cursor:
        ok, detail = agreement.rollup_agreement(cursor)
    if not ok:
        log.error("rollups_still_differ", detail=detail)


@shared_task(name="credits.forfeit_closed")
def forfeit_closed() -> None:
    closing.forfeit_closed()


@shared_task(name="credits.archive_usage")
def archive_usage() -> None:
    before = archive.due_before(timezone.now())
    if before is not None:
        archive.archive_usage(before, seconds=ARCHIVE_SECONDS)
        forget_before(before.date())


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "credits.sweep": {"task": "credits.sweep", "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}},
    "credits.expire_lots": {
        "task": "credits.expire_lots",
        "schedule": EXPIRE_SECONDS,
        "options": {"expires": EXPIRE_SECONDS},
    },
    "credits.roll_up_usage": {
        "task": "credits.roll_up_usage",
        "schedule": ROLL_UP_SECONDS,
        "options": {"expires": ROLL_UP_SECONDS},
    },
    "credits.roll_up_targets": {
        "task": "credits.roll_up_targets",
        "schedule": ROLL_UP_SECONDS,
        "options": {"expires": ROLL_UP_SECONDS},
    },
    "credits.check_rollups": {"task": "credits.check_rollups", "schedule": crontab(hour=2, minute=47)},
    "credits.archive_usage": {
        "task": "credits.archive_usage",
        "schedule": crontab(minute=41),
        "options": {"expires": 1800},
    },
    "credits.forfeit_closed": {
        "task": "credits.forfeit_closed",
        "schedule": crontab(minute=23),
        "options": {"expires": 1800},
    },
    "credits.reconcile": {"task": "credits.reconcile", "schedule": crontab(hour=3, minute=17, day_of_week="1-6")},
    "credits.reconcile.full": {
        "task": "credits.reconcile",
        "schedule": crontab(hour=3, minute=17, day_of_week="sun"),
        "kwargs": {"full": True},
    },
    **OF_PAYMENTS,
}
