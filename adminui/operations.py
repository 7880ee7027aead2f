"""What the operators' first page shows: today in figures, and what needs a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from adminui.health import refused_credentials
from credits.money import format_usd
from credits.selectors import adjustments_to_decide, holds_by_state, last_reconciliation, wallets_in_debt
from credits.usage.selectors import platform_total
from credits.usage.types import Span
from providers.selectors import (
    mappings_without_cost,
    models_without_price,
    models_without_target,
    pending_proposals,
    providers_without_credential,
)

SHOWN_NAMES = 8
RECONCILED_EVERY = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: str
    note: str
    link: str


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    rows: Sequence[tuple[str, str]]
    empty: str


@dataclass(frozen=True, slots=True)
class Notice:
    text: str
    link: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The admin index's context with the overview, for operators who may see usage."""
    if not request.user.has_perm("credits.view_usagerecord"):
        return context
    return {**context, "figures": figures(), "tables": (unfinished_holds(), reconciliation()), "notices": notices()}


def figures() -> tuple[Figure, ...]:
    """Since midnight, UTC."""
    totals = platform_total(Span.today(timezone.now()))
    usage = reverse("admin:credits_usagerollup_changelist")
    return (
        Figure("Requests today", f"{totals.requests:,}", "since midnight UTC", usage),
        Figure("Charged today", format_usd(totals.charge), "to customers", usage),
        Figure("Provider cost today", format_usd(totals.cost), "by the providers’ prices", usage),
        Figure("Margin today", format_usd(totals.margin), "charged less cost", usage),
    )


def unfinished_holds() -> Table:
    rows = [(state.replace("_", " "), f"{count:,}") for state, count in holds_by_state().items()]
    return Table("Unfinished holds", rows, "None.")


def reconciliation() -> Table:
    run = last_reconciliation()
    if run is None:
        return Table("Last reconciliation", (), "No reconciliation has run yet.")
    outcome = "every check held" if run.ok else "differences found"
    failed = [(result["check"], str(result["detail"])) for result in run.results if not result["ok"]]
    return Table("Last reconciliation", [(f"{run.started_at:%-d %b %Y, %H:%M} UTC", outcome), *failed], "")


def notices() -> list[Notice]:
    """What needs a person, each with the page to mend it on."""
    indebted, proposed = wallets_in_debt(), adjustments_to_decide()
    run = last_reconciliation()
    proposals = pending_proposals()
    late = run is not None and timezone.now() - run.finished_at > RECONCILED_EVERY
    found = (
        (late, "No reconciliation has run for more than a day.", "credits_reconciliationrun"),
        (run is not None and not run.ok, "The last reconciliation found differences.", "credits_reconciliationrun"),
        (indebted, f"Wallets in debt: {indebted:,}.", "credits_wallet"),
        (proposed, f"Adjustments that somebody must decide: {proposed:,}.", "credits_adjustment"),
        (proposals, f"Price proposals to decide on: {proposals:,}.", "providers_priceproposal"),
        *_about_the_catalogue(),
    )
    return [Notice(text, reverse(f"admin:{page}_changelist")) for true, text, page in found if true]


def _about_the_catalogue() -> list[tuple[bool, str, str]]:
    lists = (
        ("Providers without a credential", providers_without_credential(), "providers_provider"),
        ("Models without a price, which are refused", models_without_price(), "providers_model"),
        ("Mappings without a cost, whose margin counts as none", mappings_without_cost(), "providers_model"),
        ("Models that no usable provider serves", models_without_target(), "providers_model"),
        ("Credentials that their providers refuse", refused_credentials(), "providers_provider"),
    )
    return [(bool(names), f"{what}: {_named(names)}.", page) for what, names, page in lists]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
