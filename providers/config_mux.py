"""What claude-code-mux files say in words of their own: kinds, subscription log-ins, and keys that mean
nothing here. Sources: its config.toml (0.6.3) and those of its forks."""

from dataclasses import dataclass

from providers.config_foreign import host_of, is_local
from providers.config_tables import Table
from providers.kinds import KINDS

KINDS_OF_MUX = {"kimi-coding": "kimi"}
# It writes these for any server of the format; only the kind itself gets the client's headers.
ELSEWHERE = {"anthropic": "anthropic-compatible", "openai": "openai-compatible"}
# Where it calls a provider at another address than CCM does.
ADDRESSES = {"moonshot": "https://api.moonshot.cn/v1"}
# The types whose `base_url` it reads; the others' it ignores.
READS_BASE_URL = frozenset({"anthropic", "openai", "gemini", "vertex-ai"})
VERTEX = "vertex-ai"
VERTEX_LOCATION = "us-central1"
API_KEY_WORDS = ("apikey", "api_key")

SERVER = {
    "host": "CCM listens where HOST and PORT say.",
    "port": "CCM listens where HOST and PORT say.",
    "log_level": "LOG_LEVEL sets it.",
    "timeouts": "claude-code-mux never applied it; each provider has time-outs of its own here.",
    "tracing": "CCM stores no prompts and answers.",
}
SECTIONS = {
    "litellm": "claude-code-mux no longer reads it; enter a provider of the kind litellm for such a proxy.",
    "presets": "CCM has router profiles instead: for the platform, an organisation or an API key.",
    "admin": "operators of CCM have accounts of their own.",
}
NO_LONGER_READ = "claude-code-mux no longer reads it."
ROUTER = {
    "prompt_rules": "CCM does not route by the words of a prompt.",
    "longContext": f"{NO_LONGER_READ} Set long_context.",
    "longContextThreshold": f"{NO_LONGER_READ} Set long_context_threshold.",
}
PROVIDER = {
    "api_base_url": f"{NO_LONGER_READ} Set base_url.",
    "transformers": f"{NO_LONGER_READ} What providers do differently is built in, by kind.",
    "model_context": f"{NO_LONGER_READ} Set context_window on the model.",
    "headers": "CCM sends each provider the headers that its kind needs, and no others.",
}


@dataclass(frozen=True, slots=True)
class MuxProvider:
    """`usable` is false when it cannot be called as it is."""

    kind: str
    base_url: str | None
    usable: bool = True


def provider_of(table: Table, mux: str, base_url: str | None, *, allow_private: bool) -> MuxProvider:
    """What a provider of the type `mux` is here. Takes what only claude-code-mux knows off `table`."""
    kind = KINDS_OF_MUX.get(mux, mux)
    if mux == VERTEX:
        return _vertex(table, base_url)
    place = "a Google project is named by the base URL of a provider of the kind vertex."
    table.skip("project_id", place)
    table.skip("location", place)
    if base_url and kind in KINDS and mux not in READS_BASE_URL:
        table.warn("base_url", f"claude-code-mux ignored it for {mux!r}; CCM calls this address.")
    if base_url and kind in ELSEWHERE and host_of(base_url) != host_of(KINDS[kind].base_url):
        kind = ELSEWHERE[kind]
    base_url = base_url or ADDRESSES.get(mux)
    if kind not in KINDS:
        table.warn("provider_type", f"{kind!r} is not a kind that CCM knows; imported disabled.")
        return MuxProvider(kind, base_url, usable=False)
    if base_url and is_local(base_url) and not allow_private:
        warn_of_local_address(table, "base_url")
        return MuxProvider(kind, base_url, usable=False)
    return MuxProvider(kind, base_url)


def _vertex(table: Table, base_url: str | None) -> MuxProvider:
    project, location = table.text("project_id"), table.text("location") or VERTEX_LOCATION
    table.warn(
        "provider_type",
        "Vertex AI comes in disabled: a service-account key is needed. Enter its JSON as the provider's "
        "credential at /admin/, and enable it.",
    )
    if not project:
        table.warn("project_id", "is not there: choose the kind vertex at /admin/ and enter its base URL.")
        return MuxProvider(VERTEX, base_url, usable=False)
    return MuxProvider("vertex", base_url or vertex_url(project, location), usable=False)


def vertex_url(project: str, location: str) -> str:
    host = "aiplatform" if location == "global" else f"{location}-aiplatform"
    return f"https://{host}.googleapis.com/v1/projects/{project}/locations/{location}"


def warn_of_local_address(table: Table, key: str) -> None:
    table.warn(
        key,
        "is a private or loopback address, which this installation refuses: imported disabled. Where that server "
        "can be reached, set CCM_ALLOW_PRIVATE_UPSTREAMS=1 and enable it.",
    )


def log_in_of(table: Table, name: str) -> bool:
    """Whether the provider uses a subscription's log-in, which is never imported: reselling one breaks
    the providers' terms."""
    auth = table.text("auth_type")
    why = "subscription log-ins are not imported."
    table.skip("oauth_provider", why)
    if auth == "oauth":
        table.warn(
            "auth_type",
            f"{name!r} uses a subscription log-in, which is not imported: disabled until it has a key.",
        )
        return True
    if auth and auth not in API_KEY_WORDS:
        table.warn("auth_type", f"{auth!r} is neither apikey nor oauth: read as apikey.")
    return False


def skip_sections(root: Table) -> None:
    server = root.table("server")
    if server is not None:
        if server.text("api_key"):
            server.warn(
                "api_key",
                "was never enforced by claude-code-mux. Give each client a key of its own: create_key.",
            )
        server.skip_all(SERVER)
        server.leftovers()
    root.skip_all(SECTIONS)
