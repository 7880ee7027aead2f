"""The operators' view of the ledger. Nothing here is edited: credits are granted through the service."""

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from kombu.exceptions import OperationalError
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from accounts.models import User
from credits import budget_admin, corrections, payment_admin, promo_admin, tasks
from credits.admin_forms import ReadOnly, UsdField, action_page, new_key
from credits.correction_admin import ProposesAdjustments, RefundsRequests, WritesHoldsOff
from credits.correction_models import Adjustment
from credits.explanations import explained
from credits.models import (
    CreditLot,
    Hold,
    LotKind,
    ReconciliationRun,
    Transfer,
    UsageArchive,
    UsageRecord,
    UsageRollup,
    Wallet,
)
from credits.money import format_usd
from credits.reconcile import Finding
from credits.types import UNKNOWN_COST
from credits.usage.selectors import platform_usage
from credits.usage.types import Span, Sums

OVERVIEW_DAYS = 30

__all__ = ["budget_admin", "payment_admin", "promo_admin"]  # Django looks for an app's pages here


class GrantForm(forms.Form):
    amount = UsdField(label="Amount (USD)")
    reason = forms.CharField(label="Reason", max_length=200, widget=UnfoldAdminTextInputWidget)
    promotion = forms.BooleanField(
        label="A promotion: it expires, and is used before paid credits", required=False, widget=UnfoldBooleanWidget
    )
    days = forms.IntegerField(
        label="Expires after (days)",
        help_text="Empty: a promotion expires as the settings say, anything else never.",
        min_value=1,
        max_value=3650,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=40)


class LotInline(ReadOnly, TabularInline):
    model = CreditLot
    verbose_name_plural = "lots"
    fields = ("kind", "amount_usd", "remaining_usd", "expired_usd", "priority", "expires_at", "created_at")
    readonly_fields = fields
    extra = 0
    hide_title = True

    @display(description="amount")
    def amount_usd(self, lot: CreditLot) -> str:
        return format_usd(lot.amount)

    @display(description="remaining")
    def remaining_usd(self, lot: CreditLot) -> str:
        return format_usd(lot.remaining)

    @display(description="expired")
    def expired_usd(self, lot: CreditLot) -> str:
        return format_usd(lot.expired)


class DebtFilter(admin.SimpleListFilter):
    title = "debt"
    parameter_name = "debt"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "In debt")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Wallet]) -> QuerySet[Wallet]:
        return queryset.filter(debt__gt=0) if self.value() else queryset


@admin.register(Wallet)
class WalletAdmin(ReadOnly, ProposesAdjustments):
    list_display = ("organization", "available_usd", "posted_usd", "held_usd", "debt_usd", "frozen")
    list_filter = ("frozen", DebtFilter)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__memberships__user__email")
    fields = (
        "organization",
        "available_usd",
        "posted_usd",
        "held_usd",
        "debt_usd",
        "frozen",
        "next_expiry",
        "created_at",
    )
    readonly_fields = fields
    inlines = (LotInline,)
    actions_detail = ("grant_credits", "propose_adjustment")

    def has_grant_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("credits.change_wallet")

    @action(description="Grant credits", url_path="grant", permissions=["grant"])
    def grant_credits(self, request: HttpRequest, object_id: str) -> HttpResponse:
        wallet = get_object_or_404(Wallet.objects.select_related("organization"), pk=object_id)

        def act(data: dict[str, Any]) -> str:
            given = corrections.give(
                wallet.pk,
                data["amount"],
                reason=data["reason"],
                key=data["key"],
                by=cast(User, request.user),
                kind=LotKind.PROMO if data["promotion"] else LotKind.ADJUSTMENT,
                expires_at=timezone.now() + timedelta(days=data["days"]) if data["days"] else None,
            )
            amount = format_usd(given.amount)
            if isinstance(given, Adjustment):
                self.log_addition(request, given, f"Proposed: give credits, {amount}.")
                return f"{amount} is more than one person may grant in a day. Proposed: somebody else must approve it."
            self.log_change(request, wallet, f"Granted {amount}: {given.reason}.")
            return f"Granted {amount} to {wallet.organization}."

        return action_page(
            self,
            request,
            GrantForm(request.POST or None, initial={"key": new_key()}),
            act,
            title=f"Grant credits to {wallet.organization}",
            button="Grant credits",
            back=reverse("admin:credits_wallet_change", args=[wallet.pk]),
            lines=(
                f"One person may grant {format_usd(settings.GRANT_LIMIT_NANOS)} a day to an organisation; more is "
                "proposed, and given when somebody else has approved it.",
            ),
        )

    @display(description="available", ordering="posted")
    def available_usd(self, wallet: Wallet) -> str:
        return format_usd(wallet.available)

    @display(description="posted", ordering="posted")
    def posted_usd(self, wallet: Wallet) -> str:
        return format_usd(wallet.posted)

    @display(description="held", ordering="held")
    def held_usd(self, wallet: Wallet) -> str:
        return format_usd(wallet.held)

    @display(description="debt", ordering="debt")
    def debt_usd(self, wallet: Wallet) -> str:
        return format_usd(wallet.debt)


