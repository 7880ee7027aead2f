"""The forms on customers' pages."""

from django import forms

from accounts.roles import Role

ROLES_EXPLAINED = (
    "Owners and admins manage everything; developers make their own keys and see usage; billing sees usage and pays."
)


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


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=120, label="Name", widget=forms.TextInput(attrs={"autocomplete": "organization"}))


class InviteForm(forms.Form):
    email = forms.EmailField(label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "off"}))
    role = forms.ChoiceField(label="Role", choices=Role.choices, initial=Role.DEVELOPER, help_text=ROLES_EXPLAINED)


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
