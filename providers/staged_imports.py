"""Imports by upload: a file is kept until the operator who uploaded it has seen what it would do, and
then it is imported exactly as it was shown, or not at all.

The file and the secrets entered for it are stored encrypted, for an hour. Variables of the server's own
environment are never filled in: whoever uploads a file could read them that way.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from providers import crypto
from providers.config import ImportReport, Outcome, import_config
from providers.config_formats import Format
from providers.crypto import CannotDecrypt
from providers.errors import ConfigError
from providers.models import StagedImport

LIFETIME = timedelta(hours=1)
MOST_UPLOADED = 256 * 1024
"""Bytes. While it is looked at and imported, nobody else can write to a SQLite database."""
LONGEST_NAME = 120
GONE = "This import is no longer there: an upload is kept for an hour. Upload the file again."

log = structlog.get_logger("ccm.imports")


@dataclass(frozen=True, slots=True)
class Preview:
    """What confirming would do. `entered` are the variables whose values have been entered."""

    id: UUID
    file_name: str
    report: ImportReport
    entered: tuple[str, ...]

    @property
    def does_something(self) -> bool:
        return bool(self.report.count(Outcome.CREATED) or self.report.count(Outcome.CHANGED))


def stage(*, content: bytes, file_name: str, by: User, format: Format | None = None,  # noqa: A002
          markup: Decimal | None = None) -> UUID:  # fmt: skip
    """Keep `content` for confirmation. Raises ConfigError when it could not be imported at all."""
    forget_expired()
    if len(content) > MOST_UPLOADED:
        raise ConfigError(f"The file is larger than {MOST_UPLOADED // 1024} KB: this is no configuration.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError("The file is not UTF-8 text.") from None
    staged: dict[str, Any] = {
        "text": text,
        "format": format.value if format else None,
        "markup": str(markup) if markup is not None else None,
        "environ": {},
    }
    _import(staged, dry_run=True)
    row = StagedImport.objects.create(created_by=by, file_name=file_name[-LONGEST_NAME:], sealed=_sealed(staged))
    return row.pk


def preview(import_id: UUID, by: User) -> Preview:
    """Raises ConfigError when it is gone, is somebody else's, or cannot be imported any more."""
    row, staged = _open(import_id, by)
    report = _import(staged, dry_run=True)
    return Preview(row.pk, row.file_name, report, tuple(staged["environ"]))


@transaction.atomic
def fill_in(import_id: UUID, by: User, variables: Mapping[str, str]) -> None:
    """Set variables that the file names. Raises ConfigError."""
    row, staged = _open(import_id, by)
    staged["environ"] |= {name: value for name, value in variables.items() if value}
    row.sealed = _sealed(staged)
    row.save(update_fields=("sealed",))


@transaction.atomic
def confirm(import_id: UUID, by: User, expected: str) -> ImportReport:
    """Import the file as it was shown: `expected` is that report's digest. Raises ReportDiffers when it
    would do something else by now, ConfigError when it is gone or cannot be imported; then nothing
    is changed."""
    row, staged = _open(import_id, by)
    report = _import(staged, expected=expected)
    row.delete()
    counts = {outcome.value: report.count(outcome) for outcome in Outcome}
    log.info("config_imported", format=report.format.value, by=by.pk, **counts)
    return report


def discard(import_id: UUID, by: User) -> None:
    StagedImport.objects.filter(pk=import_id, created_by=by).delete()


def forget_expired(now: datetime | None = None) -> int:
    """How many uploads were too old."""
    return StagedImport.objects.filter(created_at__lt=(now or timezone.now()) - LIFETIME).delete()[0]


def _import(staged: dict[str, Any], **options: Any) -> ImportReport:
    return import_config(
        staged["text"],
        environ=staged["environ"],
        format=Format(staged["format"]) if staged["format"] else None,
        markup=Decimal(staged["markup"]) if staged["markup"] is not None else None,
        **options,
    )


def _open(import_id: UUID, by: User) -> tuple[StagedImport, dict[str, Any]]:
    fresh = StagedImport.objects.filter(pk=import_id, created_by=by, created_at__gte=timezone.now() - LIFETIME)
    row = fresh.first()
    if row is None:
        raise ConfigError(GONE)
    try:
        staged: dict[str, Any] = json.loads(crypto.decrypt(row.sealed))
    except CannotDecrypt:
        raise ConfigError(GONE) from None
    return row, staged


def _sealed(staged: dict[str, Any]) -> str:
    return crypto.encrypt(json.dumps(staged))
