"""The file as a whole: providers with their models, the router's routes, fallbacks."""

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from providers import fields, json5
from providers.ccr import reasons
from providers.ccr.endpoints import Endpoint, endpoint_of
from providers.ccr.models import Models
from providers.ccr.transformers import LOG_INS, Effects, effects_of
from providers.ccr.variables import filled_in, has_variables, interpolated
from providers.config_entries import ConfigFile, KeyEntry, ProviderEntry
from providers.config_foreign import is_local
from providers.config_keys import ENVIRONMENT_NAME, key_of
from providers.config_mux import vertex_url, warn_of_local_address
from providers.config_tables import Findings, Table
from providers.errors import ConfigError

# Its names of the scenarios, and the routes that they are here.
SCENARIOS = {
    "default": "default",
    "background": "background",
    "think": "think",
    "longContext": "long_context",
    "webSearch": "websearch",
    "image": "image",
}
FILLED_IN = ("Providers", "providers", "Router", "router", "fallback", "OPENAI_BASE_URL", "OPENAI_MODEL")
GOOGLE_PROJECT, GOOGLE_LOCATION = "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"
_VERTEX_PLACE = re.compile(r"https://[^/]+/v1(?:beta1)?/projects/[^/]+/locations/[^/]+")
_VERTEX_LOCATION = re.compile(r"https://(?:([a-z0-9-]+)-)?aiplatform\.googleapis\.com")


