from typing import Any

import structlog
from django import forms
from django.contrib.auth.forms import AuthenticationForm
from unfold.forms import AuthenticationForm as UnfoldAuthenticationForm

from adminui import throttle

log = structlog.get_logger("ccm.adminui")


class ThrottledSignIn(AuthenticationForm):
    """Signs in by e-mail address, in any case; too many failures must wait."""

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).strip().lower()

    def clean(self) -> dict[str, Any]:
        email = self.cleaned_data.get("username") or ""
        address = str(self.request.META.get("REMOTE_ADDR", "")) if self.request else ""
        if throttle.is_blocked(email, address):
            log.warning("sign_in_throttled", address=address)
            minutes = throttle.WINDOW_SECONDS // 60
            raise forms.ValidationError(f"Too many attempts. Wait {minutes} minutes and try again.", code="throttled")
        try:
            cleaned = super().clean()
        except forms.ValidationError:
            throttle.failed(email, address)
            raise
        throttle.succeeded(email, address)
        return cleaned or {}


class SignInForm(ThrottledSignIn):
    username = forms.EmailField(
        label="E-mail address",
        widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"}),
    )
    error_messages = {  # noqa: RUF012 - Django's own attribute
        "invalid_login": "The e-mail address or the password is wrong.",
        "inactive": "This account is inactive.",
    }


class OperatorSignInForm(ThrottledSignIn, UnfoldAuthenticationForm):
    pass


class CreateKeyForm(forms.Form):
    name = forms.CharField(
        max_length=80,
        label="Name",
        widget=forms.TextInput(attrs={"placeholder": "e.g. laptop", "autocomplete": "off"}),
    )


class RedeemForm(forms.Form):
    code = forms.CharField(
        max_length=80,
        label="Promo code",
        widget=forms.TextInput(
            attrs={"placeholder": "XXXX-XXXX-XXXX-XXXX", "autocomplete": "off", "spellcheck": "false"}
        ),
    )
