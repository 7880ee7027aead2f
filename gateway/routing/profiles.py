"""Router profiles: the most specific one wins, field by field (architecture, section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from providers.types import Catalogue, Profile

AUTO_MAP_REGEX = "^claude-"
BACKGROUND_REGEX = "(?i)claude.*haiku"
LONG_CONTEXT_THRESHOLD = 60_000
THINK_EFFORTS = frozenset({"max"})

DEFAULTS = Profile(
    auto_map_regex=AUTO_MAP_REGEX,
    background_regex=BACKGROUND_REGEX,
    long_context_threshold=LONG_CONTEXT_THRESHOLD,
    think_efforts=THINK_EFFORTS,
    think_in_plan_mode=True,
    pin_explicit_model=False,
)
FIELDS = Profile.__struct_fields__


Level = Literal["key", "organization", "platform", "built_in"]
"""Whose profile a field's value comes from."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The profile that routes a key's requests, and where each of its fields comes from."""

    profile: Profile
    origins: Mapping[str, Level]


@lru_cache(maxsize=4096)
def merge(key: Profile | None, organization: Profile | None, platform: Profile) -> Merged:
    """One profile whose fields are each taken from the most specific profile that sets them, else the
    built-in value. A route set to "" is set: it switches the wider profile's route off. What nobody
    sets has no origin."""
    levels: tuple[tuple[Level, Profile | None], ...]
    levels = (("key", key), ("organization", organization), ("platform", platform), ("built_in", DEFAULTS))
    values: dict[str, Any] = {}
    origins: dict[str, Level] = {}
    for name in FIELDS:
        for level, profile in levels:
            value = getattr(profile, name, None)
            if value is not None:
                values[name], origins[name] = value, level
                break
    return Merged(Profile(**values), MappingProxyType(origins))


def merge_profiles(*profiles_most_specific_first: Profile) -> Profile:
    """As `merge`, of at most three profiles, without the origins."""
    *own, widest = profiles_most_specific_first or (Profile(),)
    organization = own.pop() if own else None
    return merge(own.pop() if own else None, organization, widest).profile


def merged_for(catalogue: Catalogue, organization_id: int, api_key_id: int) -> Merged:
    """What routes a key's requests: its own profile over its organisation's over the platform's."""
    return merge(
        catalogue.key_profiles.get(api_key_id),
        catalogue.organization_profiles.get(organization_id),
        catalogue.platform_profile,
    )


def profile_for(catalogue: Catalogue, organization_id: int, api_key_id: int) -> Profile:
    return merged_for(catalogue, organization_id, api_key_id).profile
