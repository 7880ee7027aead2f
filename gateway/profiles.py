"""The verbs on router profiles: checked against what there is, then stored as a new version."""

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
    return profiles.set_profile(owner=owner, profile=checked(profile, catalogue), by=by, expected=expected)


def revert(*, owner: Owner, number: int, by: Author, catalogue: Catalogue) -> int:
    """Go back to version `number`, as a new version. Raises UnknownVersion, and InvalidProfile when it names
    what is not offered any more."""
    profile = checked(profiles.profile_with(profiles.version(owner, number).values), catalogue)
    return profiles.set_profile(owner=owner, profile=profile, by=by, reverts=number)


def checked(profile: Profile, catalogue: Catalogue) -> Profile:
    """The same profile, when it may be a customer's. Raises InvalidProfile."""
    found = problems(profile, catalogue, only_offered=True)
    if found:
        raise InvalidProfile(found)
    return profile
