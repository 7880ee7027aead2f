from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from credits.errors import CreditsError
from credits.management.commands.rebuild_rollups import date
from credits.money import format_usd
from credits.usage.archive import archive_usage, due_months


class Command(BaseCommand):
    help = (
        "Move usage records into archive files (CCM_DATA_DIR/archive) and delete them here: whole months that end "
        "on or before DATE. Sums and the ledger stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", metavar="DATE", required=True, help="such as 2026-01-01 (UTC)")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be archived")

    def handle(self, *_args: Any, before: str, dry_run: bool, **_options: Any) -> None:
        end = date(before)
        if end > timezone.now():
            raise CommandError("The date is in the future.")
        try:
            months = list(due_months(end)) if dry_run else archive_usage(end)
        except (CreditsError, OSError) as error:
            raise CommandError(str(error)) from error
        for month in months:
            what = f"{month.records} records, {format_usd(month.charge)}"
            self.stdout.write(f"organisation {month.organization_id} {month.starts_at:%Y-%m}: {what}")
        self.stdout.write(f"{len(months)} months {'would be' if dry_run else 'were'} archived")
