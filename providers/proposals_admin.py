"""The operators' page of price proposals."""

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.models import User
from providers import proposals
from providers.models import Decision, PriceProposal
from providers.prices import usd
from providers.proposals import Decided
from providers.proposals_shown import differences, every_class


class StateFilter(admin.SimpleListFilter):
    """Pending ones, unless another state is asked for."""

    title = "state"
    parameter_name = "state"
    ALL = "all"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*((state, label) for state, label in Decision.choices if state != Decision.PENDING), (self.ALL, "All")]

    def choices(self, changelist: Any) -> Any:
        first, *rest = super().choices(changelist)
        return [{**first, "display": "Pending"}, *rest]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> QuerySet[PriceProposal]:
        if self.value() == self.ALL:
            return queryset
        return queryset.filter(state=self.value() or Decision.PENDING)


def _cell(proposal: PriceProposal, name: str) -> str:
    """Old, new and percent of one class, a line for each tier."""
    rows = [row for row in every_class(proposal) if row.name == name]
    lines = (
        (
            f"> {row.above:,}: " if row.above else "",
            ("unknown → " if row.old is None else f"${usd(row.old)} → ") if row.is_one else "",
            f"${usd(row.new)}",
            row.percent,
        )
        for row in rows
    )
    return format_html_join("", '<div class="whitespace-nowrap">{}{}{} <b>{}</b></div>', lines)


class PriceProposalAdmin(ModelAdmin):
    """Old against new, class by class; approving adds a price or cost that holds from now on."""

    list_display = (
        "subject", "input_usd", "output_usd", "cache_read_usd", "cache_write_usd", "cache_write_1h_usd",
        "web_search_usd", "source", "state_label", "created_at",
    )  # fmt: skip
    list_filter = (StateFilter,)
    list_select_related = ("model", "mapping__model", "mapping__provider", "decided_by")
    search_fields = ("model__name", "mapping__actual_model", "mapping__provider__name")
    ordering = ("model__name", "-mapping_id", "id")
    actions = ("approve_selected", "reject_selected")
    fields = ("subject", "changes", "source", "source_version", "state_label", "created_at", "decided_at", "decided_by")
    readonly_fields = fields

    @display(description="what")
    def subject(self, proposal: PriceProposal) -> str:
        return str(proposal)

    @display(description="input, USD per million")
    def input_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "input")

    @display(description="output")
    def output_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "output")

    @display(description="cache read")
    def cache_read_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "cache_read")

    @display(description="cache write")
    def cache_write_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "cache_write")

    @display(description="1-hour cache write")
    def cache_write_1h_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "cache_write_1h")

    @display(description="1000 web searches")
    def web_search_usd(self, proposal: PriceProposal) -> str:
        return _cell(proposal, "web_search")

    @display(description="changes")
    def changes(self, proposal: PriceProposal) -> str:
        return format_html_join("", "<div>{}</div>", ((str(row),) for row in differences(proposal)))

    @display(
        description="state",
        ordering="state",
        label={"pending": "info", "approved": "success", "rejected": "danger", "outdated": "warning"},
    )
    def state_label(self, proposal: PriceProposal) -> str:
        return proposal.state

    @admin.action(description="Approve: let the new rates hold from now on", permissions=["decide"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> None:
        self._tell(
            request,
            "Approved",
            proposals.approve(list(queryset.values_list("pk", flat=True)), by=cast(User, request.user)),
        )

    @admin.action(description="Reject: leave things as they are", permissions=["decide"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[PriceProposal]) -> None:
        self._tell(
            request,
            "Rejected",
            proposals.reject(list(queryset.values_list("pk", flat=True)), by=cast(User, request.user)),
        )

    def _tell(self, request: HttpRequest, word: str, decided: Decided) -> None:
        for proposal in decided.done:
            changes = ", ".join(map(str, differences(proposal)))
            self.log_change(request, proposal, f"{word}: {changes}.")
        if decided.done:
            messages.success(request, f"{word}: {len(decided.done)}.")
        for proposal, why in decided.refused:
            messages.error(request, f"The {proposal} was not {word.lower()}: {why}")

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("providers.change_priceproposal"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PriceProposal | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PriceProposal | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: PriceProposal | None = None) -> bool:
        return bool(super().has_view_permission(request, obj) or self.has_decide_permission(request))
