"""`manage.py import_config FILE`: reads CCM TOML, or a claude-code-mux file as it is."""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers.config import ImportReport, Outcome, import_config
from providers.errors import ConfigError


class Command(BaseCommand):
    help = "Import providers, models, prices and routes. Creates and changes, never deletes; running it twice is safe."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="the file to read, - for standard input")
        parser.add_argument(
            "--format", choices=("ccm", "ccr"), default="ccm", help="ccm: TOML of CCM or claude-code-mux"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *, file: Path, format: str, dry_run: bool, **_options: Any) -> None:  # noqa: A002 - the option's name
        if format == "ccr":
            raise CommandError("claude-code-router files cannot be imported yet; write CCM TOML (providers/README.md).")
        try:
            report = import_config(self._read(file), environ=os.environ, dry_run=dry_run)
        except ConfigError as error:
            raise CommandError(f"Nothing was imported.\n{error}") from None
        self._print(report)
        if dry_run:
            self.stdout.write("Dry run: nothing was changed.")

    def _read(self, file: Path) -> str:
        try:
            return Path("/dev/stdin" if str(file) == "-" else file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}.") from None

    def _print(self, report: ImportReport) -> None:
        for change in report.changes:
            self.stdout.write(str(change))
        for path in report.ignored:
            self.stdout.write(f"ignored   {path}")
        for warning in report.warnings:
            self.stdout.write(self.style.WARNING(f"warning   {warning}"))
        counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome)
        self.stdout.write(f"{counts}, {len(report.warnings)} warnings.")
