"""The forms on customers' pages."""

from typing import Any

from django import forms

from accounts.roles import Role
from credits.errors import InvalidAmount
from credits.money import usd_to_nanos

ROLES_EXPLAINED = (
    "Owners and admins manage everything; developers make their own keys and see usage; billing sees usage and pays."
)


class RedeemForm(forms.Form):
    code = forms.CharField(
        max_length=80,
        label="Promo code",
        widget=forms.TextInput(
            attrs={"placeholder": "XXXX-XXXX-XXXX-XXXX", "autocomplete": "off", "spellcheck": "false"}
        ),
    )


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=120, label="Name", widget=forms.TextInput(attrs={"autocomplete": "organization"}))


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.DEVELOPER, help_text=ROLES_EXPLAINED)


class DollarsField(forms.CharField):
    """An amount in dollars, zero or more, as nanos."""

    def __init__(self, **options: Any) -> None:
        attributes = {"inputmode": "decimal", "autocomplete": "off"}
        super().__init__(max_length=20, widget=forms.TextInput(attrs=attributes), **options)

    def clean(self, value: Any) -> int:
        try:
            nanos = usd_to_nanos(super().clean(value).lstrip("$").replace(",", ""))
        except InvalidAmount as error:
            raise forms.ValidationError(str(error)) from None
        if nanos < 0:
            raise forms.ValidationError("Enter an amount of zero or more.")
        return nanos


class AmountForm(forms.Form):
    amount = DollarsField(label="Another amount (USD)")


class AutoTopUpForm(forms.Form):
    threshold = DollarsField(label="When less is available than (USD)")
    amount = DollarsField(label="Buy (USD)")
    monthly_cap = DollarsField(
        label="At most in a month (USD)", help_text="With fees and taxes, counted from the first of the month (UTC)."
    )


class LowBalanceForm(forms.Form):
    low_balance = DollarsField(
        label="Send a mail when less is available than (USD)",
        help_text="0: never. It goes to owners, admins and billing.",
    )


class OwnKeyForm(forms.Form):
    """An organisation's key at a provider. What was typed as the secret is never written back to the page."""

    provider = forms.ChoiceField(label="Provider")
    label = forms.CharField(
        max_length=80, label="Name", widget=forms.TextInput(attrs={"placeholder": "e.g. team", "autocomplete": "off"})
    )
    secret = forms.CharField(
        max_length=20_000,
        label="Its API key",
        help_text="Or a service account’s key file. Stored encrypted, never shown again.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, providers: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["provider"].choices = providers  # type: ignore[attr-defined]


class CloseForm(forms.Form):
    name = forms.CharField(
        max_length=200,
        label="To confirm, type the organisation’s name",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class DeleteAccountForm(forms.Form):
    email = forms.CharField(
        max_length=254,
        label="To confirm, type your e-mail address",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
