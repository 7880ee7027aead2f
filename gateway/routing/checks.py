"""Whether a router profile can work: each field that is wrong, in words for whoever wrote it."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gateway.routing.names import names_of, shown
from gateway.routing.patterns import InvalidPattern, check
from gateway.routing.profiles import FIELDS
from providers.types import Catalogue, Profile

ROUTES = ("default", "think", "websearch", "image", "long_context", "background", "subagent", "safety")
PATTERNS = ("auto_map_regex", "background_regex")
MAX_ROUTE = 200
LEAST_THRESHOLD, LARGEST_THRESHOLD = 1, 10_000_000
MOST_EFFORTS = 10
_EFFORT = re.compile(r"[a-z][a-z0-9_-]{0,19}")


@dataclass(frozen=True, slots=True)
class Problem:
    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


def problems(
    profile: Profile, catalogue: Catalogue, *, only_offered: bool, among: Collection[str] = FIELDS
) -> list[Problem]:
    """What is wrong with the fields `among` of `profile`, in their order. `only_offered`: a route may
    only name what customers can see and buy, as in a customer's own profile; an operator may name any
    model that there is."""
    found = [*_routes(profile, catalogue, only_offered), *_patterns(profile), *_signals(profile)]
    return [problem for problem in found if problem.field in among]


def _routes(profile: Profile, catalogue: Catalogue, only_offered: bool) -> Iterator[Problem]:
    for route in ROUTES:
        name: str = getattr(profile, route) or ""
        if not name.strip():
            continue  # not set, or switched off
        if len(name) > MAX_ROUTE:
            yield Problem(route, f"a model's name has at most {MAX_ROUTE} characters.")
        elif text := _about(name, catalogue, only_offered):
            yield Problem(route, text)


def _about(name: str, catalogue: Catalogue, only_offered: bool) -> str:
    """Why a route cannot name this model, "" when it can."""
    if not only_offered and name in catalogue.models:
        return ""  # enabled, but perhaps without a provider or a price as yet
    found = names_of(catalogue).find(name)
    offered = found is not None and found.model.discoverable and found.model.price is not None
    if found is None or (only_offered and not offered):
        return f"the model {shown(name)} is not available here: GET /v1/models lists the models."
    return ""


def _patterns(profile: Profile) -> Iterator[Problem]:
    for field in PATTERNS:
        pattern: str | None = getattr(profile, field)
        if pattern is None:
            continue
        try:
            check(pattern)
        except InvalidPattern as error:
            yield Problem(field, f"{error}.")


def _signals(profile: Profile) -> Iterator[Problem]:
    threshold = profile.long_context_threshold
    if threshold is not None and not LEAST_THRESHOLD <= threshold <= LARGEST_THRESHOLD:
        text = f"must be a number of tokens from {LEAST_THRESHOLD} to {LARGEST_THRESHOLD}."
        yield Problem("long_context_threshold", text)
    efforts = profile.think_efforts
    if efforts is not None and (len(efforts) > MOST_EFFORTS or not all(_EFFORT.fullmatch(each) for each in efforts)):
        text = f'must be a list of at most {MOST_EFFORTS} effort names, such as ["high", "max"].'
        yield Problem("think_efforts", text)
