"""The verbs on router profiles: checked against what there is, then stored as a new version."""

from django.db import transaction

from accounts import audit
from accounts.models import ApiKey, User
from gateway.routing.checks import Problem, problems
from providers import profiles
from providers.profiles import Author, Owner
from providers.types import Catalogue, Profile


class InvalidProfile(Exception):
    """`problems` has a line for each field that is wrong."""

    status = 400
    code = "invalid_profile"

    def __init__(self, found: list[Problem]) -> None:
        super().__init__(" ".join(str(problem) for problem in found))
        self.problems = found


def change(*, owner: Owner, profile: Profile, by: Author, catalogue: Catalogue, expected: int | None = None) -> int:
    """Let a customer's `profile` be the owner's; the number of the newest version. It chooses among the
    models that the operator offers, and nothing else. Raises InvalidProfile, and ProfileConflict when
    the newest version is not `expected`."""
    return _set(owner, checked(profile, catalogue), by, expected=expected)


def revert(*, owner: Owner, number: int, by: Author, catalogue: Catalogue) -> int:
    """Go back to version `number`, as a new version. Raises UnknownVersion, and InvalidProfile when it names
    what is not offered any more."""
    profile = checked(profiles.profile_with(profiles.version(owner, number).values), catalogue)
    return _set(owner, profile, by, reverts=number)


@transaction.atomic
def _set(owner: Owner, profile: Profile, by: Author, *, expected: int | None = None, reverts: int | None = None) -> int:
    """With a line in the organisation's audit log, when it changed something."""
    before = profiles.latest(owner)
    number = profiles.set_profile(owner=owner, profile=profile, by=by, expected=expected, reverts=reverts)
    if number != before:
        key = ApiKey.objects.filter(pk=owner.api_key_id).first() if owner.api_key_id else None
        organization_id = key.organization_id if key else owner.organization_id
        assert organization_id is not None  # the platform's profile is the operators', in the admin
        what = f"Version {number}" + (f", as version {reverts} was" if reverts else "")
        subject = f"the API key {key.name}" if key else "the organisation"
        actor = User.objects.filter(pk=by.user_id).first() if by.user_id is not None else None
        audit.record(organization_id, actor, "changed the routes of", subject, f"{what}. By {by.means}.")
    return number


def checked(profile: Profile, catalogue: Catalogue) -> Profile:
    """The same profile, when it may be a customer's. Raises InvalidProfile."""
    found = problems(profile, catalogue, only_offered=True)
    if found:
        raise InvalidProfile(found)
    return profile
