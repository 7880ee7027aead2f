"""Which organisation a signed-in person works in, and what they may do there."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render

from accounts.models import ApiKey, Membership, Organization, User
from accounts.permissions import Permission, may
from accounts.roles import Role

SESSION = "organization"
"""Where the session keeps the organisation that was chosen last."""

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, "Workspace", P], HttpResponseBase]


@dataclass(frozen=True, slots=True)
class Workspace:
    organization_id: int
    name: str
    role: str
    user_id: int

    def may(self, permission: Permission) -> bool:
        return may(self.role, permission)

    @property
    def role_name(self) -> str:
        return Role(self.role).label

    @property
    def can(self) -> dict[str, bool]:
        """For templates: `{% if workspace.can.MANAGE_KEYS %}`."""
        return {permission.name: self.may(permission) for permission in Permission}


def workspaces_of(user: User) -> list[Workspace]:
    """The organisations of `user`, their personal one first."""
    memberships = Membership.objects.filter(user=user, organization__closed_at=None).select_related("organization")
    personal_first = sorted(
        memberships, key=lambda each: (each.organization.personal_owner_id != user.pk, each.organization.name)
    )
    return [Workspace(each.organization_id, each.organization.name, each.role, user.pk) for each in personal_first]


def current_workspace(request: HttpRequest) -> Workspace | None:
    """The organisation that the address names (`?organization=`), else the one chosen last, else the first;
    None for somebody who is in none. Kept for the rest of the request.

    Raises Http404 for an organisation that the user is no member of, as for one that is not there."""
    kept = vars(request)
    if "ccm_workspace" not in kept:
        kept["ccm_workspace"] = _chosen(request, their_workspaces(request))
    return cast("Workspace | None", kept["ccm_workspace"])


def their_workspaces(request: HttpRequest) -> list[Workspace]:
    """The organisations of who is signed in, their personal one first; read once a request."""
    kept = vars(request)
    if "ccm_workspaces" not in kept:
        kept["ccm_workspaces"] = workspaces_of(cast(User, request.user))
    return cast("list[Workspace]", kept["ccm_workspaces"])


def _chosen(request: HttpRequest, workspaces: list[Workspace]) -> Workspace | None:
    by_id = {str(workspace.organization_id): workspace for workspace in workspaces}
    named = request.POST.get("organization") or request.GET.get("organization")
    if named:
        if named not in by_id:
            raise Http404("No such organisation.")
        if request.session.get(SESSION) != named:
            request.session[SESSION] = named
        return by_id[named]
    first = workspaces[0] if workspaces else None
    return by_id.get(str(request.session.get(SESSION)), first)


def workspace_view(permission: Permission | None = None) -> Callable[[View[P]], Callable[..., HttpResponseBase]]:
    """For views of one organisation: they are called with the request and its workspace. Who is not signed in
    is asked to; who is in no organisation is told so; who may not do it gets a 403."""

    def decorate(view: View[P]) -> Callable[..., HttpResponseBase]:
        @login_required
        @functools.wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            workspace = current_workspace(request)
            if workspace is None:
                return render(request, "adminui/no_organization.html")
            if permission is not None and not workspace.may(permission):
                raise PermissionDenied(f"Your role in {workspace.name} does not let you {permission.value}.")
            response = view(request, workspace, *args, **kwargs)
            response.setdefault("Cache-Control", "private, no-store")
            return response

        return wrapped

    return decorate


def organization_of(workspace: Workspace) -> Organization:
    return Organization.objects.get(pk=workspace.organization_id)


def keys_of(workspace: Workspace) -> list[ApiKey]:
    """The newest hundred keys, active ones first."""
    keys = list(ApiKey.objects.filter(organization_id=workspace.organization_id).select_related("created_by")[:100])
    return sorted(keys, key=lambda key: not key.is_active)


def own_key(workspace: Workspace, key_id: int) -> ApiKey:
    """A key of this organisation that the person may change: their own, or any with MANAGE_KEYS. Raises Http404
    for one of another organisation, known or not, and PermissionDenied."""
    key = ApiKey.objects.filter(pk=key_id, organization_id=workspace.organization_id).first()
    if key is None:
        raise Http404("No such key.")
    if not (workspace.may(Permission.MANAGE_KEYS) or key.created_by_id == workspace.user_id):
        raise PermissionDenied(f"Your role in {workspace.name} does not let you {Permission.MANAGE_KEYS.value}.")
    return key
