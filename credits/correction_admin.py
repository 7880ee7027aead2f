"""The operators' pages for refunds of requests, adjustments and write-offs. Nothing that was done is
edited or deleted; whoever proposes an adjustment does not decide it."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.models import User
from credits import corrections
from credits.admin_forms import ReadOnly, UsdField, action_page, new_key
from credits.correction_models import (
    Adjustment,
    AdjustmentKind,
    AdjustmentState,
    Correction,
    HoldWriteOff,
)
from credits.models import Hold, HoldState, Wallet
from credits.money import format_usd


def _text(label: str, length: int, *, required: bool = True) -> forms.CharField:
    return forms.CharField(label=label, max_length=length, required=required, widget=UnfoldAdminTextInputWidget)


class RefundForm(forms.Form):
    amount = UsdField(label="Amount (USD)")
    ticket = _text("Ticket", 60)
    reason = _text("Reason", 200)


class AdjustmentForm(forms.Form):
    kind = forms.ChoiceField(label="What", choices=AdjustmentKind.choices, widget=UnfoldAdminSelectWidget)
    amount = UsdField(label="Amount (USD)")
    ticket = _text("Ticket", 60, required=False)
    reason = _text("Reason", 200)
    key = forms.CharField(widget=forms.HiddenInput, max_length=40)


class DecisionForm(forms.Form):
    decision = _text("Remark", 200, required=False)


class ReasonForm(forms.Form):
    reason = _text("Reason", 200)


def _in_state(object_id: Any, state: HoldState) -> bool:
    return Hold.objects.filter(pk=unquote(str(object_id)), state=state).exists()


class RefundsRequests(ModelAdmin):
    """For pages whose object's id is the request's, which the admin quotes in its addresses."""

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.add_correction")
        return may and (object_id is None or _in_state(object_id, HoldState.CAPTURED))

    @action(description="Refund", url_path="refund", permissions=["refund"])
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        hold = get_object_or_404(Hold.objects.select_related("wallet__organization"), pk=unquote(object_id))
        left = corrections.refundable(hold)
        form = RefundForm(request.POST or None, initial={"amount": format_usd(left).lstrip("$").replace(",", "")})

        def act(data: dict[str, Any]) -> str:
            by = cast(User, request.user)
            done = corrections.refund(hold.pk, data["amount"], ticket=data["ticket"], reason=data["reason"], by=by)
            text = f"Refunded {format_usd(done.amount)} (ticket {done.ticket}: {done.reason})."
            self.log_change(request, self.model._default_manager.get(pk=hold.pk), text)
            return text

        return action_page(
            self,
            request,
            form,
            act,
            title=f"Refund request {hold.pk}",
            button="Refund",
            back=reverse(f"admin:credits_{self.opts.model_name}_change", args=[quote(hold.pk)]),
            lines=(
                f"{hold.wallet.organization} was charged {format_usd(hold.captured)}; "
                f"{format_usd(left)} of it can still be refunded.",
                "What has expired meanwhile expires again.",
            ),
        )

    @display(description="refunds")
    def refunds(self, row: Any) -> str:
        """Beside the charge, which stays as it was."""
        found = Correction.objects.filter(hold_id=row.pk).order_by("pk")
        return "; ".join(f"{format_usd(each.amount)} ({each.ticket}: {each.reason})" for each in found) or "–"


class WritesHoldsOff(ModelAdmin):
    def has_write_off_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        may = request.user.has_perm("credits.add_holdwriteoff")
        return may and (object_id is None or _in_state(object_id, HoldState.NEEDS_SETTLEMENT))

    @action(description="Write off", url_path="write-off", permissions=["write_off"])
    def write_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        hold = get_object_or_404(Hold.objects.select_related("wallet__organization"), pk=unquote(object_id))

        def act(data: dict[str, Any]) -> str:
            by = cast(User, request.user)
            done = corrections.write_off_hold(hold.pk, reason=data["reason"], by=by)
            text = f"Wrote off the hold of {format_usd(done.amount)}: {done.reason}."
            self.log_change(request, hold, text)
            return text

        return action_page(
            self,
            request,
            ReasonForm(request.POST or None),
            act,
            title=f"Write off hold {hold.pk}",
            button="Write off",
            back=reverse("admin:credits_hold_change", args=[quote(hold.pk)]),
            lines=(
                f"{hold.wallet.organization} gets the hold of {format_usd(hold.amount)} back and pays nothing for this "
                "request. This cannot be undone.",
            ),
        )


class ProposesAdjustments(ModelAdmin):
    def has_propose_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("credits.add_adjustment")

    @action(description="Propose adjustment", url_path="adjust", permissions=["propose"])
    def propose_adjustment(self, request: HttpRequest, object_id: str) -> HttpResponse:
        wallet = get_object_or_404(Wallet.objects.select_related("organization"), pk=object_id)

        def act(data: dict[str, Any]) -> str:
            proposed = corrections.propose(
                wallet.pk,
                AdjustmentKind(data["kind"]),
                data["amount"],
                reason=data["reason"],
                ticket=data["ticket"],
                key=data["key"],
                by=cast(User, request.user),
            )
            text = f"Proposed: {proposed.get_kind_display().lower()}, {format_usd(proposed.amount)}."
            self.log_addition(request, proposed, text)
            return f"{text} Somebody else must approve it."

        return action_page(
            self,
            request,
            AdjustmentForm(request.POST or None, initial={"key": new_key()}),
            act,
            title=f"Propose an adjustment for {wallet.organization}",
            button="Propose",
            back=reverse("admin:credits_wallet_change", args=[wallet.pk]),
            lines=(
                f"Free: {format_usd(wallet.posted - wallet.held)}. Owed: {format_usd(wallet.debt)}.",
                "Nothing changes until somebody else has approved it.",
            ),
        )


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnly, ModelAdmin):
    list_display = ("id", "organization", "kind", "amount_usd", "state_label", "proposed_by", "decided_by", "reason")
    list_filter = ("state", "kind")
    list_select_related = ("organization", "proposed_by", "decided_by")
    search_fields = ("organization__name", "ticket__exact")
    fields = (
        "organization", "kind", "amount_usd", "reason", "ticket", "state_label", "proposed_by", "proposed_at",
        "decided_by", "decided_at", "decision",
    )  # fmt: skip
    readonly_fields = fields
    actions_detail = ("approve", "reject")

    def has_decide_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        if not request.user.has_perm("credits.decide_adjustment"):
            return False
        waiting = Adjustment.objects.filter(pk=object_id, state=AdjustmentState.PROPOSED)
        return object_id is None or waiting.exclude(proposed_by=cast(User, request.user)).exists()

    @action(description="Approve", url_path="approve", permissions=["decide"])
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=True)

    @action(description="Reject", url_path="reject", permissions=["decide"])
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._decide(request, object_id, approve=False)

    def _decide(self, request: HttpRequest, object_id: str, *, approve: bool) -> HttpResponse:
        adjustment = get_object_or_404(Adjustment.objects.select_related("organization", "proposed_by"), pk=object_id)
        what = f"{adjustment.get_kind_display()}: {format_usd(adjustment.amount)}, {adjustment.organization}"

        def act(data: dict[str, Any]) -> str:
            service = corrections.approve if approve else corrections.reject
            service(adjustment.pk, by=cast(User, request.user), decision=data["decision"])
            self.log_change(request, adjustment, f"{'Approved' if approve else 'Rejected'}. {data['decision']}".strip())
            return f"{'Approved' if approve else 'Rejected'}: {what}."

        return action_page(
            self,
            request,
            DecisionForm(request.POST or None),
            act,
            title=f"{'Approve' if approve else 'Reject'} adjustment {adjustment.pk}",
            button="Approve" if approve else "Reject",
            back=reverse("admin:credits_adjustment_change", args=[object_id]),
            lines=(f"{what}.", f"Proposed by {adjustment.proposed_by}: {adjustment.reason}"),
        )

    @display(description="amount", ordering="amount")
    def amount_usd(self, adjustment: Adjustment) -> str:
        return format_usd(adjustment.amount)

    @display(description="state", label={"Proposed": "warning", "Approved": "success", "Rejected": "danger"})
    def state_label(self, adjustment: Adjustment) -> str:
        return adjustment.get_state_display()


@admin.register(Correction)
class CorrectionAdmin(ReadOnly, ModelAdmin):
    list_display = ("created_at", "organization", "hold", "amount_usd", "ticket", "reason", "created_by")
    list_select_related = ("hold__wallet__organization", "created_by")
    search_fields = ("hold__id__exact", "ticket__exact")
    fields = (
        "created_at", "organization", "hold", "amount_usd", "restored_usd", "debt_cancelled_usd", "credited_usd",
        "ticket", "reason", "created_by",
    )  # fmt: skip
    readonly_fields = fields

    @display(description="organisation")
    def organization(self, correction: Correction) -> str:
        return str(correction.hold.wallet.organization)

    @display(description="amount", ordering="amount")
    def amount_usd(self, correction: Correction) -> str:
        return format_usd(correction.amount)

    @display(description="back into the lots used")
    def restored_usd(self, correction: Correction) -> str:
        return format_usd(correction.restored)

    @display(description="debt cancelled")
    def debt_cancelled_usd(self, correction: Correction) -> str:
        return format_usd(correction.debt_cancelled)

    @display(description="given for debt repaid")
    def credited_usd(self, correction: Correction) -> str:
        return format_usd(correction.credited)


@admin.register(HoldWriteOff)
class HoldWriteOffAdmin(ReadOnly, ModelAdmin):
    list_display = ("created_at", "hold", "amount_usd", "reason", "created_by")
    list_select_related = ("created_by",)
    search_fields = ("hold__id__exact",)
    fields = list_display
    readonly_fields = fields

    @display(description="amount", ordering="amount")
    def amount_usd(self, written_off: HoldWriteOff) -> str:
        return format_usd(written_off.amount)
