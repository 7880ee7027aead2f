"""Whatever can be configured survives its export: importing that changes nothing, and in an empty
database makes the same catalogue."""

import json
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from providers.catalogue import build
from providers.config import Outcome, import_config
from providers.config_entries import ROUTES, TIMEOUTS
from providers.config_export import export_config
from providers.kinds import KINDS
from providers.models import Credential, Mapping, Model, Provider, RouterProfile
from providers.prices import plain
from providers.types import Catalogue

pytestmark = pytest.mark.django_db

WORDS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp"), exclude_characters="\x85"), max_size=12)
TEXTS = WORDS.map(str.strip)
PROVIDER_NAMES = st.from_regex(r"\A[a-z0-9](?:[ -+\-.:-~]{0,8}[!-+\-.:-~])?\Z")
MODEL_NAMES = st.from_regex(r"\A[!-+\--~]{1,12}\Z")
KIND_NAMES = st.sampled_from(sorted(KINDS))
USD = st.decimals(min_value=0, max_value=999, places=6)
SECONDS = st.sampled_from([0.1, 2.5, 60.0, 3600.0])
JSON = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def rates(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"input": draw(USD), "output": draw(USD)}
    for name in ("cache_read", "cache_write", "cache_write_1h"):
        if draw(st.booleans()):
            found[name] = draw(USD)
    if draw(st.booleans()):
        found["web_search"] = draw(USD)
    if draw(st.booleans()):
        # A longer request is never cheaper, in any class.
        highest = 4 * max(value for value in found.values())
        found["tiers"] = [
            {"above": above, "input": highest * factor + 1, "output": highest * factor + 1}
            for factor, above in enumerate(sorted(draw(st.sets(st.integers(1, 10**6), min_size=1, max_size=3))), 1)
        ]
    return found


@st.composite
def providers(draw: st.DrawFn, name: str) -> dict[str, Any]:
    kind = draw(KIND_NAMES)
    found: dict[str, Any] = {"name": name, "kind": kind}
    if not KINDS[kind].base_url or draw(st.booleans()):
        found["base_url"] = draw(st.sampled_from(["https://llm.example", "http://10.0.0.1:8080/v1", "https://a.b/c/d"]))
    if draw(st.booleans()):
        found["wire"] = draw(st.sampled_from(sorted({each.wire for each in KINDS.values()})))
    keys = draw(st.lists(st.integers(1, 5), max_size=3))
    if keys:
        found["api_keys"] = [
            {"key": f"sk-{name}-{place}-0123456789", "weight": weight} for place, weight in enumerate(keys)
        ]
    found |= {timeout: draw(SECONDS) for timeout in TIMEOUTS if draw(st.booleans())}
    if draw(st.booleans()):
        found["enabled"] = False
    return found


@st.composite
def models(draw: st.DrawFn, name: str, known: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    for text in ("display_name", "description"):
        if draw(st.booleans()):
            found[text] = draw(TEXTS)
    for size in ("context_window", "max_output"):
        if draw(st.booleans()):
            found[size] = draw(st.integers(1, 10**7))
    for flag in ("vision", "tools", "thinking", "enabled", "discoverable"):
        if draw(st.booleans()):
            found[flag] = draw(st.booleans())
    priced = draw(st.sampled_from(["no", "markup", "price"]))
    if priced == "markup":
        found["markup"] = draw(st.decimals(min_value=0, max_value=9, places=4))
    elif priced == "price":
        found |= draw(rates())
    pairs = st.tuples(st.sampled_from(known), MODEL_NAMES)
    found["mappings"] = [
        {"provider": provider, "actual_model": actual, **draw(mapping_details())}
        for provider, actual in sorted(draw(st.sets(pairs, max_size=3)))
    ]
    return found


@st.composite
def mapping_details(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"priority": draw(st.integers(0, 9)), "weight": draw(st.integers(1, 9))}
    if draw(st.booleans()):
        found["enabled"] = False
    if draw(st.booleans()):
        found["cost"] = draw(rates())
    if draw(st.booleans()):
        found["extra_body"] = draw(st.dictionaries(TEXTS.map("x{}".format), JSON, max_size=3))
    return found


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(PROVIDER_NAMES, min_size=1, max_size=3, unique_by=str.lower))
    served = draw(st.lists(MODEL_NAMES, max_size=3, unique=True))
    found: dict[str, Any] = {
        "providers": [draw(providers(name)) for name in names],
        "models": [draw(models(name, names)) for name in served],
    }
    if draw(st.booleans()) and served:
        found["router"] = {route: draw(st.sampled_from(served)) for route in ROUTES if draw(st.booleans())}
        if draw(st.booleans()):
            found["router"]["think_efforts"] = draw(st.lists(st.sampled_from(["high", "max"]), unique=True))
        found["router"] |= {"long_context_threshold": draw(st.integers(1, 10**6)), "pin_explicit_model": True}
        found["router"]["background_regex"] = draw(st.sampled_from([r"(?i)haiku", r'a"\\b', r"\d+[é\t]"]))
    return found


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f'"{plain(value)}"'
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def written(configuration: dict[str, Any]) -> str:
    """The whole file, a line for each list and table of its top level."""
    return "\n".join(f"{key} = {toml(value)}" for key, value in configuration.items())


def same(catalogue: Catalogue) -> Catalogue:
    """Without what two databases differ in: row numbers, moments, the version."""
    return replace(
        catalogue,
        version=0,
        models={
            name: replace(
                model,
                id=0,
                created_at="",
                targets=tuple(
                    replace(
                        target,
                        mapping_id=0,
                        provider_id=0,
                        credentials=tuple(replace(credential, id=0) for credential in target.credentials),
                    )
                    for target in model.targets
                ),
            )
            for name, model in catalogue.models.items()
        },
    )


# Not shrunk: each example is three imports, and minutes of them tell little more than the first.
@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(configurations())
def test_an_export_makes_the_same_catalogue_anywhere(configuration):
    with transaction.atomic():
        import_config(written(configuration), environ={})
        text, before = export_config(), build()
        environ = secrets_of(text)
        again = import_config(text, environ=environ)
        assert {change.outcome for change in again.changes} <= {Outcome.UNCHANGED}, "import(export) changes something"
        assert again.skipped == []
        for rows in (RouterProfile, Mapping, Model, Credential, Provider):
            rows.objects.all().delete()
        import_config(text, environ=environ)
        assert export_config() == text
        assert same(build()) == same(before)
        transaction.set_rollback(True)


def secrets_of(text: str) -> dict[str, str]:
    """What a person would set for an export: the stored secrets, by the names it gives them. They stand
    in its text in the order of their rows."""
    names = re.findall(r'(?:^api_key = |\bkey = )"\$(\w+)"', text, re.MULTILINE)
    rows = Credential.objects.order_by("provider__name", "pk")
    return {name: row.open_secret() for name, row in zip(names, rows, strict=True)}
