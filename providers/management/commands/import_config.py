"""`manage.py import_config FILE`: reads CCM TOML, claude-code-mux TOML or claude-code-router JSON5."""

import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers import config_places
from providers.config import ImportReport, Outcome, import_config
from providers.config_formats import MOST_BYTES, Format
from providers.errors import ConfigError

NO_PROJECT_ROUTERS = "CCM has no routers of projects and sessions: make a router profile for an API key instead."


class Command(BaseCommand):
    help = (
        "Import providers, models, prices and routes from CCM or claude-code-mux (TOML) or claude-code-router (JSON5). "
        "Creates and changes, never deletes; running it twice is safe."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", type=Path, help="the file to read, or the folder of the program it belongs to; - for standard input"
        )
        parser.add_argument(
            "--format",
            choices=tuple(each.value for each in Format),
            help="ccm: TOML of CCM or claude-code-mux; ccr: JSON5 of claude-code-router. Default: told by the content",
        )
        parser.add_argument(
            "--markup",
            metavar="SHARE",
            help="what models without a price are sold for: their cost and this share of it (0.20: 20 %% more)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(
        self,
        *,
        file: Path,
        format: str | None = None,  # noqa: A002 - the option's name
        markup: str | None = None,
        dry_run: bool = False,
        **_options: Any,
    ) -> None:
        file = config_places.file_in(file) if file.is_dir() else file
        try:
            report = import_config(
                self._read(file),
                environ=os.environ,
                format=Format(format) if format else None,
                markup=_share(markup),
                dry_run=dry_run,
            )
        except ConfigError as error:
            raise CommandError(f"Nothing was imported.\n{error}") from None
        if report.format is Format.CCR:
            for router in config_places.project_routers(file):
                report.add(Outcome.SKIPPED, str(router), NO_PROJECT_ROUTERS)
        self._print(report)
        if dry_run:
            self.stdout.write("Dry run: nothing was changed.")

    def _read(self, file: Path) -> str:
        try:
            with open(sys.stdin.fileno() if str(file) == "-" else file, "rb", closefd=str(file) != "-") as stream:
                content = stream.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise CommandError(f"{file} is larger than {MOST_BYTES} bytes: this is no configuration.")
            return content.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}.") from None

    def _print(self, report: ImportReport) -> None:
        for outcome in (Outcome.CREATED, Outcome.CHANGED, Outcome.UNCHANGED, Outcome.SKIPPED):
            for change in report.of(outcome):
                self.stdout.write(str(change))
        for warning in report.warnings:
            self.stdout.write(self.style.WARNING(f"warning   {warning}"))
        counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome)
        self.stdout.write(f"{report.format.label}: {counts}, {len(report.warnings)} warnings.")


def _share(text: str | None) -> Decimal | None:
    try:
        share = None if text is None else Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if share is not None and not (share.is_finite() and share >= 0):
        raise CommandError(f"--markup is a share of at least 0, such as 0.20, not {text!r}.")
    return share
