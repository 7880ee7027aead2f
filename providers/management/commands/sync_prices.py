"""`manage.py sync_prices`: compares prices and costs with the price source and proposes the differences."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers.models import Decision, PriceProposal
from providers.proposals import approve_all, propose
from providers.proposals_shown import differences


class Command(BaseCommand):
    help = (
        "Compare costs and prices with the installed genai-prices (nothing is fetched) and propose the differences. "
        "An operator decides on them at /admin/providers/priceproposal/."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--apply", action="store_true", help="approve every pending proposal at once")

    def handle(self, *, apply: bool, **_options: Any) -> None:
        report = propose()
        new = {proposal.pk for proposal in report.created}
        pending = PriceProposal.objects.filter(state=Decision.PENDING).select_related(
            "model", "mapping__model", "mapping__provider"
        )
        for proposal in sorted(pending, key=lambda row: (row.model.name, row.mapping_id is None, row.pk)):
            mark = "proposed" if proposal.pk in new else "pending "
            self.stdout.write(f"{mark}  {proposal}: {', '.join(map(str, differences(proposal)))}")
        for name in report.unknown:
            self.stdout.write(f"unknown   {name}: {report.source} has no price for it")
        self.stdout.write(f"{len(new)} proposed, {len(pending)} pending, by {report.source}.")
        if apply:
            self._apply()

    def _apply(self) -> None:
        decided = approve_all()
        self.stdout.write(f"{len(decided.done)} approved.")
        if decided.refused:
            raise CommandError("\n".join(f"Not approved: {proposal}: {why}" for proposal, why in decided.refused))