def parse(text: str, environ: Mapping[str, str], *, allow_private: bool) -> ConfigFile:
    """`allow_private`: whether providers may be at private addresses. Raises ConfigError with every
    problem of the file, a line each."""
    try:
        data = json5.loads(text)
    except json5.NotJson5 as error:
        raise ConfigError(f"This is not JSON5: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigError("This is no configuration of claude-code-router: it must be a JSON object.")
    return _Reader(data, environ, allow_private=allow_private).file()


class _Reader:
    def __init__(self, data: dict[str, Any], environ: Mapping[str, str], *, allow_private: bool) -> None:
        self.environ = environ
        self.allow_private = allow_private
        self.findings = Findings()
        for key in FILLED_IN:
            if key in data:
                data[key] = interpolated(data[key], environ, key, self.findings)
        self.root = Table(data, "", self.findings)
        self.models = Models(self.findings)
        self.total_timeout: float | None = None

    def file(self) -> ConfigFile:
        root = self.root
        milliseconds = root.whole("API_TIMEOUT_MS", minimum=100)
        self.total_timeout = None if milliseconds is None else milliseconds / 1000
        providers = [
            entry
            for key in ("Providers", "providers")
            for table in root.tables(key)
            if (entry := self._provider(table)) is not None
        ]
        providers += self._of_the_first_version()
        router = self._router(root.table("Router") or root.table("router"))
        self._fallbacks(root.table("fallback"), router)
        for table in root.tables("transformers"):
            table.skip_table(reasons.CODE)
        root.skip_all(reasons.TOP, whole=True)
        root.skip_all(reasons.PRESET, whole=True)
        root.leftovers()
        _refuse_twins(providers, self.findings)
        if self.findings.problems:
            raise ConfigError("\n".join(self.findings.problems))
        if not providers and not router:
            raise ConfigError("This is no configuration of claude-code-router: it has neither Providers nor a Router.")
        return ConfigFile(tuple(providers), self.models.entries(), router, self.findings)

    # -- providers

    def _provider(self, table: Table) -> ProviderEntry | None:
        name, address = table.text("name"), table.text("api_base_url")
        key = table.text("api_key")
        lacking = [what for what, value in (("name", name), ("api_base_url", address), ("api_key", key)) if not value]
        if lacking:
            table.skip_table(f"no {', no '.join(lacking)} (claude-code-router skips it too).", name or "")
            return None
        assert name
        assert address
        assert key
        provider = self.models.provider(name, table)
        general, by_model = self._transformers(table)
        endpoint = endpoint_of(address, frozenset(general.names), bearer=general.bearer)
        for note in endpoint.notes:
            table.warn("api_base_url", note)
        _check_address(table, endpoint.base_url or address)
        values, disabled = self._values(table, endpoint, address, general)
        self.models.serve(provider, general, endpoint)
        for place, model in enumerate(table.texts("models") or ()):
            self.models.add(provider, model, f"{table.path}.models[{place}]", by_model.pop(model, None))
        for model in by_model:
            table.warn(f"transformer.{model}", "this model is not among the provider's models.")
        table.skip("tokenizer", reasons.TOKENIZER, whole=True)
        entry = ProviderEntry(table.path, provider, values, self._key(table, provider, key), disabled)
        table.leftovers()
        return entry

    def _values(self, table: Table, endpoint: Endpoint, address: str, general: Effects) -> tuple[dict[str, Any], bool]:
        values: dict[str, Any] = {"kind": endpoint.kind, "base_url": endpoint.base_url, "wire": endpoint.wire}
        if self.total_timeout is not None:
            values["total_timeout"] = self.total_timeout
        disabled = False
        if general.names & LOG_INS:
            disabled = True
            table.warn(
                "transformer",
                "calls the provider with a subscription log-in, which is not imported: disabled until it has a key.",
            )
        elif endpoint.kind == "vertex":
            values["base_url"], disabled = self._vertex(endpoint.base_url), True
            table.warn(
                "api_base_url",
                "Vertex AI comes in disabled: a service-account key is needed. Enter its JSON as the provider's "
                "credential at /admin/, check the base URL, and enable it.",
            )
        elif is_local(address) and not self.allow_private:
            disabled = True
            warn_of_local_address(table, "api_base_url")
        return values, disabled

    def _vertex(self, base_url: str) -> str:
        if whole := _VERTEX_PLACE.match(base_url):
            return whole[0]
        told = _VERTEX_LOCATION.match(base_url)
        location = self.environ.get(GOOGLE_LOCATION) or (told and told[1]) or "us-central1"
        project = self.environ.get(GOOGLE_PROJECT)
        return vertex_url(project, location) if project else base_url

    def _key(self, table: Table, provider: str, key: str) -> tuple[KeyEntry, ...]:
        if "{{" in key:
            table.warn("api_key", f"is an input of a preset: enter the credential of {provider!r} in the admin.")
            return ()
        if has_variables(key) and not ENVIRONMENT_NAME.fullmatch(key):
            key = filled_in(key, self.environ, table.at("api_key"), self.findings)
            if has_variables(key):
                return ()
        holder = Table({"api_key": key}, table.path, self.findings)
        entry = key_of(holder, "api_key", provider=provider, environ=self.environ, label="api_key")
        return () if entry is None else (entry,)

    def _transformers(self, table: Table) -> tuple[Effects, dict[str, Effects]]:
        """The provider's, and those of each of its models."""
        general, by_model = Effects(), dict[str, Effects]()
        found = table.table("transformer")
        if found is None:
            return general, by_model
        for key in found.names():
            inner = None if key == "use" else found.table(key)
            holder, path = (found, found.path) if key == "use" else (inner, f"{found.path}.{key}")
            if holder is None:
                continue
            effects = effects_of(holder.items("use"))
            self.findings.problems += [f"{path}{where}: {why}" for where, why in effects.problems]
            for where, why in effects.skipped:
                self.findings.skip(f"{path}{where}", why)
            if inner is None:
                general = effects
            else:
                by_model[key] = effects
                inner.leftovers()
        found.leftovers()
        return general, by_model

    def _of_the_first_version(self) -> list[ProviderEntry]:
        """The one provider of versions before 1.0.9."""
        root = self.root
        key, base = root.text("OPENAI_API_KEY"), root.text("OPENAI_BASE_URL")
        model = root.text("OPENAI_MODEL")
        if not (key and base and model):
            for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
                if name in root:
                    root.skip(name, "the one provider of the first versions needs all three of OPENAI_*.")
            return []
        address = base.rstrip("/")
        table = Table(
            {"name": "openai", "api_base_url": f"{address}/chat/completions", "api_key": key, "models": [model]},
            "OPENAI_*",
            self.findings,
        )
        entry = self._provider(table)
        self.models.default(f"openai,{model}")
        return [entry] if entry is not None else []

    # -- routes

    def _router(self, table: Table | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if table is not None:
            for scenario, route in SCENARIOS.items():
                written = table.text(scenario)
                if written is None:
                    continue
                model = self.models.named(written, table.at(scenario)) if written else None
                if model is not None or not written:
                    values[route] = model
            values["long_context_threshold"] = table.whole("longContextThreshold", minimum=1)
            table.skip_all(reasons.ROUTER, whole=True)
            table.leftovers()
        elif self.models.first_default is not None:
            values["default"] = self.models.first_default
        return {name: value for name, value in values.items() if value is not None or name != "long_context_threshold"}

    def _fallbacks(self, table: Table | None, router: Mapping[str, Any]) -> None:
        if table is None:
            return
        for scenario, route in SCENARIOS.items():
            written = table.texts(scenario)
            model = router.get(route)
            if written and model is None:
                self.findings.skip(table.at(scenario), "its route is not set, so there is nothing to fall back from.")
            for place, name in enumerate(written or ()):
                if model is not None:
                    self.models.fall_back(model, name, f"{table.at(scenario)}[{place}]")
        table.leftovers()


def _check_address(table: Table, address: str) -> None:
    try:
        fields.base_url(address)
    except ValidationError as error:
        table.problem("api_base_url", error.messages[0])


def _refuse_twins(providers: list[ProviderEntry], findings: Findings) -> None:
    names = [entry.name.lower() for entry in providers]
    for place, entry in enumerate(providers):
        if names[place] in names[:place]:
            findings.problems.append(f"{entry.path}.name: {entry.name!r} is there already.")
