"""Forms of the operators' pages."""

from datetime import datetime
from typing import Any

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from providers.errors import ConfigError
from providers.models import Credential, Mapping, MappingCost, ModelPrice
from providers.pasted import pasted_secret
from providers.selectors import current_cost
from providers.services import RATES, set_cost

COSTS = (*RATES, "tiers")


class CredentialForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret goes in and never comes out."""

    secret = forms.CharField(
        required=False,
        label="New secret",
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="The provider's API key, or a key file's JSON. Leave empty to keep the stored one.",
    )

    class Meta:
        model = Credential
        fields = ("label", "organization", "weight", "requests_per_minute", "concurrency", "enabled")

    def clean_secret(self) -> str:
        secret = str(self.cleaned_data.get("secret") or "").strip()
        if not secret and not self.instance.sealed:
            raise forms.ValidationError("Enter the provider's API key.")
        try:
            return pasted_secret(secret)
        except ConfigError as error:
            raise forms.ValidationError(str(error)) from None

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["secret"]:
            self.instance.set_secret(self.cleaned_data["secret"])
        return super().save(commit=commit)


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = ModelPrice
        fields = (
            "effective_from",
            "input",
            "output",
            "cache_read",
            "cache_write",
            "cache_write_1h",
            "web_search",
            "tiers",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if moment := self.fields.get("effective_from"):
            moment.required = False
            moment.initial = None
            moment.help_text = "Empty: from now on. Times are UTC."

    def clean_effective_from(self) -> datetime:
        now = timezone.now()
        moment: datetime = self.cleaned_data.get("effective_from") or now
        if moment < now:
            raise forms.ValidationError("A price begins now or later: what is past was charged already.")
        return moment


class CostForm(PriceForm):
    class Meta(PriceForm.Meta):
        model = MappingCost  # type: ignore[assignment]


COST_HELP = {
    "input": "What you pay from now on, USD per million tokens. Empty: unknown.",
    "cache_read": "Empty: the input cost.",
    "cache_write": "Empty: 1.25 times the input cost.",
    "cache_write_1h": "Empty: twice the input cost.",
    "web_search": "USD per 1000 searches.",
    "tiers": "For the whole of a request with more input tokens: 200000: input 6, output 22.5 (one a line)",
}


def _cost_field(name: str) -> Any:
    column = MappingCost._meta.get_field(name)
    field = column.formfield(required=False, label=f"cost {column.verbose_name}", help_text=COST_HELP.get(name, ""))  # type: ignore[union-attr]
    assert field is not None
    field.widget = UnfoldAdminTextareaWidget(attrs={"rows": 2}) if name == "tiers" else UnfoldAdminTextInputWidget()
    field.initial = None
    return field


class MappingForm(forms.ModelForm):  # type: ignore[type-arg]
    """A mapping with its cost. A changed cost is a new row that holds from now on."""

    cost_input = _cost_field("input")
    cost_output = _cost_field("output")
    cost_cache_read = _cost_field("cache_read")
    cost_cache_write = _cost_field("cache_write")
    cost_cache_write_1h = _cost_field("cache_write_1h")
    cost_web_search = _cost_field("web_search")
    cost_tiers = _cost_field("tiers")

    class Meta:
        model = Mapping
        fields = ("provider", "actual_model", "priority", "weight", "enabled", "extra_body")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known = current_cost(self.instance) if self.instance.pk else None
        if self.known is not None:
            self.initial.update({f"cost_{name}": getattr(self.known, name) for name in COSTS})

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.moment = timezone.now()
        self.cost = {name: cleaned.get(f"cost_{name}") for name in COSTS}
        entered = any(
            value not in {None, ""} for name, value in self.cost.items() if name not in {"web_search", "tiers"}
        )
        if not entered and not self.cost["web_search"] and not self.cost["tiers"]:
            if self.known is not None and not self.errors:
                self.add_error("cost_input", "The cost is known and cannot become unknown: enter it, 0 if it is free.")
            self.cost = {}
            return cleaned
        for name in ("input", "output"):
            if self.cost[name] is None and f"cost_{name}" not in self.errors:
                self.add_error(f"cost_{name}", "Enter both the input and the output cost, or neither.")
        if not self.errors:
            self._check_rates()
        return cleaned

    def _check_rates(self) -> None:
        try:
            MappingCost(**{**self.cost, "web_search": self.cost["web_search"] or 0}).clean()
        except forms.ValidationError as error:
            for name, texts in error.message_dict.items():
                self.add_error(f"cost_{name}", texts)

    def save(self, commit: bool = True) -> Any:
        mapping = super().save(commit=commit)
        if commit and self.cost:
            set_cost(mapping=mapping, rates=self.cost, now=self.moment)
        return mapping
