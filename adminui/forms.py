"""The forms on customers' pages."""

from django import forms


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
