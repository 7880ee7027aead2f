"""Key budgets in the admin: limits are typed in dollars and set through the service."""

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from credits import budgets
from credits.form_fields import LimitField
from credits.key_budgets import set_key_budget
from credits.models import KeyBudget
from credits.money import format_usd


class AdminLimitField(LimitField):
    widget = UnfoldAdminTextInputWidget


class KeyBudgetForm(forms.ModelForm):
    limit_total = AdminLimitField(label="In all (USD)", help_text="Empty: no limit.")
    limit_day = AdminLimitField(label="Per day (USD)", help_text="A day begins at 00:00 UTC.")
    limit_week = AdminLimitField(label="Per week (USD)", help_text="A week begins on Monday, 00:00 UTC.")
    limit_month = AdminLimitField(label="Per month (USD)", help_text="A month begins on the 1st, 00:00 UTC.")

    class Meta:
        model = KeyBudget
        fields = ("api_key", "limit_total", "limit_day", "limit_week", "limit_month")


@admin.register(KeyBudget)
class KeyBudgetAdmin(ModelAdmin):
    form = KeyBudgetForm
    list_display = ("api_key", "total", "day", "week", "month", "held_usd")
    list_select_related = ("api_key",)
    search_fields = ("api_key__name", "api_key__last_four", "api_key__organization__name")
    autocomplete_fields = ("api_key",)

    def get_readonly_fields(self, request: HttpRequest, obj: KeyBudget | None = None) -> tuple[str, ...]:
        return ("api_key", "total", "day", "week", "month", "held_usd") if obj else ()

    def get_fields(self, request: HttpRequest, obj: KeyBudget | None = None) -> tuple[str, ...]:
        return (*KeyBudgetForm.Meta.fields, *(self.get_readonly_fields(request, obj)[1:]))

    def has_delete_permission(self, request: HttpRequest, obj: KeyBudget | None = None) -> bool:
        """Empty limits do the same, and the counters go on."""
        return False

    def save_model(self, request: HttpRequest, obj: KeyBudget, form: forms.ModelForm, change: bool) -> None:
        limits = {window: form.cleaned_data[f"limit_{window}"] for window in budgets.WINDOWS}
        stored = set_key_budget(obj.api_key.organization_id, obj.api_key_id, limits)
        obj.pk = stored.pk

    @display(description="spent in all")
    def total(self, budget: KeyBudget) -> str:
        return _of(budget.spent_total, budget.limit_total)

    @display(description="spent in the day")
    def day(self, budget: KeyBudget) -> str:
        return _of(budget.spent_day, budget.limit_day)

    @display(description="spent in the week")
    def week(self, budget: KeyBudget) -> str:
        return _of(budget.spent_week, budget.limit_week)

    @display(description="spent in the month")
    def month(self, budget: KeyBudget) -> str:
        return _of(budget.spent_month, budget.limit_month)

    @display(description="held")
    def held_usd(self, budget: KeyBudget) -> str:
        return format_usd(budget.held)


def _of(spent: int, limit: int | None) -> str:
    return format_usd(spent) if limit is None else f"{format_usd(spent)} of {format_usd(limit)}"
