"""Retention: a month of an organisation's usage records becomes a file, and only then is deleted.

`CCM_DATA_DIR/archive/usage/<organisation>/<year>-<month>.jsonl.gz` has one JSON object a line with every
column of a usage record (`why` with the explanation itself), and `<year>-<month>.json` beside it (the manifest)
the number of records, their charge in nanos and the file's SHA-256. The rollups stay, and so does the ledger.
"""

import fcntl
import gzip
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Min, Sum
from django.utils import timezone

from credits.errors import CreditsError
from credits.explanations import by_why
from credits.models import UsageRecord, Wallet
from credits.usage import rollups
from credits.usage.export import batches
from credits.usage.models import RollupPeriod, UsageArchive, UsageRollup
from credits.usage.types import Span, day_of, month_after, month_of

log = structlog.get_logger("ccm.usage")

DELETE_ROWS = 1000
COLUMNS = tuple(field.attname for field in UsageRecord._meta.concrete_fields)


class ArchiveDamaged(CreditsError):
    """A file does not hold what it should. Nothing is deleted."""


class NotRolledUp(CreditsError):
    """The rollups do not hold what the records do. Nothing is deleted."""


@dataclass(frozen=True, slots=True)
class Month:
    """One organisation's records of one month; the charge in nanos."""

    organization_id: int
    starts_at: datetime
    records: int
    charge: int

    @property
    def span(self) -> Span:
        return Span(self.starts_at, month_after(self.starts_at))

    @property
    def path(self) -> Path:
        return Path("usage", str(self.organization_id), f"{self.starts_at:%Y-%m}.jsonl.gz")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds; the charge in nanos."""

    records: int
    charge: int
    sha256: str


def due_before(now: datetime) -> datetime | None:
    """Months that end by then have been kept for long enough; None when all are kept for ever."""
    days: int = settings.USAGE_RETENTION_DAYS
    return day_of(now) - timedelta(days=days) if days else None


def due_months(before: datetime) -> Iterator[Month]:
    """What there is to archive or to go on deleting: months that end by `before` and still have records."""
    for organization_id in list(Wallet.objects.order_by("pk").values_list("pk", flat=True)):
        records = UsageRecord.objects.filter(organization_id=organization_id)
        oldest = records.aggregate(oldest=Min("created_at"))["oldest"]
        month = month_of(oldest) if oldest else before
        while month_after(month) <= before:
            found = _sums(records.filter(created_at__gte=month, created_at__lt=month_after(month)))
            if found[0]:
                yield Month(organization_id, month, *found[:2])
            month = month_after(month)


def archive_usage(before: datetime, *, seconds: float | None = None) -> list[Month]:
    """Archive and delete what is due before `before`; the months that were done. After `seconds` the rest is
    left to the next run. Does nothing while another process of this machine is at it.

    A month that cannot be archived stops no other; the first such error is raised at the end."""
    end = None if seconds is None else time.monotonic() + seconds
    done: list[Month] = []
    errors: list[Exception] = []
    with _alone() as alone:
        for month in due_months(before) if alone else ():
            if end is not None and time.monotonic() > end:
                break
            try:
                if not _archive(month, end):
                    break
                done.append(month)
            except (CreditsError, OSError, EOFError) as error:
                log.exception(
                    "usage_not_archived", organization=month.organization_id, month=f"{month.starts_at:%Y-%m}"
                )
                errors.append(error)
    if errors:
        raise errors[0]
    return done


def _archive(month: Month, end: float | None) -> bool:
    """False when the time was over before all was deleted."""
    archives = UsageArchive.objects.filter(organization_id=month.organization_id, starts_at=month.starts_at)
    archive = archives.first() or _write(month)
    if archive.deleted_at is not None:
        raise ArchiveDamaged(f"{archive.path} was finished, but {month.records} records of its month are here.")
    file = directory() / archive.path
    if contents(file) != Contents(archive.records, archive.charge, archive.sha256):
        raise ArchiveDamaged(f"{archive.path} is not what was written.")
    deleted = 0
    for ids in _ids(file):
        if end is not None and time.monotonic() > end:
            return False
        deleted += _delete(month, ids)
    if UsageRecord.objects.filter(**_of(month)).exists():
        raise ArchiveDamaged(f"{archive.path} lacks records of its month.")
    archives.update(deleted_at=timezone.now())
    log.info("usage_archived", organization=month.organization_id, path=archive.path, deleted=deleted)
    return True


def _write(month: Month) -> UsageArchive:
    _require_rollups(month)
    file = directory() / month.path
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _replacing(file) as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
        for rows in batches(month.organization_id, month.span, columns=COLUMNS):
            packed.write("".join(json.dumps(row, default=_text) + "\n" for row in _explained(rows)).encode())
    found = contents(file)
    if (found.records, found.charge) != _sums(UsageRecord.objects.filter(**_of(month)))[:2]:
        raise ArchiveDamaged(f"{month.path} holds {found.records} records of {month.records}.")
    manifest = {"organization": month.organization_id, "month": f"{month.starts_at:%Y-%m}", **asdict(found)}
    with _replacing(file.with_name(f"{month.starts_at:%Y-%m}.json")) as raw:
        raw.write(json.dumps(manifest, indent=2).encode() + b"\n")
    return UsageArchive.objects.create(
        organization_id=month.organization_id,
        starts_at=month.starts_at,
        ends_at=month.span.until,
        path=str(month.path),
        **asdict(found),
    )


def _explained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With what `why` refers to: a file must be whole by itself."""
    explanations = by_why(row["why"] for row in rows)
    return [{**row, "why": explanations.get(row["why"]) if isinstance(row["why"], str) else row["why"]} for row in rows]


