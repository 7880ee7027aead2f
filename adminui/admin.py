"""Users and organisations, which get a wallet the moment they are made, keys with the models they may use, and
providers with how they are. The pages of router profiles are in `routing_admin.py`, of the providers' status in
`status_admin.py`."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectMultipleWidget

import adminui.routing_admin
import adminui.status_admin  # noqa: F401 - the same
from accounts.admin import ApiKeyAdmin, ApiKeyForm, OrganizationAdmin, UserAdmin
from accounts.models import ApiKey, Organization, User
from accounts.services import ensure_personal_organization
from adminui.health import ProviderWithHealthAdmin
from credits.services import ensure_wallet
from providers.models import Model, Provider

admin.site.unregister(Provider)
admin.site.register(Provider, ProviderWithHealthAdmin)


@admin.register(User)
class UserWithAccountAdmin(UserAdmin):
    """A new user gets a personal organisation, as on sign-up, and that organisation its wallet."""

    def save_model(self, request: HttpRequest, obj: User, form: forms.ModelForm, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if not change:
                ensure_wallet(ensure_personal_organization(user=obj).pk)


@admin.register(Organization)
class OrganizationWithWalletAdmin(OrganizationAdmin):
    def save_model(self, request: HttpRequest, obj: Organization, form: forms.ModelForm, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            ensure_wallet(obj.pk)


class KeyWithModelsForm(ApiKeyForm):
    allowed_models = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminSelectMultipleWidget(),
        help_text="The only models it may use, whatever the routes say. None selected: all.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if field := self.fields.get("allowed_models"):
            names = {*Model.objects.values_list("name", flat=True), *self.instance.allowed_models}
            field.choices = [(name, name) for name in sorted(names)]  # type: ignore[attr-defined]


@admin.register(ApiKey)
class KeyWithModelsAdmin(ApiKeyAdmin):
    form = KeyWithModelsForm
    changeable = (*ApiKeyAdmin.changeable, "allowed_models")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[Any, ...]:
        fields = super().get_fields(request, obj)
        return (*fields, "allowed_models") if obj else fields
