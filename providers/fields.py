"""Column types and validators that several models of the app share."""

import json
import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from providers import tiers
from providers.errors import ConfigError
from providers.kinds import KINDS
from providers.pasted import pasted_secret
from providers.prices import plain

MAX_PATTERN = 200


class _UsdInput(forms.DecimalField):
    """Shows 3 where the database says 3.000000000."""

    def prepare_value(self, value: Any) -> Any:
        return plain(value) if isinstance(value, Decimal) else value


class _Usd(models.DecimalField):  # type: ignore[type-arg]
    """A price that is whole nano-USD. At most fourteen digits: SQLite stores decimals as doubles."""

    digits: int
    places: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(max_digits=self.digits, decimal_places=self.places, validators=[MinValueValidator(Decimal(0))])
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        for fixed in ("max_digits", "decimal_places", "validators"):
            kwargs.pop(fixed, None)
        return name, path, args, kwargs

    def formfield(self, **kwargs: Any) -> Any:
        return super().formfield(**{"form_class": _UsdInput, **kwargs})


class UsdPerMillion(_Usd):
    """USD per million tokens; nine places are whole nano-USD per million tokens."""

    digits = 14
    places = 9


class UsdPerThousand(_Usd):
    """USD per thousand web searches; six places are whole nano-USD per search."""

    digits = 12
    places = 6


class _TiersInput(forms.CharField):
    """A line for each tier, which is easier to write than JSON."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return tiers.lines(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        try:
            return tiers.from_lines(super().to_python(value) or "")
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != (initial or []))
        except ValidationError:
            return True


class TiersField(models.JSONField):
    """Long-context tiers, as `providers.tiers` stores them."""

    empty_values = (None, "")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(default=list, blank=True, validators=[valid_tiers])
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        for fixed in ("default", "blank", "validators"):
            kwargs.pop(fixed, None)
        return name, path, args, kwargs

    def formfield(self, **kwargs: Any) -> Any:
        return models.Field.formfield(self, **{**kwargs, "form_class": _TiersInput, "required": False})


def credential_secret(secret: str) -> str:
    """A provider's secret as it is stored: an API key, or a key file's JSON on one line. Raises ValidationError."""
    try:
        return pasted_secret(secret)
    except ConfigError as error:
        raise ValidationError(str(error)) from None


def valid_tiers(value: Any) -> None:
    try:
        canonical = tiers.stored(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None
    if canonical != value:
        raise ValidationError("Tiers are stored in one form only: use providers.tiers.stored.")


class RouteField(models.CharField):  # type: ignore[type-arg]
    """A model's name for a route. NULL: not set here, the wider profile decides. "": the route is off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(max_length=200, null=True, blank=True, default=None)
        super().__init__(*args, **kwargs)


# Callables, so that a new row in the table of kinds needs no migration.
def kind_choices() -> list[tuple[str, str]]:
    return [(kind.name, kind.label) for kind in KINDS.values()]


def wire_choices() -> list[tuple[str, str]]:
    return [(wire, wire) for wire in sorted({kind.wire for kind in KINDS.values()})]


# Names of providers and models become response headers and the two halves of `provider/model`.
provider_name = RegexValidator(
    r"\A[!-~](?:[ -~]*[!-~])?\Z", "Use letters, digits, spaces and punctuation of ASCII; no space at either end."
)
no_separator = RegexValidator(
    r"[/,]", "A provider's name holds no slash and no comma: clients write provider/model.", inverse_match=True
)
model_name = RegexValidator(r"\A[!-+\--~]+\Z", "A model's name is ASCII without spaces and commas.")


def base_url(value: str) -> None:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValidationError("Write an http:// or https:// URL without user, password, query and fragment.")


def regex(value: str) -> None:
    """Compiles; whether it may run on every request is the router's own check, which falls back
    to the default pattern and says so."""
    if len(value) > MAX_PATTERN:
        raise ValidationError(f"A pattern has at most {MAX_PATTERN} characters.")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValidationError(f"This is not a regular expression: {error}.") from None


# What CCM itself decides about a request, or is charged by.
RESERVED_FIELDS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "max_tokens", "max_completion_tokens",
        "n", "functions", "function_call", "web_search_options",
    }
)  # fmt: skip
LARGEST_EXTRA = 4096


def extra_body(value: object) -> None:
    if not isinstance(value, dict):
        raise ValidationError('Write a JSON object, such as {"provider": {"only": ["google-vertex"]}}.')
    reserved = sorted(RESERVED_FIELDS & set(value))
    if reserved:
        raise ValidationError(f"{reserved[0]!r} is a field that CCM decides about itself.")
    if _holds_null(value):
        raise ValidationError("Extra fields hold no null: leave the field out.")
    if len(json.dumps(value)) > LARGEST_EXTRA:
        raise ValidationError(f"Extra fields have at most {LARGEST_EXTRA} characters.")


def _holds_null(value: object) -> bool:
    """TOML, in which the catalogue is exported, has none."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_holds_null, inner))


def efforts(value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValidationError('Write a list of effort names, such as ["max"].')
