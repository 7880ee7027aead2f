"""Forms of the operators' pages."""

import json
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from providers.config_entries import ROUTES
from providers.models import Credential, Mapping, MappingCost, Model, ModelPrice, RouterProfile
from providers.selectors import current_cost
from providers.services import RATES, set_cost

OFF = "-"
COSTS = (*RATES, "tiers")
NOT_SET = "— not set here —"
SWITCHES = ("think_in_plan_mode", "pin_explicit_model")
# The values are those of Django's select for yes, no and neither.
SWITCH_CHOICES = [("unknown", NOT_SET), ("true", "Yes"), ("false", "No")]
ROUTE_HELP = {
    "default": "Serves what no other route takes, and every name that the auto-map pattern matches.",
    "think": "Extended thinking, Plan Mode, high efforts.",
    "websearch": "Requests with the web search tool.",
    "image": "The newest message holds an image.",
    "long_context": "The conversation is longer than the threshold, or than the model can hold.",
    "background": "Titles, summaries and other small helper requests.",
    "subagent": "What a subagent asks without naming a model of its own.",
    "safety": "The safety check of auto mode. Not a reasoning model: it gets 64 tokens.",
}


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
        fields = ("label", "weight", "enabled")

    def clean_secret(self) -> str:
        secret = str(self.cleaned_data.get("secret") or "").strip()
        if not secret and not self.instance.sealed:
            raise forms.ValidationError("Enter the provider's API key.")
        if secret.startswith("{"):
            return _json_key(secret)
        if any(character.isspace() or not character.isprintable() for character in secret):
            raise forms.ValidationError("An API key holds no spaces and line ends. Paste it again.")
        return secret

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["secret"]:
            self.instance.set_secret(self.cleaned_data["secret"])
        return super().save(commit=commit)


def _json_key(text: str) -> str:
    """A key that is a JSON object (a service account's), on one line."""
    try:
        key = json.loads(text)
    except ValueError:
        raise forms.ValidationError("This key looks like JSON, but is cut or damaged. Paste the whole file.") from None
    return json.dumps(key)


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


class RouterProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    """Routes are chosen among the models; efforts are written with commas."""

    think_efforts = forms.CharField(
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Efforts that count as thinking, with commas: max, xhigh. Empty: not set here.",
    )

    class Meta:
        model = RouterProfile
        fields = (
            "scope",
            "organization",
            "api_key",
            *ROUTES,
            "long_context_threshold",
            "auto_map_regex",
            "background_regex",
            "think_efforts",
            "think_in_plan_mode",
            "pin_explicit_model",
        )
        labels: ClassVar[dict[str, str]] = {"think_in_plan_mode": "Plan Mode thinks"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = list(Model.objects.order_by("name").values_list("name", flat=True))
        for route in ROUTES:
            if route in self.fields:
                self.fields[route] = _route_field(route, names, getattr(self.instance, route))
                if getattr(self.instance, route) == "":
                    self.initial[route] = OFF
        for switch in SWITCHES:
            if switch in self.fields:
                self.fields[switch].widget.choices = SWITCH_CHOICES
        self.initial["think_efforts"] = ", ".join(self.instance.think_efforts or ())

    def clean_think_efforts(self) -> list[str] | None:
        efforts = [effort.strip() for effort in str(self.cleaned_data["think_efforts"] or "").split(",")]
        return [effort for effort in efforts if effort] or None


def _route_field(route: str, names: list[str], present: str | None) -> forms.Field:
    """The present value stays a choice, though it be no model's name (provider/model, or a model since deleted)."""
    others = [present] if present and present not in names else []
    choices = [("", NOT_SET), (OFF, "— off —"), *((name, name) for name in [*names, *others])]
    return forms.TypedChoiceField(
        choices=choices,
        required=False,
        coerce=lambda value: "" if value == OFF else value,
        empty_value=None,
        label="Web search" if route == "websearch" else route.replace("_", " ").capitalize(),
        help_text=ROUTE_HELP[route],
        widget=UnfoldAdminSelectWidget(),
    )
