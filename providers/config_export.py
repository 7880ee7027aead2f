"""Writes the present catalogue and the platform's routes as CCM TOML, secrets as `$ENV` names.

Importing the text into an empty database gives the same catalogue. What belongs to tenants
(their router profiles), price history and coming prices are no part of it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from providers.config_file import PATTERNS, ROUTES, TIMEOUTS
from providers.models import DEFAULTS, Credential, DatedRates, Mapping, Model, Provider, RouterProfile, Scope
from providers.prices import plain
from providers.selectors import current_cost, current_price
from providers.services import RATES

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
HEADER = "# CCM: the catalogue and the platform's routes. Secrets are left out: set the variables named by $NAME."

TomlValue = str | bool | int | float | Decimal | list[str] | None


def export_config() -> str:
    """The whole text. Reading it back needs `import_config` and the secrets in the environment."""
    tables = [HEADER, *_router(), *_providers(), *_models()]
    return "\n\n".join(tables) + "\n"


def _router() -> Iterator[str]:
    row = RouterProfile.objects.filter(scope=Scope.PLATFORM).first()
    if row is None:
        return
    lines = [_line(name, getattr(row, name) or None) for name in (*ROUTES, *PATTERNS)]
    others = ("long_context_threshold", "think_efforts", "think_in_plan_mode", "pin_explicit_model")
    lines += [_line(name, getattr(row, name)) for name in others]
    yield _table("[router]", lines)


def _providers() -> Iterator[str]:
    names = _environment_names()
    for row in Provider.objects.order_by("name"):
        lines = [
            _line("name", row.name),
            _line("kind", row.kind),
            _line("base_url", row.base_url or None),
            _line("wire", row.wire or None),
            _line("enabled", row.enabled if not row.enabled else None),
            _line("count_tokens", row.count_tokens),
        ]
        for timeout in TIMEOUTS:
            seconds = getattr(row, timeout)
            is_default = seconds == getattr(DEFAULTS, timeout.removesuffix("_timeout"))
            lines.append(_line(timeout, None if is_default else seconds))
        lines += _keys(list(row.credentials.filter(enabled=True).order_by("pk")), names)
        yield _table("[[providers]]", lines)


def _keys(pool: list[Credential], names: dict[int, str]) -> list[str]:
    lines = []
    if pool and pool[0].weight == 1:
        lines.append(_line("api_key", f"${names[pool[0].pk]}"))
        pool = pool[1:]
    if pool:
        items = [f"{{ key = {_value('$' + names[row.pk])}, weight = {row.weight} }}" for row in pool]
        lines.append(f"api_keys = [{', '.join(items)}]")
    return lines


def _environment_names() -> dict[int, str]:
    """A variable's name for each credential: its label where that is one, else made of the provider's
    name. No two are the same."""
    names: dict[int, str] = {}
    for row in Credential.objects.filter(enabled=True).select_related("provider").order_by("pk"):
        slug = re.sub(r"[^A-Z0-9]+", "_", row.provider.name.upper()).strip("_")
        is_name = ENVIRONMENT_NAME.fullmatch(row.label) and row.label.isupper()
        name = base = row.label if is_name else f"{'_' if slug[:1].isdigit() else ''}{slug or 'CCM'}_API_KEY"
        number = 2
        while name in names.values():
            name = f"{base}_{number}"
            number += 1
        names[row.pk] = name
    return names


def _models() -> Iterator[str]:
    for row in Model.objects.order_by("name"):
        lines = [
            _line("name", row.name),
            _line("display_name", row.display_name or None),
            _line("description", row.description or None),
            _line("context_window", row.context_window),
            _line("max_output", row.max_output),
            _line("vision", row.vision),
            _line("tools", row.tools),
            _line("thinking", row.thinking),
            _line("enabled", row.enabled if not row.enabled else None),
            _line("discoverable", row.discoverable if not row.discoverable else None),
            *_prices(row),
        ]
        yield _table("[[models]]", lines)
        for mapping in row.mappings.select_related("provider").order_by("priority", "pk"):
            yield _mapping(mapping)


def _prices(model: Model) -> list[str]:
    if model.markup is not None:
        return [_line("markup", model.markup)]
    price = current_price(model)
    return [] if price is None else _rates(price)


def _rates(row: DatedRates) -> list[str]:
    """Lines of the rates that are entered; web searches free of charge need no line."""
    rates = {rate: getattr(row, rate) for rate in RATES}
    lines = [
        _line(rate, value) for rate, value in rates.items() if value is not None and (value or rate != "web_search")
    ]
    if row.tiers:
        items = [f"{{ {', '.join(_line(key, value) for key, value in tier.items())} }}" for tier in row.tiers]
        lines.append(f"tiers = [{', '.join(items)}]")
    return lines


def _mapping(row: Mapping) -> str:
    known = current_cost(row)
    cost = [] if known is None else _rates(known)
    lines = [
        _line("provider", row.provider.name),
        _line("actual_model", row.actual_model),
        _line("priority", row.priority),
        _line("weight", row.weight),
        _line("enabled", row.enabled if not row.enabled else None),
        f"cost = {{ {', '.join(cost)} }}" if cost else "",
    ]
    return _table("[[models.mappings]]", lines)


def _table(header: str, lines: Iterable[str]) -> str:
    return "\n".join([header, *(line for line in lines if line)])


def _line(key: str, value: TomlValue) -> str:
    """Empty for None: TOML has no null."""
    return "" if value is None else f"{key} = {_value(value)}"


def _value(value: TomlValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f'"{plain(value)}"'
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's too; DEL, which JSON leaves as it is, TOML forbids.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
