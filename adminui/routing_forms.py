"""The customers' forms of routes: which model each takes, and a request to try them with."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from gateway.profiles import InvalidProfile
from providers.profiles import profile_with
from providers.types import Profile

OFF = "-"
NOT_SET = "as in the wider profile"
ROUTES: Mapping[str, tuple[str, str]] = {
    "default": ("Default", "What no other route takes."),
    "think": ("Think", "Extended thinking, Plan Mode, high efforts."),
    "background": ("Background", "Titles, summaries and other small helper requests."),
    "subagent": ("Subagent", "What a subagent asks without naming a model."),
    "image": ("Image", "The newest message holds an image."),
    "long_context": ("Long context", "The conversation is longer than the threshold."),
    "websearch": ("Web search", "Requests with the web search tool."),
    "safety": ("Safety check", "The check of auto mode. It gets 64 tokens: no reasoning model."),
}
SIGNALS = ("long_context_threshold", "think_efforts", "think_in_plan_mode", "pin_explicit_model")
PATTERNS = ("auto_map_regex", "background_regex")
SWITCH = [("", NOT_SET), ("yes", "Yes"), ("no", "No")]


class ProfileForm(forms.Form):
    """A profile's fields. What is empty is not set. `version` is the one that was read."""

    version = forms.IntegerField(widget=forms.HiddenInput(), required=False, min_value=0)
    long_context_threshold = forms.IntegerField(
        required=False,
        min_value=1,
        label="Long context from (tokens)",
        widget=forms.TextInput({"inputmode": "numeric"}),
    )
    think_efforts = forms.CharField(
        required=False, max_length=200, label="Efforts that think", help_text="With commas: max, xhigh."
    )
    think_in_plan_mode = forms.ChoiceField(choices=SWITCH, required=False, label="Plan Mode thinks")
    pin_explicit_model = forms.ChoiceField(
        choices=SWITCH,
        required=False,
        label="A model that is asked for by name is kept",
        help_text="Whatever else a route would say.",
    )
    auto_map_regex = forms.CharField(
        required=False,
        max_length=500,
        label="Names that routes may replace (pattern)",
        help_text="By default ^claude-: Claude Code’s own names.",
    )
    background_regex = forms.CharField(
        required=False,
        max_length=500,
        label="Names that mean background (pattern)",
        help_text="By default every Haiku.",
    )

    def __init__(self, *args: Any, models: list[str], present: Profile, version: int, **kwargs: Any) -> None:
        kwargs["initial"] = _initial(present, version)
        super().__init__(*args, **kwargs)
        for route, (label, why) in ROUTES.items():
            value = getattr(present, route)
            others = [value] if value and value not in models else []
            choices = [("", NOT_SET), (OFF, "off"), *((name, name) for name in [*models, *others])]
            self.fields[route] = forms.ChoiceField(choices=choices, required=False, label=label, help_text=why)

    @property
    def routes(self) -> list[forms.BoundField]:
        return [self[name] for name in ROUTES]

    @property
    def signals(self) -> list[forms.BoundField]:
        return [self[name] for name in (*SIGNALS, *PATTERNS)]

    def profile(self) -> Profile:
        cleaned = self.cleaned_data
        values: dict[str, Any] = {}
        for route in ROUTES:
            if cleaned[route]:
                values[route] = "" if cleaned[route] == OFF else cleaned[route]
        for name in ("think_in_plan_mode", "pin_explicit_model"):
            if cleaned[name]:
                values[name] = cleaned[name] == "yes"
        for name in (*PATTERNS, "long_context_threshold"):
            if cleaned[name]:
                values[name] = cleaned[name]
        efforts = [effort.strip() for effort in cleaned["think_efforts"].split(",") if effort.strip()]
        if efforts:
            values["think_efforts"] = efforts
        return profile_with(values)

    def refuse(self, error: InvalidProfile) -> None:
        """Each problem at its field."""
        for problem in error.problems:
            self.add_error(problem.field if problem.field in self.fields else None, problem.text)


def _initial(present: Profile, version: int) -> dict[str, Any]:
    routes = {name: OFF if getattr(present, name) == "" else getattr(present, name) or "" for name in ROUTES}
    switches = {
        name: "" if (value := getattr(present, name)) is None else "yes" if value else "no"
        for name in ("think_in_plan_mode", "pin_explicit_model")
    }
    return {
        "version": version,
        **routes,
        **switches,
        **{name: getattr(present, name) or "" for name in PATTERNS},
        "long_context_threshold": present.long_context_threshold,
        "think_efforts": ", ".join(sorted(present.think_efforts or ())),
    }


class TryForm(forms.Form):
    """A request that is routed and not sent."""

    model = forms.CharField(max_length=200, label="Model that is asked for", initial="claude-opus-5-5")
    prompt = forms.CharField(
        max_length=100_000, label="Prompt", initial="Explain this function.", widget=forms.Textarea({"rows": 3})
    )
    thinking = forms.BooleanField(required=False, label="Thinking is on")
    image = forms.BooleanField(required=False, label="With an image")
    web_search = forms.BooleanField(required=False, label="With the web search tool")
    subagent = forms.BooleanField(required=False, label="From a subagent")
    long = forms.BooleanField(required=False, label="After a long conversation")

    LONG_WORDS = 100_000
    # One white pixel.
    PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="

    @property
    def switches(self) -> list[forms.BoundField]:
        return [self[name] for name in ("thinking", "image", "web_search", "subagent", "long")]

    @property
    def headers(self) -> dict[str, str]:
        return {"x-claude-code-agent-id": "a-subagent"} if self.cleaned_data["subagent"] else {}

    @property
    def body(self) -> bytes:
        asked = self.cleaned_data
        content: list[dict[str, Any]] = [{"type": "text", "text": asked["prompt"]}]
        if asked["image"]:
            source = {"type": "base64", "media_type": "image/png", "data": self.PIXEL}
            content.append({"type": "image", "source": source})
        earlier = [{"role": "user", "content": "word " * self.LONG_WORDS}, {"role": "assistant", "content": "Yes."}]
        body: dict[str, Any] = {
            "model": asked["model"],
            "max_tokens": 32_000,
            "messages": [*(earlier if asked["long"] else ()), {"role": "user", "content": content}],
        }
        if asked["thinking"]:
            body["thinking"] = {"type": "enabled", "budget_tokens": 8_000}
        if asked["web_search"]:
            body["tools"] = [{"type": "web_search_20250305", "name": "web_search"}]
        return json.dumps(body).encode()


class SavingsForm(forms.Form):
    days = forms.TypedChoiceField(
        choices=[("7", "7 days"), ("30", "30 days"), ("90", "90 days")], coerce=int, label="Time", initial="30"
    )

    def __init__(self, *args: Any, models: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(name, name) for name in models]
        self.fields["model"] = forms.ChoiceField(choices=choices, label="Compared with everything on")
