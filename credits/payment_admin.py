"""The operators' pages of payments: top-ups and their refunds, disputes, what Stripe told. Nothing is edited."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from kombu.exceptions import OperationalError
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.models import User
from credits.admin_forms import ReadOnly, UsdField, action_page, new_key
from credits.money import format_usd
from credits.payments import disputes, refunds, tasks
from credits.payments.models import (
    AutoTopUp,
    BillingAccount,
    DisputeKind,
    DisputeState,
    PaymentDispute,
    PaymentRefund,
    StripeEvent,
    TopUp,
    TopUpState,
)

STATES = {
    "Paid": "success", "Failed": "danger", "Cancelled": "", "Starting": "info", "Waiting for payment": "info",
}  # fmt: skip


class PaymentRefundForm(forms.Form):
    amount = UsdField(label="Amount (USD), with its part of fee and tax")
    reason = forms.CharField(label="Reason", max_length=200, widget=UnfoldAdminTextInputWidget)
    key = forms.CharField(widget=forms.HiddenInput, max_length=40)


def _later(request: HttpRequest, task: Any, *arguments: Any) -> None:
    try:
        task.delay(*arguments)
    except OperationalError:
        messages.warning(
            request, "The queue does not answer: this is done by the sweep, within a minute of its return."
        )


class RefundInline(ReadOnly, TabularInline):
    model = PaymentRefund
    fields = ("id", "state", "amount_usd", "from_wallet_usd", "from_debt_usd", "reason", "failure", "created_at")
    readonly_fields = fields
    extra = 0
    hide_title = True

    @display(description="amount")
    def amount_usd(self, row: PaymentRefund) -> str:
        return format_usd(row.amount)

    @display(description="of credits left")
    def from_wallet_usd(self, row: PaymentRefund) -> str:
        return format_usd(row.from_wallet)

    @display(description="of credits spent")
    def from_debt_usd(self, row: PaymentRefund) -> str:
        return format_usd(row.from_debt)


@admin.register(TopUp)
class TopUpAdmin(ReadOnly, ModelAdmin):
    list_display = ("id", "created_at", "organization", "kind", "amount_usd", "total_usd", "state_label", "failure")
    list_filter = ("state", "kind")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "payment_intent__exact", "checkout_session__exact", "invoice__exact")
    fields = (
        "organization", "kind", "state_label", "amount_usd", "fee_usd", "tax_usd", "total_usd", "created_by",
        "created_at", "paid_at", "failure", "failure_text", "checkout_session", "invoice", "payment_intent", "charge",
        "attempt",
    )  # fmt: skip
    readonly_fields = fields
    inlines = (RefundInline,)
    actions_detail = ("refund", "look")

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.add_paymentrefund")
        return may and (object_id is None or TopUp.objects.filter(pk=object_id, state=TopUpState.SUCCEEDED).exists())

    def has_look_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("credits.view_topup")

    @action(description="Look at Stripe", url_path="look", permissions=["look"])
    def look(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stripe is asked by the worker; this changes nothing that a webhook would not."""
        _later(request, tasks.look_at_top_up, int(object_id))
        messages.info(request, "The worker looks at Stripe now.")
        return HttpResponseRedirect(reverse("admin:credits_topup_change", args=[object_id]))

    @action(description="Refund", url_path="refund", permissions=["refund"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        top_up = get_object_or_404(TopUp.objects.select_related("organization"), pk=object_id)
        left = refunds.refundable(top_up)
        initial = {"amount": format_usd(left).lstrip("$").replace(",", ""), "key": new_key()}

        def act(data: dict[str, Any]) -> str:
            by = cast(User, request.user)
            made = refunds.request(top_up.pk, data["amount"], reason=data["reason"], key=data["key"], by=by)
            _later(request, tasks.send_refund, made.pk)
            text = f"Refund of {format_usd(made.amount)} requested: {made.reason}."
            self.log_change(request, top_up, text)
            return f"{text} The credits are taken; the money goes back once Stripe has taken the order."

        return action_page(
            self,
            request,
            PaymentRefundForm(request.POST or None, initial=initial),
            act,
            title=f"Refund {top_up} of {top_up.organization}",
            button="Refund",
            back=reverse("admin:credits_topup_change", args=[object_id]),
            lines=(
                f"{format_usd(top_up.total)} was paid; {format_usd(left)} of it pays for credits that are still there.",
                "What has been spent is not refunded here. If the refund fails, the credits come back.",
            ),
        )

    @display(description="credits", ordering="amount")
    def amount_usd(self, row: TopUp) -> str:
        return format_usd(row.amount)

    @display(description="fee")
    def fee_usd(self, row: TopUp) -> str:
        return format_usd(row.fee)

    @display(description="tax")
    def tax_usd(self, row: TopUp) -> str:
        return format_usd(row.tax)

    @display(description="paid in all")
    def total_usd(self, row: TopUp) -> str:
        return format_usd(row.total) if row.state == TopUpState.SUCCEEDED else "–"

    @display(description="state", label=STATES)
    def state_label(self, row: TopUp) -> str:
        return row.get_state_display()


@admin.register(PaymentDispute)
class PaymentDisputeAdmin(ReadOnly, ModelAdmin):
    list_display = ("id", "created_at", "organization", "kind", "state", "status", "amount_usd", "reason")
    list_filter = ("state", "kind")
    list_select_related = ("top_up__organization",)
    fields = (
        "id", "organization", "top_up", "kind", "state", "status", "reason", "amount_usd", "from_debt_usd", "froze",
        "created_at", "closed_at",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("close",)

    def has_close_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.change_paymentdispute")
        warnings = PaymentDispute.objects.filter(kind=DisputeKind.WARNING, state=DisputeState.OPEN)
        return may and (object_id is None or warnings.filter(pk=object_id).exists())

    @action(description="Close the warning", url_path="close", permissions=["close"])
    def close(self, request: HttpRequest, object_id: str) -> HttpResponse:
        warning = get_object_or_404(PaymentDispute.objects.select_related("top_up__organization"), pk=object_id)

        def act(_data: dict[str, Any]) -> str:
            disputes.close_warning(warning.pk, by=cast(User, request.user))
            self.log_change(request, warning, "Closed the warning.")
            return "The warning is closed."

        return action_page(
            self,
            request,
            forms.Form(request.POST or None),
            act,
            title=f"Close the warning about {warning.top_up}",
            button="Close",
            back=reverse("admin:credits_paymentdispute_change", args=[object_id]),
            lines=(f"{warning.top_up.organization} may use its credits again.", "A refund closes a warning by itself."),
        )

    @display(description="organisation")
    def organization(self, row: PaymentDispute) -> str:
        return str(row.top_up.organization)

    @display(description="withdrawn", ordering="amount")
    def amount_usd(self, row: PaymentDispute) -> str:
        return format_usd(row.amount)

    @display(description="of credits spent")
    def from_debt_usd(self, row: PaymentDispute) -> str:
        return format_usd(row.from_debt)


@admin.register(BillingAccount)
class BillingAccountAdmin(ReadOnly, ModelAdmin):
    list_display = ("organization", "customer", "card", "blocked")
    list_filter = ("blocked",)
    list_select_related = ("organization",)
    search_fields = ("organization__name", "customer__exact")
    fields = ("organization", "customer", "card", "blocked", "created_at")
    readonly_fields = fields
    actions_detail = ("unblock",)

    def has_unblock_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.change_billingaccount")
        return may and (object_id is None or BillingAccount.objects.filter(pk=object_id, blocked=True).exists())

    @action(description="Allow to buy again", url_path="unblock", permissions=["unblock"])
    def unblock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = get_object_or_404(BillingAccount.objects.select_related("organization"), pk=object_id)

        def act(_data: dict[str, Any]) -> str:
            disputes.unblock(account.pk, by=cast(User, request.user))
            self.log_change(request, account, "Allowed to buy credits again.")
            return f"{account.organization} may buy credits again."

        return action_page(
            self,
            request,
            forms.Form(request.POST or None),
            act,
            title=f"Let {account.organization} buy credits again",
            button="Allow",
            back=reverse("admin:credits_billingaccount_change", args=[object_id]),
            lines=("It was blocked because it lost a dispute.",),
        )


@admin.register(AutoTopUp)
class AutoTopUpAdmin(ReadOnly, ModelAdmin):
    list_display = ("organization", "enabled", "amount_usd", "threshold_usd", "failures", "paused_until")
    list_filter = ("enabled",)
    list_select_related = ("organization",)
    fields = (
        "organization", "enabled", "amount_usd", "threshold_usd", "cap_usd", "failures", "paused_until", "updated_by",
        "updated_at",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="buys")
    def amount_usd(self, row: AutoTopUp) -> str:
        return format_usd(row.amount)

    @display(description="below")
    def threshold_usd(self, row: AutoTopUp) -> str:
        return format_usd(row.threshold)

    @display(description="at most in a month")
    def cap_usd(self, row: AutoTopUp) -> str:
        return format_usd(row.monthly_cap)


class HandledFilter(admin.SimpleListFilter):
    title = "handled"
    parameter_name = "handled"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("0", "Not handled")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(handled_at=None) if self.value() else queryset


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly, ModelAdmin):
    list_display = ("received_at", "type", "object_id", "outcome", "source", "attempts", "error")
    list_filter = (HandledFilter, "type")
    search_fields = ("id__exact", "object_id__exact")
    fields = (
        "id", "type", "object_id", "source", "created_at", "received_at", "handled_at", "outcome", "attempts", "error",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("handle",)

    def has_handle_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.change_stripeevent")
        return may and (object_id is None or StripeEvent.objects.filter(pk=object_id, handled_at=None).exists())

    @action(description="Try again", url_path="handle", permissions=["handle"])
    def handle(self, request: HttpRequest, object_id: str) -> HttpResponse:
        _later(request, tasks.handle_event, object_id)
        messages.info(request, "The worker tries again now.")
        return HttpResponseRedirect(reverse("admin:credits_stripeevent_change", args=[object_id]))
