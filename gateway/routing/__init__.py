"""Which model serves a request: pure functions, no Django (architecture, section 4)."""

from gateway.routing.names import Found, discovery_id, find_model, model_name
from gateway.routing.patterns import InvalidPattern
from gateway.routing.patterns import check as check_pattern
from gateway.routing.profiles import DEFAULTS, merge_profiles, profile_for
from gateway.routing.router import route
from gateway.routing.signals import probe
from gateway.routing.types import Decision, NoModels, RequestClass, Route, Rule, UnknownModel

__all__ = [
    "DEFAULTS",
    "Decision",
    "Found",
    "InvalidPattern",
    "NoModels",
    "RequestClass",
    "Route",
    "Rule",
    "UnknownModel",
    "check_pattern",
    "discovery_id",
    "find_model",
    "merge_profiles",
    "model_name",
    "probe",
    "profile_for",
    "route",
]
