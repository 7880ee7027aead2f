"""Forms of the operators' pages."""

import json
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.utils import timezone
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from providers.config_file import ROUTES
from providers.models import Credential, Model, ModelPrice, RouterProfile

OFF = "-"
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
