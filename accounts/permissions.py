"""What each role may do in its organisation: one table, asked by pages and APIs alike. Pure."""

from enum import StrEnum

from accounts.roles import Role


class Permission(StrEnum):
    """The value completes the sentence "You may not ... in this organisation."."""

    VIEW_USAGE = "see usage"
    USE_KEYS = "make API keys"
    MANAGE_KEYS = "manage other people's API keys"
    VIEW_ROUTING = "see routes"
    MANAGE_ROUTING = "change routes"
    VIEW_BILLING = "see billing"
    MANAGE_BILLING = "buy credits or change billing"
    VIEW_MEMBERS = "see the members"
    MANAGE_MEMBERS = "invite or change members"
    MANAGE_SETTINGS = "change the settings"
    OWN = "change owners or delete the organisation"


_EVERYBODY = frozenset({Permission.VIEW_USAGE, Permission.VIEW_MEMBERS})
_BILLING = _EVERYBODY | {Permission.VIEW_BILLING, Permission.MANAGE_BILLING}
_DEVELOPER = _EVERYBODY | {Permission.USE_KEYS, Permission.VIEW_ROUTING}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: frozenset(Permission) - {Permission.OWN},
    Role.DEVELOPER: frozenset(_DEVELOPER),
    Role.BILLING: frozenset(_BILLING),
}


def may(role: str, permission: Permission) -> bool:
    """Whether somebody with `role` may do this; a role that is unknown may nothing."""
    return role in Role.values and permission in PERMISSIONS[Role(role)]
