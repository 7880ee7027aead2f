"""Amounts in forms, the operators' and the customers'."""

from typing import Any

from django import forms

from credits.errors import CreditsError
from credits.money import LARGEST, nanos_to_usd, usd_to_nanos


class LimitField(forms.CharField):
    """Dollars in the form, nanos in the data; empty is None, no limit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=20, **options)

    def prepare_value(self, value: Any) -> Any:
        return nanos_to_usd(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            nanos = usd_to_nanos(text)
        except CreditsError as error:
            raise forms.ValidationError(str(error)) from None
        if not 0 <= nanos <= LARGEST:
            raise forms.ValidationError("Enter an amount of 0 or more, or nothing for no limit.")
        return nanos
