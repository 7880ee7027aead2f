"""The operators' pages for promo codes: codes are made, switched off and counted, never deleted."""

import csv
from datetime import UTC, datetime, time
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSingleDateWidget, UnfoldAdminTextInputWidget

from accounts.models import User
from credits import promos
from credits.admin_forms import ReadOnly, UsdField
from credits.correction_models import PromoCode, PromoRedemption
from credits.entries import DEFAULT_PRIORITY
from credits.errors import CreditsError
from credits.money import format_usd

LONGEST_DAYS = 3650


def _days(label: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, min_value=1, max_value=LONGEST_DAYS, required=False, widget=UnfoldAdminIntegerFieldWidget
    )


class AddPromoCodeForm(forms.ModelForm):
    amount_usd = UsdField(label="Amount (USD)")

    class Meta:
        model = PromoCode
        fields = ("code", "note", "expires_in_days", "valid_from", "valid_until", "max_redemptions", "priority")

    def clean_code(self) -> str:
        code = promos.normalised(self.cleaned_data["code"])
        if not code:
            raise forms.ValidationError("A code has 4 to 40 letters and digits.")
        return code

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        self.instance.amount = data.get("amount_usd") or 0
        refuse_ended(self, data.get("valid_from"), data.get("valid_until"))
        return data


class ChangePromoCodeForm(forms.ModelForm):
    class Meta:
        model = PromoCode
        fields = ("note", "valid_until", "enabled")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        refuse_ended(self, self.instance.valid_from, data.get("valid_until"))
        return data


def refuse_ended(form: forms.ModelForm, start: datetime | None, end: datetime | None) -> None:
    if start is not None and end is not None and end <= start:
        form.add_error("valid_until", "This must be after the start.")


class GenerateForm(forms.Form):
    count = forms.IntegerField(
        label="Number of codes", min_value=1, max_value=promos.MOST_AT_ONCE, widget=UnfoldAdminIntegerFieldWidget
    )
    amount = UsdField(label="Amount of each (USD)")
    expires_in_days = _days("Credits expire after (days)")
    valid_until = forms.DateField(
        label="Can be redeemed until (UTC, that day included)", required=False, widget=UnfoldAdminSingleDateWidget
    )
    note = forms.CharField(label="Note", max_length=120, widget=UnfoldAdminTextInputWidget)
    priority = forms.IntegerField(
        label="Priority", initial=DEFAULT_PRIORITY, min_value=0, max_value=1000, widget=UnfoldAdminIntegerFieldWidget
    )

    def terms(self) -> promos.Terms:
        data = self.cleaned_data
        day = data["valid_until"]
        return promos.Terms(
            amount=data["amount"],
            expires_in_days=data["expires_in_days"],
            max_redemptions=1,
            valid_until=datetime.combine(day, time.max, UTC) if day else None,
            priority=data["priority"],
            note=data["note"],
        )

    def clean_valid_until(self) -> Any:
        day = self.cleaned_data["valid_until"]
        if day is not None and day < datetime.now(UTC).date():
            raise forms.ValidationError("This day is over.")
        return day


@admin.register(PromoCode)
class PromoCodeAdmin(ModelAdmin):
    list_display = ("shown_code", "note", "amount_usd", "redemptions_of", "valid_until", "enabled", "created_by")
    list_filter = ("enabled", "generated")
    list_select_related = ("created_by",)
    search_fields = ("note",)
    actions_list = ("generate",)
    actions: ClassVar[list[str]] = ["disable"]
    form = ChangePromoCodeForm

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = AddPromoCodeForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return (
                "code", "amount_usd", "expires_in_days", "max_redemptions", "valid_from", "valid_until", "priority",
                "note",
            )  # fmt: skip
        return (
            "shown_code", "amount_usd", "expires_in_days", "redemptions_of", "valid_from", "priority", "created_by",
            "created_at", "note", "valid_until", "enabled",
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        changeable = {"note", "valid_until", "enabled"}
        return () if obj is None else tuple(name for name in self.get_fields(request, obj) if name not in changeable)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> Any:
        """By note; or a whole code, as customers write it."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        code = promos.normalised(search_term)
        return (found | queryset.filter(code=code) if code else found), duplicates

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: PromoCode, form: forms.ModelForm, change: bool) -> None:
        if change:
            # Not the whole row: `redeemed` grows meanwhile.
            obj.save(update_fields=("note", "valid_until", "enabled"))
            return
        obj.created_by = cast(User, request.user)
        obj.save()

    def has_generate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("credits.add_promocode")

    @action(description="Generate codes", url_path="generate", permissions=["generate"])
    def generate(self, request: HttpRequest) -> HttpResponse:
        """The answer to the form is the list of codes itself: afterwards they are shown masked."""
        form = GenerateForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                made = promos.generate_codes(form.cleaned_data["count"], form.terms(), by=cast(User, request.user))
            except CreditsError as error:
                form.add_error(None, str(error))
            else:
                self.log_addition(request, made[0], f"Generated with {len(made) - 1} more: {made[0].note}")
                return codes_as_csv(made)
        context = {
            **self.admin_site.each_context(request),
            "title": "Generate promo codes",
            "opts": self.opts,
            "form": form,
            "lines": ("Each code is for one organisation. They are downloaded as CSV, this once: keep the file.",),
            "button": "Generate and download",
            "back": reverse("admin:credits_promocode_changelist"),
        }
        return TemplateResponse(request, "credits/action.html", context)

    @admin.action(description="Disable selected codes", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: Any) -> None:
        for promo in queryset.filter(enabled=True):
            PromoCode.objects.filter(pk=promo.pk).update(enabled=False)
            self.log_change(request, promo, "Disabled.")

    @display(description="code", ordering="code")
    def shown_code(self, promo: PromoCode) -> str:
        return promo.shown

    @display(description="amount", ordering="amount")
    def amount_usd(self, promo: PromoCode) -> str:
        return format_usd(promo.amount)

    @display(description="redeemed", ordering="redeemed")
    def redemptions_of(self, promo: PromoCode) -> str:
        return f"{promo.redeemed:,} of {promo.max_redemptions:,}" if promo.max_redemptions else f"{promo.redeemed:,}"


def codes_as_csv(codes: Any) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="promo-codes.csv"'
    response["Cache-Control"] = "no-store"
    writer = csv.writer(response)
    writer.writerow(["code", "amount_usd", "valid_until", "expires_in_days"])
    for promo in codes:
        until = promo.valid_until.isoformat() if promo.valid_until else ""
        amount = format_usd(promo.amount).lstrip("$").replace(",", "")
        writer.writerow([promos.grouped(promo.code), amount, until, promo.expires_in_days or ""])
    return response


@admin.register(PromoRedemption)
class PromoRedemptionAdmin(ReadOnly, ModelAdmin):
    list_display = ("created_at", "promo_code", "organization", "amount_usd", "redeemed_by")
    list_select_related = ("promo_code", "organization", "redeemed_by")
    search_fields = ("organization__name", "promo_code__note", "redeemed_by__email__exact")
    fields = (*list_display, "transfer")
    readonly_fields = fields

    @display(description="amount")
    def amount_usd(self, redemption: PromoRedemption) -> str:
        return format_usd(redemption.promo_code.amount)
