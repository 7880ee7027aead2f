"""Billing: credits bought, auto top-up, cards, payments and their papers. Stripe is spoken to by Celery: a page that
needs an answer of Stripe's waits for it and asks every second."""

import re
import secrets
from datetime import timedelta
from typing import Any, cast

import structlog
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from kombu.exceptions import OperationalError

from accounts import audit
from accounts.models import User
from accounts.permissions import Permission
from adminui.forms import AmountForm, AutoTopUpForm, LowBalanceForm, RedeemForm
from adminui.views.connect import STOP_POLLING
from adminui.workspace import Workspace, workspace_view
from credits.errors import CreditsError, InvalidAmount
from credits.money import nanos_to_usd
from credits.payments import auto, client, tasks, topups
from credits.payments.accounts import warn_below
from credits.payments.amounts import check_amount, fee_of
from credits.payments.selectors import Auto, Payment, auto_top_up, billing, payment, payments
from credits.selectors import balance

log = structlog.get_logger("ccm.billing")

OFFERED = (10, 25, 50, 100)
"""Dollars, as far as the operator's limits allow them."""
PAGE = 20
LOOK_SECONDS = 4
"""How often a page that waits has Stripe looked at; webhooks are quicker."""
PATIENCE = timedelta(minutes=2)
NAME = re.compile(r"[A-Za-z0-9_-]{16,64}")


@require_GET
@workspace_view(Permission.VIEW_BILLING)
def page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return billing_page(request, workspace)


def billing_page(request: HttpRequest, workspace: Workspace, *, status: int = 200, **forms: Any) -> HttpResponse:
    """`forms` replace those of the page: they hold what was refused."""
    now, organization_id = timezone.now(), workspace.organization_id
    before = request.GET.get("before", "")
    if before and not (before.isascii() and before.isdecimal() and len(before) < 19):
        raise Http404("There is no such page.")
    rows = payments(organization_id, int(before) if before else None, PAGE + 1)
    account, standing = billing(organization_id), auto_top_up(organization_id, now)
    context = {
        "on": client.is_on(),
        "demo": bool(settings.STRIPE.api_base),
        "balance": balance(organization_id),
        "billing": account,
        "auto": standing,
        "offers": [offer(usd * 10**9) for usd in OFFERED if _sold(usd * 10**9)],
        "terms": settings.TOP_UP_TERMS,
        "fee_percent": nanos_to_usd(settings.TOP_UP_TERMS.fee_basis_points * 10**7).removesuffix(".00"),
        "payments": rows[:PAGE],
        "older": rows[PAGE - 1].id if len(rows) > PAGE else None,
        "before": before,
        "amount_form": AmountForm(),
        "auto_form": AutoTopUpForm(initial=_initial(standing)),
        "low_form": LowBalanceForm(initial={"low_balance": nanos_to_usd(account.low_balance)}),
        "redeem_form": RedeemForm(),
        **forms,
    }
    return render(request, "adminui/billing.html", context, status=status)


def offer(amount: int) -> dict[str, int | str]:
    fee = fee_of(amount, settings.TOP_UP_TERMS)
    return {"amount": amount, "fee": fee, "total": amount + fee, "usd": nanos_to_usd(amount)}


def _sold(amount: int) -> bool:
    return bool(settings.TOP_UP_TERMS.minimum <= amount <= settings.TOP_UP_TERMS.maximum)


def _initial(standing: Auto | None) -> dict[str, str]:
    if standing is None:
        return {"threshold": "10", "amount": "25", "monthly_cap": "200"}
    return {name: nanos_to_usd(getattr(standing, name)) for name in ("threshold", "amount", "monthly_cap")}


def _person(request: HttpRequest) -> User:
    return cast(User, request.user)


# Buying


