"""Redeeming promo codes."""

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.models import User
from accounts.permissions import Permission
from adminui import throttle
from adminui.forms import RedeemForm
from adminui.views.home import dashboard
from adminui.workspace import Workspace, workspace_view
from credits import promos
from credits.errors import CreditsError
from credits.money import format_usd


@require_POST
@workspace_view(Permission.MANAGE_BILLING)
def redeem(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """Whoever tries too many codes that are none must wait, whichever organisation they try them for."""
    user = cast(User, request.user)
    form = RedeemForm(request.POST)
    if throttle.is_blocked(user.email, "", what=throttle.REDEEMING):
        minutes = throttle.WINDOW_SECONDS // 60
        form.add_error("code", f"Too many attempts. Wait {minutes} minutes and try again.")
        return dashboard(request, workspace, redeem_form=form, status=429)
    if form.is_valid():
        try:
            done = promos.redeem(workspace.organization_id, form.cleaned_data["code"], by=user)
        except CreditsError as refusal:
            throttle.failed(user.email, "", what=throttle.REDEEMING)
            form.add_error("code", str(refusal))
        else:
            messages.success(request, thanks(done))
            return redirect("home")
    return dashboard(request, workspace, redeem_form=form, status=400)


def thanks(done: promos.Redemption) -> str:
    sentences = [f"The code gave {format_usd(done.amount)}."]
    if done.repaid:
        sentences.append(f"{format_usd(done.repaid)} of it repaid your debt.")
    if done.expires_at is not None and done.repaid < done.amount:
        sentences.append(f"What is left of it expires on {done.expires_at:%-d %B %Y}.")
    return " ".join(sentences)
