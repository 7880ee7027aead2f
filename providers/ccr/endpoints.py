"""From an endpoint's full address, as claude-code-router has it, to a kind, a base URL and a wire."""

import re
from dataclasses import dataclass

from providers.config_foreign import host_of
from providers.kinds import KINDS

# How an address ends, by wire; the longer ending first.
_ENDINGS = (
    ("openai_chat", re.compile(r"/chat/completions$")),
    ("openai_responses", re.compile(r"/responses$")),
    ("anthropic", re.compile(r"/v1/messages$|/messages$")),
    ("gemini", re.compile(r"/models(?:/[^/]*)?$")),
    ("cohere", re.compile(r"/v2/chat$")),
)
# Transformers that say which format a provider speaks.
WIRE_TRANSFORMERS = {
    "anthropic": "anthropic",
    "gemini": "gemini",
    "openai-responses": "openai_responses",
    "vertex-gemini": "vertex",
    "vertex-claude": "vertex",
}
_OTHER_HOSTS = {
    "api.moonshot.cn": "moonshot",
    "open.bigmodel.cn": "z.ai",
    "api.minimaxi.com": "minimax",
    "localhost:11434": "ollama",
}
_HOSTS = {host_of(kind.base_url): kind.name for kind in KINDS.values() if kind.base_url.startswith("https://")}
_AZURE = re.compile(r"(https://[^/]+\.openai\.azure\.com)/openai(?:/|$)")
_COMPATIBLE = {"anthropic": "anthropic-compatible", "gemini": "gemini", "cohere": "cohere", "vertex": "vertex"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`base_url` is "" where it is the kind's own, `wire` "" likewise. `notes` are what an operator
    should know of the translation."""

    kind: str
    base_url: str
    wire: str
    notes: tuple[str, ...] = ()


def endpoint_of(address: str, transformers: frozenset[str], *, bearer: bool = False) -> Endpoint:
    """`transformers` are the provider's, in lower case; `bearer`: an Anthropic-format server takes its
    key as a bearer token."""
    url = address.split("?")[0].split("#")[0].strip().rstrip("/")
    if azure := _AZURE.match(url):
        return _azure(azure[1], url)
    wire, base = _cut(url)
    told = next((WIRE_TRANSFORMERS[name] for name in sorted(transformers) if name in WIRE_TRANSFORMERS), None)
    notes = []
    if wire is None or (told == "vertex" and wire == "gemini"):
        wire = told or "openai_chat"
        base = url if told == "vertex" else base
        if wire == "openai_chat":
            notes.append("does not end in /chat/completions, which CCM adds to it.")
    kind = KINDS[_kind(base, wire, bearer=bearer)]
    return Endpoint(
        kind=kind.name,
        base_url="" if base == kind.base_url else base,
        wire="" if wire == kind.wire else wire,
        notes=tuple(notes),
    )


def _cut(url: str) -> tuple[str | None, str]:
    """The wire that the address's end tells, and the address without it."""
    for wire, ending in _ENDINGS:
        if match := ending.search(url):
            return wire, url[: match.start()]
    return None, url


def _kind(base: str, wire: str, *, bearer: bool) -> str:
    host = host_of(base)
    rest = base.partition("://")[2].partition("/")[0].lower().replace("127.0.0.1", "localhost")
    known = _OTHER_HOSTS.get(host) or _OTHER_HOSTS.get(rest) or _HOSTS.get(host)
    if host.endswith("aiplatform.googleapis.com"):
        known = "vertex"
    elif host.startswith("bedrock-runtime."):
        known = "bedrock"
    if known == "anthropic" and wire != "anthropic":
        return "openai-compatible"
    if wire == "anthropic" and bearer and known in {None, "anthropic"}:
        return "openai-compatible"  # the kind says how the key is sent, the wire is set beside it
    return known or _COMPATIBLE.get(wire, "openai-compatible")


def _azure(resource: str, url: str) -> Endpoint:
    """Its older addresses name the deployment, the present ones do not."""
    wire = "openai_responses" if url.endswith("/responses") else "openai_chat"
    kind = KINDS["azure"]
    notes: tuple[str, ...] = ()
    if "/deployments/" in url:
        deployment = url.partition("/deployments/")[2].partition("/")[0]
        notes = (f"names the deployment {deployment!r}: CCM calls the deployment that a mapping's model names.",)
    return Endpoint("azure", f"{resource}/openai/v1", "" if wire == kind.wire else wire, notes)
