from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from credits.usage.agreement import rollup_agreement
from credits.usage.reading import snapshot_cursor
from credits.usage.rollups import rebuild
from credits.usage.targets import rebuild as rebuild_targets


def date(text: str) -> datetime:
    """A day as on the command line: its midnight, UTC. Raises CommandError."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"{text!r} is not a date like 2026-01-31.") from None


class Command(BaseCommand):
    help = (
        "Make the hourly and daily usage sums, and the providers' status, anew from the usage records; those of "
        "archived months are kept. Exit status 1 if they then differ from records or ledger."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--since", metavar="DATE", help="from this day on (UTC); default: the first record's")

    def handle(self, *_args: Any, since: str | None = None, **_options: Any) -> None:
        chunks = rebuild(date(since) if since else None)
        rebuild_targets()
        with snapshot_cursor() as cursor:
            ok, detail = rollup_agreement(cursor)
        self.stdout.write(f"{chunks} parts rebuilt; {detail}")
        if not ok:
            raise SystemExit(1)
