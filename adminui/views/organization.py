"""The organisation: its members and invitations, its name, its audit log; making one, and joining one."""

from collections.abc import Callable
from typing import cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import audit, members
from accounts.errors import AccountsError
from accounts.models import Invitation, Membership, User
from accounts.permissions import Permission
from accounts.roles import Role
from adminui import mail
from adminui.forms import InviteForm, OrganizationForm
from adminui.workspace import SESSION, Workspace, organization_of, workspace_view
from credits.services import ensure_wallet
from gateway import texts

LOG_PAGE = 50


@require_GET
@workspace_view(Permission.VIEW_MEMBERS)
def page(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    return organization_page(request, workspace)


def organization_page(
    request: HttpRequest,
    workspace: Workspace,
    *,
    invite_form: InviteForm | None = None,
    name_form: OrganizationForm | None = None,
    status: int = 200,
) -> HttpResponse:
    organization = organization_of(workspace)
    invited = Invitation.objects.filter(
        organization_id=workspace.organization_id, ended_at=None, expires_at__gt=timezone.now()
    )
    context = {
        "members": Membership.objects.filter(organization_id=workspace.organization_id)
        .select_related("user")
        .order_by("created_at", "pk"),
        "invitations": invited.order_by("pk"),
        "roles": Role.choices,
        "invite_form": invite_form or InviteForm(),
        "name_form": name_form or OrganizationForm(initial={"name": workspace.name}),
        "entries": audit.entries(workspace.organization_id, limit=5),
        "personal": organization.personal_owner_id == workspace.user_id,
        "keeps_text": organization.keeps_text,
        "text_days": settings.TEXT_RETENTION_DAYS,
    }
    return render(request, "adminui/organization.html", context, status=status)


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def rename(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    form = OrganizationForm(request.POST)
    if not form.is_valid():
        return organization_page(request, workspace, name_form=form, status=400)
    members.rename(organization=organization_of(workspace), name=form.cleaned_data["name"], by=_person(request))
    return redirect("organization")


@require_POST
@workspace_view(Permission.MANAGE_SETTINGS)
def prompt_logging(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    """What was kept is deleted at once when it is switched off."""
    on = request.POST.get("on") == "1"
    with transaction.atomic():
        members.set_keeps_text(organization=organization_of(workspace), on=on, by=_person(request))
        if not on:
            texts.forget(workspace.organization_id)
    return redirect("organization")


@require_POST
@workspace_view(Permission.MANAGE_MEMBERS)
def invite(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    form = InviteForm(request.POST)
    if form.is_valid():
        email, role = form.cleaned_data["email"], form.cleaned_data["role"]
        try:
            invited = members.invite(
                organization=organization_of(workspace), email=email, role=role, by=_person(request)
            )
        except AccountsError as refusal:
            form.add_error(None, str(refusal))
        else:
            send_invitation(invited, workspace, _person(request))
            messages.success(request, f"{invited.invitation.email} is invited: the mail’s link is good for a week.")
            return redirect("organization")
    return organization_page(request, workspace, invite_form=form, status=400)


def send_invitation(invited: members.Invited, workspace: Workspace, by: User) -> None:
    link = settings.PUBLIC_URL + reverse("invitation", args=[invited.token])
    context = {"organization": workspace.name, "by": by.email, "link": link, "invitation": invited.invitation}
    mail.send_template([invited.invitation.email], "invitation", context)


@require_POST
@workspace_view(Permission.MANAGE_MEMBERS)
def withdraw(request: HttpRequest, workspace: Workspace, invitation_id: int) -> HttpResponse:
    found = Invitation.objects.filter(pk=invitation_id, organization_id=workspace.organization_id).first()
    if found is None:
        raise Http404("No such invitation.")
    return _done(request, lambda: members.withdraw(invitation=found, by=_person(request)))


@require_POST
@workspace_view(Permission.MANAGE_MEMBERS)
def change_role(request: HttpRequest, workspace: Workspace, user_id: int) -> HttpResponse:
    member, role = _member(workspace, user_id), request.POST.get("role", "")
    return _done(
        request,
        lambda: members.change_role(
            organization=organization_of(workspace), user=member, role=role, by=_person(request)
        ),
    )


@require_POST
@workspace_view(Permission.VIEW_MEMBERS)
def remove(request: HttpRequest, workspace: Workspace, user_id: int) -> HttpResponse:
    """Somebody else, for those who manage members; oneself, for everybody."""
    member, by = _member(workspace, user_id), _person(request)
    answer = _done(request, lambda: members.remove(organization=organization_of(workspace), user=member, by=by))
    return redirect("home") if member == by else answer


def _done(request: HttpRequest, change: Callable[[], None]) -> HttpResponse:
    """Back to the page, which says why not where a rule was against it."""
    try:
        change()
    except AccountsError as refusal:
        messages.error(request, str(refusal))
    return redirect("organization")


@require_GET
@workspace_view(Permission.MANAGE_MEMBERS)
def log(request: HttpRequest, workspace: Workspace) -> HttpResponse:
    text = request.GET.get("before", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise Http404("There is no such page.")
    entries = audit.entries(workspace.organization_id, int(text) if text else None, LOG_PAGE)
    older = entries[-1].id if len(entries) == LOG_PAGE else None
    return render(request, "adminui/organization_log.html", {"entries": entries, "older": older, "newest": bool(text)})


@require_http_methods(["GET", "POST"])
@login_required
def create(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        organization = members.create_organization(name=form.cleaned_data["name"], owner=_person(request))
        ensure_wallet(organization.pk)
        request.session[SESSION] = str(organization.pk)
        return redirect("organization")
    return render(request, "adminui/organization_new.html", {"form": form}, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@login_required
def accept(request: HttpRequest, token: str) -> HttpResponse:
    """What the mail's link opens; joining takes a click, since programs open links in mails too."""
    try:
        invitation = members.invitation_for(token)
        if request.method == "POST":
            organization = members.accept(token=token, user=_person(request))
            request.session[SESSION] = str(organization.pk)
            messages.success(request, f"You are a member of {organization.name}.")
            return redirect("home")
    except AccountsError as refusal:
        return render(request, "adminui/invitation.html", {"refusal": str(refusal)}, status=409)
    return render(request, "adminui/invitation.html", {"invitation": invitation})


def _member(workspace: Workspace, user_id: int) -> User:
    user = User.objects.filter(pk=user_id, memberships__organization_id=workspace.organization_id).first()
    if user is None:
        raise Http404("No such member.")
    return user


def _person(request: HttpRequest) -> User:
    return cast(User, request.user)
