"""Which model serves a request: pure functions, no Django (architecture, section 4)."""

from gateway.routing.names import Found, discovery_id, find_model, model_name
from gateway.routing.patterns import InvalidPattern
from gateway.routing.patterns import check as check_pattern
from gateway.routing.profiles import DEFAULTS, Level, Merged, merge, merge_profiles, merged_for, profile_for
from gateway.routing.router import Choice, choose, route
from gateway.routing.signals import probe
from gateway.routing.types import Decision, NoModels, RequestClass, Route, Rule, Signals, UnknownModel

__all__ = [
    "DEFAULTS",
    "Choice",
    "Decision",
    "Found",
    "InvalidPattern",
    "Level",
    "Merged",
    "NoModels",
    "RequestClass",
    "Route",
    "Rule",
    "Signals",
    "UnknownModel",
    "check_pattern",
    "choose",
    "discovery_id",
    "find_model",
    "merge",
    "merge_profiles",
    "merged_for",
    "model_name",
    "probe",
    "profile_for",
    "route",
]
