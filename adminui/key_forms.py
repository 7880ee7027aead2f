"""The form of an API key: what it is called, and how far it goes."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from accounts.models import ApiKey
from accounts.services import CHANGEABLE
from adminui.catalogue import current_catalogue, offers
from credits.budgets import WINDOWS, Budget
from credits.form_fields import LimitField

BUDGETS = {"total": "In all", "day": "Per day", "week": "Per week", "month": "Per month"}
RATES = {"requests": "Requests per minute", "tokens": "Tokens per minute", "concurrency": "Requests at once"}
MOST = 1_000_000_000
GRACES = (("0", "at once"), ("60", "in an hour"), ("1440", "in a day"), ("10080", "in a week"))


class DollarsField(LimitField):
    """With the window in its label."""

    def __init__(self, label: str) -> None:
        super().__init__(
            label=f"{label} ($)", widget=forms.TextInput(attrs={"inputmode": "decimal", "placeholder": "no limit"})
        )


class KeyForm(forms.Form):
    """Making a key and changing it. `groups` are its parts, as the page shows them."""

    name = forms.CharField(
        max_length=80,
        label="Name",
        widget=forms.TextInput(attrs={"placeholder": "e.g. laptop", "autocomplete": "off"}),
    )
    expires_on = forms.DateField(
        required=False,
        label="Last day (UTC)",
        help_text="Empty: it never expires.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    allowed_models = forms.MultipleChoiceField(
        required=False, label="Models it may use", widget=forms.CheckboxSelectMultiple()
    )

    def __init__(
        self, *args: Any, organization_id: int, key: ApiKey | None = None, budget: Budget | None = None, **kwargs: Any
    ):
        self.key = key
        kwargs["initial"] = _values(key, budget) if key else {}
        super().__init__(*args, **kwargs)
        for window, label in BUDGETS.items():
            self.fields[f"budget_{window}"] = DollarsField(label)
        for rate, label in RATES.items():
            self.fields[f"limit_{rate}"] = _rate_field(rate, label)
        names = [offer.name for offer in offers(current_catalogue(), organization_id)]
        gone = [name for name in (key.allowed_models if key else ()) if name not in names]
        self.fields["allowed_models"].choices = [(name, name) for name in [*names, *gone]]  # type: ignore[attr-defined]

    def clean_expires_on(self) -> datetime | None:
        """The end of that day."""
        day = self.cleaned_data["expires_on"]
        if day is None:
            return None
        end = datetime.combine(day, time(), UTC) + timedelta(days=1)
        if self.key is not None and self.key.expires_at is not None and _last_day(self.key.expires_at) == day:
            return self.key.expires_at  # left as it is, to the second
        if end <= timezone.now():
            raise forms.ValidationError("Choose a day that is not over yet.")
        return end

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for rate in RATES:
            most, wanted = getattr(settings.KEY_LIMITS, rate), cleaned.get(f"limit_{rate}")
            kept = self.key is not None and getattr(self.key, f"limit_{rate}") == wanted
            if most and wanted is not None and wanted > most and not kept:
                self.add_error(f"limit_{rate}", f"At most {most:,}, which holds for every key here.")
        return cleaned

    @property
    def budgets(self) -> dict[str, int | None]:
        return {window: self.cleaned_data[f"budget_{window}"] for window in WINDOWS}

    @property
    def rates(self) -> dict[str, int | None]:
        return {f"limit_{rate}": self.cleaned_data[f"limit_{rate}"] for rate in RATES}

    @property
    def changes(self) -> dict[str, Any]:
        """For `key_settings.change_key`."""
        cleaned = self.cleaned_data
        wanted = {**self.rates, "expires_at": cleaned["expires_on"]}
        wanted |= {name: cleaned[name] for name in ("name", "allowed_models")}
        assert set(wanted) <= set(CHANGEABLE)
        return wanted

    @property
    def groups(self) -> Iterator[tuple[str, str, list[forms.BoundField]]]:
        """Title, explanation and fields."""
        yield "Budget", "What it may spend at most. Empty: no limit but your credits.", self._fields("budget_", BUDGETS)
        yield "Limits", "Empty: what holds for every key.", self._fields("limit_", RATES)

    def _fields(self, prefix: str, names: dict[str, str]) -> list[forms.BoundField]:
        return [self[f"{prefix}{name}"] for name in names]


class NewKeyForm(KeyForm):
    """`routes_from` is the id of a key whose routes the new one begins with. Only who manages keys may make a
    management key."""

    routes_from = forms.ChoiceField(
        required=False, label="Routes", help_text="They can be changed on the page Routing at any time."
    )
    management = forms.BooleanField(
        required=False,
        label="Management key",
        help_text="Makes and changes other keys through the API, and cannot send requests to models.",
    )

    def __init__(self, *args: Any, sources: list[tuple[str, str]], may_manage: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["routes_from"].choices = [("", "As the organisation"), *sources]  # type: ignore[attr-defined]
        if not may_manage:
            del self.fields["management"]


class RotateForm(forms.Form):
    grace = forms.ChoiceField(choices=GRACES, initial="1440", label="The old secret ends")

    @property
    def duration(self) -> timedelta:
        return timedelta(minutes=int(self.cleaned_data["grace"]))


def _rate_field(rate: str, label: str) -> forms.IntegerField:
    most = getattr(settings.KEY_LIMITS, rate)
    attributes = {"inputmode": "numeric", "placeholder": f"{most:,}" if most else "no limit"}
    return forms.IntegerField(
        required=False, min_value=1, max_value=MOST, label=label, widget=forms.TextInput(attrs=attributes)
    )


def _values(key: ApiKey, budget: Budget | None) -> dict[str, Any]:
    limits = budget.limits if budget else (None,) * len(WINDOWS)
    return {
        "name": key.name,
        "expires_on": _last_day(key.expires_at) if key.expires_at else None,
        "allowed_models": key.allowed_models,
        **{f"limit_{rate}": getattr(key, f"limit_{rate}") for rate in RATES},
        **{f"budget_{window}": limit for window, limit in zip(WINDOWS, limits, strict=True)},
    }


def _last_day(expires_at: datetime) -> Any:
    return (expires_at.astimezone(UTC) - timedelta(microseconds=1)).date()
