from typing import Any

from django.core.management.base import BaseCommand

from credits.reconcile import Finding, reconcile


class Command(BaseCommand):
    help = "Check every invariant of the ledger, a line each; exit status 1 if any fails."

    def handle(self, *_args: Any, **_options: Any) -> None:
        run = reconcile()
        for result in run.results:
            self.stdout.write(str(Finding(**result)))
        if not run.ok:
            raise SystemExit(1)