@admin.register(Hold)
class HoldAdmin(ReadOnly, RefundsRequests, WritesHoldsOff):
    list_display = ("id", "organization", "model", "amount_usd", "captured_usd", "state", "created_at")
    list_filter = ("state",)
    list_select_related = ("wallet__organization",)
    search_fields = ("id__exact",)
    show_full_result_count = False
    actions_detail = ("refund", "write_off")
    fields = (
        "id", "organization", "api_key", "model", "state", "amount_usd", "captured_usd", "refunds", "input_tokens",
        "max_tokens", "context", "checkpoint", "owner", "lease_until", "created_at", "updated_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="organisation")
    def organization(self, hold: Hold) -> str:
        return str(hold.wallet.organization)

    @display(description="amount", ordering="amount")
    def amount_usd(self, hold: Hold) -> str:
        return format_usd(hold.amount)

    @display(description="captured", ordering="captured")
    def captured_usd(self, hold: Hold) -> str:
        return format_usd(hold.captured)


@admin.register(Transfer)
class TransferAdmin(ReadOnly, ModelAdmin):
    list_display = ("id", "created_at", "code", "debit", "credit", "amount_usd", "reason", "created_by")
    list_filter = ("code",)
    list_select_related = ("debit__organization", "credit__organization", "created_by")
    search_fields = ("idempotency_key__exact", "group_id__exact")
    show_full_result_count = False
    fields = (
        "id", "created_at", "code", "debit", "credit", "amount_usd", "idempotency_key", "group_id", "hold", "reason",
        "created_by",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="amount", ordering="amount")
    def amount_usd(self, transfer: Transfer) -> str:
        return format_usd(transfer.amount)


def _cost_is_unknown(record: UsageRecord) -> bool:
    """Then the record's cost is the charge itself, so that sums claim no margin."""
    return bool(record.attempts and record.attempts[-1].get("cost") == UNKNOWN_COST)


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnly, RefundsRequests):
    list_display = (
        "created_at", "organization", "model", "route", "provider", "input_tokens", "output_tokens", "charge_usd",
        "margin_usd", "status",
    )  # fmt: skip
    list_filter = ("route", "usage_source", "streamed")
    list_select_related = ("organization",)
    search_fields = ("request_id__exact", "organization__name")
    show_full_result_count = False
    actions_detail = ("refund",)
    fields = (
        ("request_id", "created_at"), ("organization", "api_key"), ("requested_model", "model"),
        ("route", "request_class"), "reasons", ("provider", "actual_model"), "attempts",
        ("status", "error_code", "stop_reason"),
        ("streamed", "first_token_ms", "total_ms"), ("input_tokens", "cache_read_tokens"),
        ("cache_write_tokens", "cache_write_1h_tokens"), ("output_tokens", "reasoning_tokens"),
        ("web_searches", "usage_source"), ("charge_usd", "cost_usd", "margin_usd"), "refunds",
        ("session_id", "agent_id", "parent_agent_id"), "client",
    )  # fmt: skip
    readonly_fields = tuple(
        name for row in fields for name in ((row,) if isinstance(row, str) else cast("tuple[str, ...]", row))
    )

    @display(description="why")
    def reasons(self, record: UsageRecord) -> str:
        """The routing rules in the order in which they were asked; the one that matched is marked."""
        lines = (
            (reason["rule"], "✓ " if reason["matched"] else "", reason["why"])
            for reason in explained(record.why)["rules"]
        )
        return format_html_join("", "<div><b>{}</b> {}{}</div>", lines) or "–"

    @display(description="charge", ordering="charge")
    def charge_usd(self, record: UsageRecord) -> str:
        return format_usd(record.charge)

    @display(description="cost", ordering="cost")
    def cost_usd(self, record: UsageRecord) -> str:
        return UNKNOWN_COST if _cost_is_unknown(record) else format_usd(record.cost)

    @display(description="margin", ordering="margin")
    def margin_usd(self, record: UsageRecord) -> str:
        return UNKNOWN_COST if _cost_is_unknown(record) else format_usd(record.margin)


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnly, ModelAdmin):
    """All tenants' usage by day and model; a single rollup is nothing to look at."""

    fields = ("organization", "period", "starts_at", "api_key", "model", "provider", "route", "requests", "charge")
    readonly_fields = fields

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        lines = platform_usage(Span.last_days(timezone.now(), OVERVIEW_DAYS))
        total = sum((line.sums for line in lines), Sums())
        rows = [(f"{line.day:%Y-%m-%d}", line.model, line.sums) for line in lines]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Usage of the last {OVERVIEW_DAYS} days (UTC)",
            "opts": self.model._meta,
            "table": {
                "headers": [
                    "Day",
                    "Model",
                    "Requests",
                    "Errors",
                    "Input",
                    "Cached",
                    "Output",
                    "Charge",
                    "Cost",
                    "Margin",
                ],
                "rows": [[day, model, *_cells(sums)] for day, model, sums in [*rows, ("Total", "", total)]],
            },
        }
        return TemplateResponse(request, "credits/usage_overview.html", context)


