"""The models of the file's providers, and the names under which its routes know them."""

import re
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from providers import fields
from providers.ccr.endpoints import Endpoint
from providers.ccr.transformers import Effects
from providers.config_entries import MappingEntry, ModelEntry
from providers.config_tables import Findings, Table
from providers.families import UNKNOWN, family_of
from providers.kinds import KINDS

OPTIONS_LEFT_OUT = "the options of its transformers are left out."
_NOT_IN_A_PROVIDER = re.compile(r"[^!-+\-.0-~ ]+")
_NOT_IN_A_MODEL = re.compile(r"[^!-+\--~]+")


@dataclass(slots=True)
class _Draft:
    path: str
    name: str
    values: dict[str, Any]
    first_values: dict[str, Any]
    mappings: list[MappingEntry] = field(default_factory=list)


class Models:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.first_default: str | None = None
        self._drafts: dict[tuple[str, str], _Draft] = {}
        self._served: dict[str, tuple[Effects, bool]] = {}
        self._providers: dict[str, str] = {}

    def provider(self, written: str, table: Table) -> str:
        """The provider's name here: as it is written, where that can be."""
        name = _NOT_IN_A_PROVIDER.sub("-", written).strip(" -") or f"provider-{len(self._providers) + 1}"
        try:
            fields.provider_name(name)
        except ValidationError:
            name = f"provider-{len(self._providers) + 1}"
        if name != written:
            table.warn("name", f"cannot be a provider's name here: imported as {name!r}.")
        self._providers[written.lower()] = name
        return name

    def serve(self, provider: str, effects: Effects, endpoint: Endpoint) -> None:
        """How `provider` serves each of its models."""
        wire = endpoint.wire or KINDS[endpoint.kind].wire
        self._served[provider] = effects, wire == "openai_chat"

    def add(self, provider: str, actual: str, path: str, own: Effects | None = None) -> None:
        """A model of a provider, with transformers of its `own`; the second time it says nothing new."""
        if not actual or (provider, actual) in self._drafts:
            return
        general, _ = self._served[provider]
        effects = general if own is None else general.under(own)
        values: dict[str, Any] = {}
        if effects.max_output is not None:
            values["max_output"] = effects.max_output
        if effects.thinking is not None:
            values["thinking"] = effects.thinking
        draft = _Draft(path, self._name(provider, actual, path), values, _facts(actual))
        draft.mappings.append(self._mapping(provider, actual, effects, path))
        self._drafts[provider, actual] = draft

    def _name(self, provider: str, actual: str, path: str) -> str:
        name = _NOT_IN_A_MODEL.sub("-", f"{provider}/{actual}")
        if any(draft.name == name for draft in self._drafts.values()):
            self.findings.problems.append(f"{path}: another model has the name {name!r} here already: rename one.")
        return name

    def _mapping(self, provider: str, actual: str, effects: Effects, path: str) -> MappingEntry:
        values: dict[str, Any] = {"priority": 1}
        _, takes_extra = self._served[provider]
        if effects.extra_body and not takes_extra:
            self.findings.skip(path, f"{OPTIONS_LEFT_OUT} Only Chat Completions requests take extra fields.")
        elif effects.extra_body:
            try:
                fields.extra_body(effects.extra_body)
            except ValidationError as error:
                self.findings.skip(path, f"{OPTIONS_LEFT_OUT} {error.messages[0]}")
            else:
                values["extra_body"] = effects.extra_body
        return MappingEntry(path, provider, actual, values)

    def named(self, written: str, path: str) -> str | None:
        """The model here that a route names "provider,model"; None, and a word on it, when there is none."""
        draft = self._find(written, path)
        return draft.name if draft is not None else None

    def default(self, written: str) -> None:
        self.first_default = self.named(written, "OPENAI_MODEL")

    def fall_back(self, model: str, written: str, path: str) -> None:
        """Let the model `model` be served by what `written` names when its own mappings fail."""
        fallback = self._find(written, path)
        draft = next(draft for draft in self._drafts.values() if draft.name == model)
        if fallback is None:
            return
        own = fallback.mappings[0]
        if any((there.provider, there.actual_model) == (own.provider, own.actual_model) for there in draft.mappings):
            return
        values = {**own.values, "priority": len(draft.mappings) + 1}
        draft.mappings.append(MappingEntry(path, own.provider, own.actual_model, values))

    def _find(self, written: str, path: str) -> _Draft | None:
        provider, comma, model = (part.strip() for part in written.partition(","))
        if not comma:
            found = [draft for (_, actual), draft in self._drafts.items() if actual == written]
            if len(found) == 1:
                return found[0]
            self.findings.skip(path, f"{written!r} does not name one model: write provider,model.")
            return None
        name = self._providers.get(provider.lower())
        if name is None:
            self.findings.skip(path, f"no provider of the file that is imported is named {provider!r}.")
            return None
        for (owner, actual), draft in self._drafts.items():
            if owner == name and actual.lower() == model.lower():
                return draft
        self.add(name, model, path)
        return self._drafts.get((name, model))

    def entries(self) -> tuple[ModelEntry, ...]:
        return tuple(
            ModelEntry(draft.path, draft.name, draft.values, None, tuple(draft.mappings), draft.first_values)
            for draft in self._drafts.values()
        )


def _facts(actual: str) -> dict[str, Any]:
    """What the model's family is known to be able to do, for a model that is new here."""
    family = family_of(actual)
    if family is UNKNOWN:
        return {}
    facts: dict[str, Any] = {"vision": family.vision, "thinking": family.reasoning != "none"}
    if family.context_window is not None:
        facts["context_window"] = family.context_window
    return facts
