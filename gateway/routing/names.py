"""From the name that somebody wrote to the model that the catalogue knows.

Somebody is a client, a profile or a subagent tag; all write names in the same forms.
"""

import functools
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from providers.types import Catalogue, Model, Profile

if TYPE_CHECKING:
    from gateway.routing.router import Choice
    from gateway.routing.types import Signals

MAX_NAME = 256
_ONE_MILLION = "[1m]"
_DATED = re.compile(r"(claude-.+)-(20\d{6})")
_HEX_ID = re.compile(r"(?:anthropic/)?claude-ccr-h((?:[0-9a-f]{2}){1,256})", re.IGNORECASE)
_VIA = "claude-via-"
_ANTHROPIC = "anthropic/"
_TIERS = ("opus", "sonnet", "haiku")


@dataclass(frozen=True, slots=True)
class Found:
    """A model, and the one provider that may serve it when the name says so."""

    model: Model
    provider: str | None = None


def split_1m(name: str) -> tuple[str, bool]:
    """The name without the client's `[1m]` suffix (a million tokens of context), and whether it was there."""
    name = name.strip()
    if name.lower().endswith(_ONE_MILLION):
        return name[: -len(_ONE_MILLION)].rstrip(), True
    return name, False


def discovery_id(model_name: str) -> str:
    """The id under which GET /v1/models lists a model.

    Claude Code's picker keeps only ids that begin with "claude" or "anthropic", and believes
    in windows of its own for ids that begin with "claude-": hence `anthropic/gpt-5`."""
    return model_name if _is_kept(model_name) else _ANTHROPIC + model_name


def model_name(listed_id: str) -> str:
    """The inverse of `discovery_id`; an id in another form is returned as it is."""
    name = listed_id.removeprefix(_ANTHROPIC)
    return name if name != listed_id and not _is_kept(name) else listed_id


@functools.lru_cache(maxsize=1024)
def shown(name: str) -> str:
    """`name` in quotes for messages and headers: printable ASCII, at most 80 characters."""
    text = "".join(char if " " <= char <= "~" else "?" for char in name[:81])
    return f'"{text if len(text) <= 80 else text[:79] + "..."}"'


def is_claude(name: str) -> bool:
    return name.lower().removeprefix(_ANTHROPIC).startswith("claude-")


def is_alias(name: str) -> bool:
    """Whether `name` is an alias that only a gateway can have listed, though it looks like a Claude id."""
    return name.lower().startswith(_VIA) or _HEX_ID.fullmatch(name) is not None


def _is_kept(name: str) -> bool:
    return name.lower().startswith(("claude", "anthropic"))


class Names:
    """The names of one catalogue's servable models: those with at least one target."""

    __slots__ = ("_any_case", "_of_providers", "_undated", "choices", "models")

    def __init__(self, catalogue: Catalogue) -> None:
        self.models = {name: model for name, model in catalogue.models.items() if model.targets or model.own_targets}
        self.choices: dict[tuple[Signals, str, Profile], Choice] = {}
        """What `router.choose` has decided on this catalogue."""
        self._any_case: dict[str, Model] = {}
        self._undated: dict[str, tuple[str, Model]] = {}
        self._of_providers: dict[str, dict[str, Found]] = {}
        for name, model in self.models.items():
            self._any_case.setdefault(name.lower(), model)
            if dated := _DATED.fullmatch(name.lower()):
                newest = self._undated.get(dated[1])
                if newest is None or newest[0] < dated[2]:
                    self._undated[dated[1]] = (dated[2], model)
        # A provider's model may be called by our name for it or by the provider's own; ours goes first.
        for own_name in (False, True):
            for model in self.models.values():
                for target in (*model.targets, *chain.from_iterable(model.own_targets.values())):
                    found = Found(model, target.provider)
                    name = target.actual_model if own_name else model.name
                    names = self._of_providers.setdefault(target.provider.lower(), {})
                    names.setdefault(name, found)
                    names.setdefault(name.lower(), found)

    def find(self, name: str) -> Found | None:
        """The model that `name` stands for, None when there is no such servable model."""
        name, _ = split_1m(name)
        if not name or len(name) > 2 * MAX_NAME:
            return None
        return self._listed(name) or self._aliased(name) or self._of_provider(name) or self._dated(name)

    def _listed(self, name: str) -> Found | None:
        model = self.models.get(name) or self._any_case.get(name.lower())
        return Found(model) if model else None

    def _aliased(self, name: str) -> Found | None:
        if hexadecimal := _HEX_ID.fullmatch(name):
            try:
                name = bytes.fromhex(hexadecimal[1]).decode()
            except UnicodeDecodeError:
                return None
        elif name.lower().startswith(_VIA):
            name = name[len(_VIA) :]
        elif model_name(name) == name:
            return None
        else:
            return self._listed(model_name(name))
        return self._listed(name) or self._of_provider(name)

    def _of_provider(self, name: str) -> Found | None:
        # A model may have the name provider/model itself; `provider,model` means it too.
        if named := self._listed("/".join(part.strip() for part in name.split(",", 1))):
            return named
        for separator in (",", "/"):
            provider, found, rest = name.partition(separator)
            names = self._of_providers.get(provider.strip().lower()) if found else None
            if names is not None:
                rest = rest.strip()
                return names.get(rest) or names.get(rest.lower())
        return None

    def _dated(self, name: str) -> Found | None:
        """Claude ids with and without a date stand for one another; of several dates the newest."""
        name = name.lower().removeprefix(_ANTHROPIC)
        if listed := self._listed(name) if is_claude(name) else None:
            return listed
        dated = _DATED.fullmatch(name)
        base = dated[1] if dated else name
        model = self._any_case.get(base) if dated else None
        if model is None and base in self._undated:
            model = self._undated[base][1]
        return Found(model) if model else None

    def of_tier(self, name: str) -> Found | None:
        """For a Claude id that no operator configured: the newest model of the same tier."""
        if not is_claude(name):
            return None
        tier = next((tier for tier in _TIERS if tier in name.lower()), None)
        models = [model for key, model in self._any_case.items() if tier and tier in key]
        if not models:
            return None
        return Found(max(models, key=lambda model: (is_claude(model.name), model.created_at, model.name)))

    def any(self) -> Found:
        return Found(next(iter(self.models.values())))


_last: tuple[Catalogue, Names] | None = None


def names_of(catalogue: Catalogue) -> Names:
    """The names of `catalogue`, built once per snapshot: a process serves from one at a time."""
    global _last
    last = _last
    if last is None or last[0] is not catalogue:
        last = _last = (catalogue, Names(catalogue))
    return last[1]


def find_model(catalogue: Catalogue, name: str) -> Found | None:
    """The model that `name` stands for in `catalogue` (for GET /v1/models/{id}), without auto-map or tiers."""
    return names_of(catalogue).find(name)
