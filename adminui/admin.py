"""Users and organisations, which get a wallet the moment they are made. And the page of the providers' status."""

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from accounts.admin import OrganizationAdmin, UserAdmin
from accounts.models import Organization, User
from accounts.services import ensure_personal_organization
from adminui import status_admin
from credits.services import ensure_wallet

__all__ = ["status_admin"]  # Django looks for an app's pages here


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
