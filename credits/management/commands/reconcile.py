from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from credits.reconcile import Finding, reconcile


class Command(BaseCommand):
    help = (
        "Check every invariant of the ledger, a line each (ok, warn or FAIL); exit status 1 if any fails. "
        "Reads what is new since the last run that held, unless told otherwise."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--full", action="store_true", help="read the whole ledger and verify the checkpoints too")
        parser.add_argument(
            "--new-base",
            action="store_true",
            help="a full run from whose checkpoint on later ones are verified: the cause of a failing C is known",
        )
        parser.add_argument("--seconds", action="store_true", help="print how long each check took")

    def handle(self, *_args: Any, **options: Any) -> None:
        run = reconcile(full=options["full"], new_base=options["new_base"])
        for result in run.results:
            finding = Finding(**result)
            time = f" ({finding.milliseconds} ms)" if options["seconds"] else ""
            self.stdout.write(f"{finding}{time}")
        if not run.ok:
            raise SystemExit(1)
