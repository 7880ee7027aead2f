"""What a person pastes to point Claude Code at CCM. Pure: no Django, no database.

The variables are those of the newest client; older ones ignore what they do not know.
Source: reference/claude-code-client-2.1.330.md, section 8, and the DISABLE_1M note in
reference/claude-code-client.md, section 4.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from providers.types import Model, Profile

KEY_PLACEHOLDER = "YOUR-CCM-KEY"
MILLION = 1_000_000
TIERS = ("opus", "sonnet", "haiku")
COMPACT_SHARE = (4, 5)
"""Of the window, after which Claude Code compacts a conversation by itself."""

REASONS = {
    "ANTHROPIC_BASE_URL": "Claude Code sends its requests to CCM instead of Anthropic.",
    "ANTHROPIC_AUTH_TOKEN": "Your API key: whose credits pay, and which routes apply.",
    "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "Each request says what it is for, so that titles and summaries go to "
    "the background model.",
    "CLAUDE_CODE_AUTO_MODE_SERVER": "Auto mode checks its actions with Claude Code’s own classifier: no "
    "safety route is set here.",
    "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "/model lists the models that CCM offers.",
    "ANTHROPIC_DEFAULT_OPUS_MODEL": "What Claude Code uses where it wants its largest model.",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "What it uses for everyday work.",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "What it uses for small work in the background.",
    "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "The window of the smallest of these models: without it Claude Code "
    "believes in a million tokens.",
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "Long conversations are summed up before they meet that window.",
    "CLAUDE_CODE_DISABLE_1M_CONTEXT": "None of these models has the window of a million tokens that it would ask for.",
}


@dataclass(frozen=True, slots=True)
class ConnectModels:
    """The models behind Claude Code's three tiers; an empty name leaves the tier to CCM's routes.

    `context_window` is in tokens: the smallest of the three, None when no model says. `safety`:
    CCM can check tool calls in auto mode, whichever vendor's model serves."""

    opus: str = ""
    sonnet: str = ""
    haiku: str = ""
    context_window: int | None = None
    safety: bool = False


@dataclass(frozen=True, slots=True)
class ConnectSnippet:
    """`variables` in the order in which they are shown; the other forms follow from them."""

    variables: Mapping[str, str]

    @property
    def explained(self) -> tuple[tuple[str, str, str], ...]:
        """Name, value and why, for people who want to know what they paste."""
        return tuple((name, value, REASONS[name]) for name, value in self.variables.items())

    @property
    def export_lines(self) -> tuple[str, ...]:
        """One `export NAME=value` each, quoted for sh, bash and zsh."""
        return tuple(f"export {name}={shlex.quote(value)}" for name, value in self.variables.items())

    @property
    def shell(self) -> str:
        return "\n".join(self.export_lines)

    @property
    def one_line(self) -> str:
        """All variables in a single `export`."""
        return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in self.variables.items())

    @property
    def settings_json(self) -> str:
        """The same for `~/.claude/settings.json`."""
        return json.dumps({"env": dict(self.variables)}, indent=2)


def usable_models(models: Mapping[str, Model]) -> dict[str, Model]:
    """Those that have a price and somebody to serve them."""
    return {name: model for name, model in models.items() if model.price is not None and model.targets}


def choose_models(
    models: Mapping[str, Model], profile: Profile, wanted: Mapping[str, str] | None = None
) -> ConnectModels:
    """The tiers' models out of a catalogue: what is `wanted` for a tier (of TIERS), else the one whose name holds the
    tier's word, else the profile's default (haiku: background) route. What cannot be used is passed over."""
    usable, asked = usable_models(models), wanted or {}

    def tier(word: str, *fallbacks: str | None) -> str:
        if asked.get(word) in usable:
            return asked[word]
        named = [name for name in sorted(usable, reverse=True) if word in name.lower()]
        return next((name for name in (*named, *fallbacks) if name and name in usable), "")

    opus = tier("opus", profile.default)
    sonnet = tier("sonnet", profile.default)
    haiku = tier("haiku", profile.background, profile.default)
    windows = [usable[name].context_window for name in (opus, sonnet, haiku) if name]
    window = min((window for window in windows if window), default=None)
    return ConnectModels(opus, sonnet, haiku, window, safety=bool(profile.safety) and profile.safety in usable)


def connect_snippet(base_url: str, key: str | None, models: ConnectModels) -> ConnectSnippet:
    """The lines that point Claude Code at `base_url` (CCM's address, without /v1) with `key`
    (None: a placeholder, since a key is shown only once)."""
    variables = {
        "ANTHROPIC_BASE_URL": base_url.rstrip("/"),
        "ANTHROPIC_AUTH_TOKEN": key or KEY_PLACEHOLDER,
        # Names the class of each request, so that titles and summaries go to the background model.
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        # Without a safety route nobody here can check auto mode's actions: the client's own classifier does.
        **({} if models.safety else {"CLAUDE_CODE_AUTO_MODE_SERVER": "0"}),
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }
    tiers = {"OPUS": models.opus, "SONNET": models.sonnet, "HAIKU": models.haiku}
    variables |= {f"ANTHROPIC_DEFAULT_{tier}_MODEL": name for tier, name in tiers.items() if name}
    if models.context_window:
        # The client believes that a name it does not know has a window of a million tokens.
        variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(models.context_window)
        part, whole = COMPACT_SHARE
        variables["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] = str(models.context_window * part // whole)
        if models.context_window < MILLION:
            variables["CLAUDE_CODE_DISABLE_1M_CONTEXT"] = "1"
    return ConnectSnippet(variables)