@require_http_methods(["GET", "POST"])
@workspace_view(Permission.MANAGE_BILLING)
def buy(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """Asked for: what it costs, before anything is begun. Sent: the top-up, and the page that leads to Stripe."""
    form = AmountForm(request.POST if request.method == "POST" else request.GET)
    if not form.is_valid():
        return billing_page(request, workspace, amount_form=form, status=400)
    try:
        if request.method == "GET":
            check_amount(form.cleaned_data["amount"], settings.TOP_UP_TERMS)
            context = {"offer": offer(form.cleaned_data["amount"]), "key": secrets.token_hex(16)}
            return render(request, "adminui/billing_buy.html", context)
        begun = topups.start(
            workspace.organization_id, form.cleaned_data["amount"], key=_key(request), by=_person(request)
        )
    except CreditsError as refusal:
        form.add_error("amount", str(refusal))
        return billing_page(request, workspace, amount_form=form, status=400)
    _send(tasks.advance_top_up, begun.pk)
    return redirect(f"{reverse('billing-top-up', args=[begun.pk])}?pay=1")


def _key(request: HttpRequest) -> str:
    key = request.POST.get("key", "")
    if not NAME.fullmatch(key):
        raise InvalidAmount("Open the page anew and try again.")
    return key


def _send(task: Any, *arguments: Any) -> None:
    """Without a broker the sweep does it later."""
    try:
        task.delay(*arguments)
    except OperationalError:
        log.warning("billing_task_not_sent", task=task.name)


@require_GET
@workspace_view(Permission.VIEW_BILLING)
def top_up(request: HttpRequest, workspace: Workspace, top_up_id: int) -> HttpResponse:
    """Where a top-up is waited for: on the way to Stripe (`?pay=1`) and on the way back."""
    found = _own(workspace, top_up_id)
    canceled = "canceled" in request.GET
    if canceled and found.waits:
        _send(tasks.look_at_top_up, found.id, True)
        messages.info(request, "Nothing was paid.")
        return redirect("billing")
    return render(request, "adminui/billing_top_up.html", _waiting(request, workspace, found))


@require_GET
@workspace_view(Permission.VIEW_BILLING)
def top_up_status(request: HttpRequest, workspace: Workspace, top_up_id: int) -> HttpResponse:
    """Asked every second or two by the page above."""
    found = _own(workspace, top_up_id)
    context = _waiting(request, workspace, found)
    if context["to_stripe"] and found.pay_url:
        answer = HttpResponse(status=200)
        answer["HX-Redirect"] = found.pay_url
        return answer
    status = 200 if found.waits else STOP_POLLING
    return render(request, "adminui/_top_up.html", context, status=status)


def _waiting(request: HttpRequest, workspace: Workspace, found: Payment) -> dict[str, Any]:
    to_stripe = "pay" in request.GET and found.waits
    if found.waits and not to_stripe and cache.add(f"look:{found.id}", 1, LOOK_SECONDS):
        _send(tasks.look_at_top_up, found.id)
    late = timezone.now() - found.at > PATIENCE
    return {"payment": found, "to_stripe": to_stripe, "late": late, "balance": balance(workspace.organization_id)}


def _own(workspace: Workspace, top_up_id: int) -> Payment:
    found = payment(workspace.organization_id, top_up_id)
    if found is None:
        raise Http404("No such top-up.")
    return found


# Cards and papers, at Stripe's portal


@require_POST
@workspace_view(Permission.MANAGE_BILLING)
def portal(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    if not client.is_on():
        raise Http404("There is no portal here.")
    name = secrets.token_urlsafe(24)
    _send(tasks.open_portal, workspace.organization_id, _portal_name(workspace, name), _absolute("billing"))
    audit.record(workspace.organization_id, _person(request), "opened the billing portal")
    return redirect("billing-portal-wait", name)


@require_GET
@workspace_view(Permission.MANAGE_BILLING)
def portal_wait(request: HttpRequest, workspace: Workspace, name: str) -> HttpResponse:
    """The page, and (asked by htmx) whether the portal's address is there."""
    if not NAME.fullmatch(name):
        raise Http404("No such page.")
    url = cache.get(tasks.portal_name(_portal_name(workspace, name)))
    if url == "":
        messages.error(request, "Stripe’s pages cannot be opened now. Try again in a minute.")
        url = reverse("billing")
    if request.htmx and url:  # type: ignore[attr-defined]
        answer = HttpResponse(status=200)
        answer["HX-Redirect"] = url
        return answer
    template = "adminui/_portal.html" if request.htmx else "adminui/billing_portal.html"  # type: ignore[attr-defined]
    return render(request, template, {"name": name, "url": url})


def _portal_name(workspace: Workspace, name: str) -> str:
    """So that nobody waits for another organisation's portal."""
    return f"{workspace.organization_id}:{name}"


def _absolute(name: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse(name)}"


# Auto top-up and mails


@require_POST
@workspace_view(Permission.MANAGE_BILLING)
def change_auto(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    if "off" in request.POST:
        auto.switch_off(workspace.organization_id, by=_person(request))
        messages.success(request, "Auto top-up is off.")
        return redirect("billing")
    form = AutoTopUpForm(request.POST)
    if form.is_valid():
        try:
            auto.order(workspace.organization_id, auto.Order(**form.cleaned_data), by=_person(request))
        except InvalidAmount as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, "Auto top-up is on.")
            return redirect("billing")
    return billing_page(request, workspace, auto_form=form, status=400)


@require_POST
@workspace_view(Permission.MANAGE_BILLING)
def change_low_balance(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        return billing_page(request, workspace, low_form=form, status=400)
    warn_below(workspace.organization_id, form.cleaned_data["low_balance"], by=_person(request))
    messages.success(request, "Saved.")
    return redirect("billing")
