"""Router profiles as rows: every change is a version with its author, and can be gone back to.

What a profile may say is `gateway.routing`'s to check; here it is only stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction

from accounts.models import ApiKey
from providers.catalogue import profile_of
from providers.config_entries import PATTERNS, ROUTES
from providers.errors import ProfileConflict, UnknownVersion
from providers.models import CatalogueVersion, ProfileVersion, RouterProfile, Scope
from providers.types import Profile

FIELDS = Profile.__struct_fields__
MOST_VERSIONS = 200

log = structlog.get_logger("ccm.profiles")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose profile: the platform's, an organisation's or a key's."""

    scope: Scope
    organization_id: int | None = None
    api_key_id: int | None = None

    @classmethod
    def organization(cls, id_: int) -> "Owner":
        return cls(Scope.ORGANIZATION, organization_id=id_)

    @classmethod
    def key(cls, id_: int) -> "Owner":
        return cls(Scope.KEY, api_key_id=id_)

    @property
    def columns(self) -> dict[str, Any]:
        return {"scope": self.scope, "organization_id": self.organization_id, "api_key_id": self.api_key_id}


PLATFORM = Owner(Scope.PLATFORM)


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes a profile, and by which means ("admin", "API key sk-ccm-…abcd")."""

    user_id: int | None
    means: str


@dataclass(frozen=True, slots=True)
class Version:
    number: int
    created_at: datetime
    author: str
    """The e-mail address, "" for nobody or somebody who is gone."""
    means: str
    values: Mapping[str, Any]
    changes: Mapping[str, tuple[Any, Any]]
    reverts: int | None


def values_of(profile: Profile) -> dict[str, Any]:
    """The fields that are set, as JSON has them."""
    values = {name: getattr(profile, name) for name in FIELDS}
    if values["think_efforts"] is not None:
        values["think_efforts"] = sorted(values["think_efforts"])
    return {name: value for name, value in values.items() if value is not None}


def profile_with(values: Mapping[str, Any]) -> Profile:
    """The inverse of `values_of`; fields that no longer exist are left out."""
    known = {name: value for name, value in values.items() if name in FIELDS}
    if known.get("think_efforts") is not None:
        known["think_efforts"] = frozenset(known["think_efforts"])
    return Profile(**known)


def stored(owner: Owner) -> Profile:
    """The profile of `owner`; one that sets nothing where there is none."""
    row = RouterProfile.objects.filter(**owner.columns).first()
    return profile_of(row) if row is not None else Profile()


def latest(owner: Owner) -> int:
    """The number of the newest version, 0 before the first."""
    numbers = ProfileVersion.objects.filter(**owner.columns).order_by("-number").values_list("number", flat=True)
    return numbers.first() or 0


def set_profile(
    *, owner: Owner, profile: Profile, by: Author, expected: int | None = None, reverts: int | None = None
) -> int:
    """Let `profile` be the owner's from now on; the number of the newest version. What changes nothing
    makes none. Raises ProfileConflict when the newest version is not `expected` any more."""
    if values_of(stored(owner)) == values_of(profile) and expected in {None, latest(owner)}:
        return latest(owner)
    with transaction.atomic():
        CatalogueVersion.bump()  # everybody who changes a profile queues up here
        newest = latest(owner)
        if expected is not None and newest != expected:
            raise ProfileConflict(newest)
        row = RouterProfile.objects.filter(**owner.columns).first() or RouterProfile(**owner.columns)
        before, after = values_of(profile_of(row)), values_of(profile)
        if before == after:
            return newest
        if before and not newest:
            newest = _add(owner, 1, {}, before, Author(None, "before versions were kept"), None)
        for name in FIELDS:
            setattr(row, name, after.get(name, "" if name in PATTERNS else None))
        row.save()
        newest = _add(owner, newest + 1, before, after, by, reverts)
    log.info("profile_changed", scope=owner.scope, organization=owner.organization_id, api_key=owner.api_key_id,
             version=newest, by=by.user_id)  # fmt: skip
    return newest


def _add(
    owner: Owner, number: int, before: Mapping[str, Any], after: Mapping[str, Any], by: Author, reverts: int | None
) -> int:
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    ProfileVersion.objects.create(
        **owner.columns,
        number=number,
        created_by_id=by.user_id,
        means=by.means[:80],
        values=dict(after),
        changes={name: [before.get(name), after.get(name)] for name in names},
        reverts=reverts,
    )
    return number


def versions(owner: Owner, *, before: int | None = None, limit: int = 50) -> Sequence[Version]:
    """The newest first; `before` is the number that a page begins under."""
    rows = ProfileVersion.objects.filter(**owner.columns).select_related("created_by").order_by("-number")
    if before is not None:
        rows = rows.filter(number__lt=before)
    return [_version(row) for row in rows[: min(limit, MOST_VERSIONS)]]


def version(owner: Owner, number: int) -> Version:
    """Raises UnknownVersion."""
    row = ProfileVersion.objects.filter(**owner.columns, number=number).select_related("created_by").first()
    if row is None:
        raise UnknownVersion(number)
    return _version(row)


def _version(row: ProfileVersion) -> Version:
    return Version(
        number=row.number,
        created_at=row.created_at,
        author=row.created_by.email if row.created_by else "",
        means=row.means,
        values=row.values,
        changes={name: (old, new) for name, (old, new) in sorted(row.changes.items())},  # jsonb has an order of its own
        reverts=row.reverts,
    )


def key_of(organization_id: int, api_key_id: int) -> Owner | None:
    """The owner that this key is; None for a key that is not there, or another tenant's."""
    found = ApiKey.objects.filter(pk=api_key_id, organization_id=organization_id).exists()
    return Owner.key(api_key_id) if found else None


def profiles_naming(names: set[str]) -> list[str]:
    """Where profiles name one of the models `names`, a phrase each ("Platform: think, image")."""
    found = []
    for row in RouterProfile.objects.select_related("organization", "api_key"):
        routes = [route for route in ROUTES if _model_named(getattr(row, route)) & names]
        if routes:
            found.append(f"{row}: {', '.join(routes)}")
    return found


def _model_named(value: str | None) -> set[str]:
    """The names that a route's value may mean: itself, and behind `provider/` or `provider,`."""
    value = value or ""
    return {value, value.partition("/")[2], value.partition(",")[2]}
