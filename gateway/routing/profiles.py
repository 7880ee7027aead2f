"""Router profiles: the most specific one wins, field by field (architecture, section 4)."""

from dataclasses import fields
from functools import lru_cache
from typing import Any

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
_FIELDS = tuple(field.name for field in fields(Profile))


@lru_cache(maxsize=4096)
def merge_profiles(*profiles_most_specific_first: Profile) -> Profile:
    """One profile whose fields are each taken from the first profile that sets them, else the
    default. A route set to "" is set: it switches the wider profile's route off."""
    merged: dict[str, Any] = {}
    for name in _FIELDS:
        for profile in (*profiles_most_specific_first, DEFAULTS):
            value = getattr(profile, name)
            if value is not None:
                merged[name] = value
                break
    return Profile(**merged)


def profile_for(catalogue: Catalogue, organization_id: int, api_key_id: int) -> Profile:
    """The profile that routes a key's requests: the key's over its organisation's over the platform's."""
    own = (catalogue.key_profiles.get(api_key_id), catalogue.organization_profiles.get(organization_id))
    return merge_profiles(*(profile for profile in own if profile is not None), catalogue.platform_profile)
