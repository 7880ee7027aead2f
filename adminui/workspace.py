"""Which organisation a signed-in person is looking at, and what they may do there."""

from dataclasses import dataclass

from django.http import Http404

from accounts.models import ApiKey, Membership, Organization, Role, User

MANAGERS = frozenset({Role.OWNER, Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Workspace:
    organization_id: int
    name: str
    role: str

    @property
    def can_manage_keys(self) -> bool:
        return self.role in MANAGERS

    @property
    def can_redeem_codes(self) -> bool:
        return self.role in MANAGERS


def workspaces_of(user: User) -> list[Workspace]:
    """The organisations of `user`, their personal one first."""
    memberships = Membership.objects.filter(user=user).select_related("organization")
    personal_first = sorted(
        memberships, key=lambda each: (each.organization.personal_owner_id != user.pk, each.organization.name)
    )
    return [Workspace(each.organization_id, each.organization.name, each.role) for each in personal_first]


def workspace_of(user: User, organization_id: str | None) -> Workspace | None:
    """The organisation that was asked for, else the first; None for somebody who is in none.

    Raises Http404 for an organisation that the user is no member of, as for one that is not there."""
    workspaces = workspaces_of(user)
    if not organization_id:
        return workspaces[0] if workspaces else None
    for workspace in workspaces:
        if str(workspace.organization_id) == organization_id:
            return workspace
    raise Http404("No such organisation.")


def organization_of(workspace: Workspace) -> Organization:
    return Organization.objects.get(pk=workspace.organization_id)


def keys_of(workspace: Workspace) -> list[ApiKey]:
    """The newest hundred keys, active ones first."""
    keys = list(ApiKey.objects.filter(organization_id=workspace.organization_id).select_related("created_by")[:100])
    return sorted(keys, key=lambda key: not key.is_active)


def managed_key(user: User, key_id: int) -> tuple[Workspace, ApiKey]:
    """A key of one of the user's organisations. Raises Http404 for any other, known or not."""
    key = ApiKey.objects.filter(pk=key_id, organization__memberships__user=user).first()
    workspace = workspace_of(user, str(key.organization_id)) if key is not None else None
    if key is None or workspace is None:
        raise Http404("No such key.")
    return workspace, key
