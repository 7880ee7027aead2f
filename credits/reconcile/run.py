"""One run: every check on one snapshot, the run and its checkpoint stored, an alert if it failed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime

import structlog
from django.core.mail import mail_admins
from django.utils import timezone

from credits.models import ReconciliationRun
from credits.reconcile import (
    checkpoints,
    checks,  # registers them
    payments,
)
from credits.reconcile.findings import CHECKS, Finding
from credits.reconcile.reading import NOTHING, Reading, Verified, settled_transfers, snapshot

__all__ = ["checks", "payments", "reconcile", "run_checks"]

log = structlog.get_logger("ccm.reconcile")


def run_checks(now: datetime | None = None, names: Collection[str] | None = None) -> list[Finding]:
    """Every check, or those of `names`, on one snapshot of the database, from the first transfer on.
    Stores nothing."""
    with snapshot() as cursor:
        return _run(Reading(cursor, now or timezone.now(), NOTHING, None), names)


def _run(reading: Reading, names: Collection[str] | None = None) -> list[Finding]:
    return [check.run(reading) for check in CHECKS if names is None or check.name in names]


def reconcile(*, full: bool = False, new_base: bool = False) -> ReconciliationRun:
    """Run the checks from the newest checkpoint on (`full`: from the first transfer on, and verify the
    checkpoints too), store what they found and, if the books are in order, a new checkpoint.

    `new_base` is for when the cause of a failing check C is known: a full run whose checkpoint is
    the first that later ones are verified from."""
    started_at = timezone.now()
    settled_up_to = settled_transfers()
    with snapshot() as cursor:
        newest = checkpoints.newest(cursor)
        since = NOTHING if full or new_base else newest
        reading = Reading(cursor, started_at, since, settled_up_to)
        findings = _run(reading)
        made = checkpoints.next_checkpoint(reading, findings, base=new_base)
    run = ReconciliationRun.objects.create(
        started_at=started_at,
        finished_at=max(started_at, timezone.now()),
        full=reading.full,
        ok=not any(finding.failed for finding in findings),
        results=[asdict(finding) for finding in findings],
    )
    if made is not None and worth_storing(newest, made, full=reading.full):
        checkpoints.store(run, newest.number + 1, made, base=new_base)
    elif settled_up_to is None:
        log.warning("reconciliation_without_checkpoint", reason="a transaction that wrote transfers did not end")
    _tell(run, findings)
    return run


def worth_storing(newest: Verified, made: Verified, *, full: bool) -> bool:
    """A checkpoint for nothing new would only make the list longer. One that goes back is older than the newest."""
    if made.cut < newest.cut:
        return False
    return full or (made.cut, made.hold_cut) != (newest.cut, newest.hold_cut)


def _tell(run: ReconciliationRun, findings: Sequence[Finding]) -> None:
    """The log and, for a failure, a mail to ADMINS: a mail that cannot be sent must not hide the failure."""
    for finding in findings:
        if finding.failed:
            log.error("reconciliation_failed", check=finding.check, detail=finding.detail, run=run.pk)
        elif not finding.ok:
            log.warning("reconciliation_warning", check=finding.check, detail=finding.detail, run=run.pk)
    log.info("reconciled", run=run.pk, ok=run.ok, full=run.full)
    if run.ok:
        return
    failed = ", ".join(finding.check for finding in findings if finding.failed)
    body = "\n".join(map(str, findings))
    try:
        mail_admins(
            f"Reconciliation failed: {failed}", f"Run {run.pk} of {run.started_at:%Y-%m-%d %H:%M} UTC\n\n{body}\n"
        )
    except Exception as error:
        log.error("alert_not_sent", error=type(error).__name__, run=run.pk)
