"""What the operators' pages of this app share: read-only pages, amounts in dollars, and pages for one action."""

import secrets
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from credits.errors import CreditsError
from credits.money import usd_to_nanos


class ReadOnly:
    """No adding, changing or deleting, for anybody."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class UsdField(forms.CharField):
    """An amount in dollars above zero, as nanos."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=20, widget=UnfoldAdminTextInputWidget, **options)

    def clean(self, value: Any) -> int:
        try:
            nanos = usd_to_nanos(super().clean(value))
        except CreditsError as error:
            raise forms.ValidationError(str(error)) from None
        if nanos <= 0:
            raise forms.ValidationError("Enter an amount above zero.")
        return nanos


def new_key() -> str:
    """A form's own key: sent twice, the form does its work once."""
    return secrets.token_hex(16)


def action_page(
    page: ModelAdmin,
    request: HttpRequest,
    form: forms.Form,
    act: Callable[[dict[str, Any]], str],
    *,
    title: str,
    button: str,
    back: str,
    lines: tuple[str, ...] = (),
) -> HttpResponse:
    """The page with `form` that an action asks for; when it is sent, `act` does the work and says so.
    What the ledger refuses is shown in the form."""
    if request.method == "POST" and form.is_valid():
        try:
            done = act(form.cleaned_data)
        except CreditsError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, done)
            return HttpResponseRedirect(back)
    context = {
        **page.admin_site.each_context(request),
        "title": title,
        "opts": page.opts,
        "form": form,
        "lines": lines,
        "button": button,
        "back": back,
    }
    return TemplateResponse(request, "credits/action.html", context)