def _cells(sums: Sums) -> list[str]:
    counts = (sums.requests, sums.errors, sums.input_tokens, sums.cached_tokens, sums.output_tokens)
    return [f"{count:,}" for count in counts] + [format_usd(nanos) for nanos in (sums.charge, sums.cost, sums.margin)]


@admin.register(UsageArchive)
class UsageArchiveAdmin(ReadOnly, ModelAdmin):
    list_display = ("path", "organization", "records", "charge_usd", "created_at", "deleted_at")
    list_select_related = ("organization",)
    fields = (
        "organization", "starts_at", "ends_at", "path", "records", "charge_usd", "sha256", "created_at", "deleted_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="charge", ordering="charge")
    def charge_usd(self, archive: UsageArchive) -> str:
        return format_usd(archive.charge)


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(ReadOnly, ModelAdmin):
    list_display = ("started_at", "ok", "full", "failed")
    list_filter = ("ok", "full")
    fields = ("started_at", "finished_at", "full", "ok", "lines")
    readonly_fields = fields
    actions_list = ("run_now",)

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("credits.add_reconciliationrun")

    @action(description="Run now", url_path="run", permissions=["run"])
    def run_now(self, request: HttpRequest) -> HttpResponse:
        """Asks first, since the link itself must change nothing; the worker then reads the whole ledger."""
        if request.method == "POST":
            try:
                tasks.reconcile.delay(full=True)
            except OperationalError:
                messages.error(request, "The run could not be started: the task broker does not answer.")
            else:
                messages.success(request, "A full run was started. Its result appears here when it has ended.")
            return HttpResponseRedirect(reverse("admin:credits_reconciliationrun_changelist"))
        context = {**self.admin_site.each_context(request), "title": "Run now", "opts": self.model._meta}
        return TemplateResponse(request, "credits/reconcile.html", context)

    @display(description="failed checks")
    def failed(self, run: ReconciliationRun) -> str:
        return ", ".join(result["check"] for result in run.results if not result["ok"]) or "–"

    @display(description="results")
    def lines(self, run: ReconciliationRun) -> str:
        lines = ((str(Finding(**result)), Finding(**result).milliseconds) for result in run.results)
        return format_html_join("", "<div>{} ({} ms)</div>", lines) or "–"