def _require_rollups(month: Month) -> None:
    """Before the records go, the rollups must say what they said. Raises NotRolledUp."""
    for attempt in (1, 2):
        rolled = rollups.progress().rolled_until
        rows = UsageRollup.objects.filter(
            organization_id=month.organization_id, period=RollupPeriod.DAY,
            starts_at__gte=month.span.since, starts_at__lt=month.span.until,
        ).aggregate(requests=Sum("requests"), charge=Sum("charge"), cost=Sum("cost"))  # fmt: skip
        summed = tuple(int(rows[name] or 0) for name in ("requests", "charge", "cost"))
        complete = rolled is not None and rolled >= month.span.until + rollups.LATE
        if complete and summed == _sums(UsageRecord.objects.filter(**_of(month))):
            return
        if attempt == 1:
            rollups.roll_up()
            rollups.rebuild(month.span.since, month.span.until - timedelta(days=1))
    raise NotRolledUp(f"The rollups of {month.path.stem} differ from its records.")


def contents(file: Path) -> Contents:
    """What the file holds, read to its end. Raises ArchiveDamaged."""
    try:
        with file.open("rb") as raw:
            digest = hashlib.file_digest(raw, "sha256").hexdigest()
        records = charge = 0
        for row in _rows(file):
            records += 1
            charge += row["charge"]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ArchiveDamaged(f"{file.name} cannot be read: {error}") from error
    return Contents(records, charge, digest)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _ids(file: Path) -> Iterator[list[str]]:
    ids: list[str] = []
    for row in _rows(file):
        ids.append(row["request_id"])
        if len(ids) == DELETE_ROWS:
            yield ids
            ids = []
    yield ids


@transaction.atomic
def _delete(month: Month, request_ids: list[str]) -> int:
    """Each batch by itself, so that nobody waits for long."""
    return UsageRecord.objects.filter(**_of(month), request_id__in=request_ids).delete()[0]


def _of(month: Month) -> dict[str, Any]:
    return {
        "organization_id": month.organization_id,
        "created_at__gte": month.span.since,
        "created_at__lt": month.span.until,
    }


def _sums(records: Any) -> tuple[int, int, int]:
    """How many, and nanos of charge and cost."""
    found = records.order_by().aggregate(records=Count("*"), all_charge=Sum("charge"), all_cost=Sum("cost"))
    return int(found["records"]), int(found["all_charge"] or 0), int(found["all_cost"] or 0)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def directory() -> Path:
    return Path(settings.DATA_DIR) / "archive"


@contextmanager
def _replacing(file: Path) -> Iterator[Any]:
    """A file that is there whole and on disk, or not at all."""
    unfinished = file.with_suffix(f"{file.suffix}.part")
    with unfinished.open("wb") as raw:
        unfinished.chmod(0o600)
        yield raw
        raw.flush()
        os.fsync(raw.fileno())
    unfinished.replace(file)
    for folder in (file.parent, *file.parent.parents):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if folder == Path(settings.DATA_DIR):
            break


@contextmanager
def _alone() -> Iterator[bool]:
    """False when another process holds the lock; it goes with the process."""
    directory().mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
