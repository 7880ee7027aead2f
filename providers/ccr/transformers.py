"""claude-code-router's transformers, as what they come to here: facts of a model, fields added to its
requests, or nothing, since the kind, the wire or the family does it already. Pure.

Source: seed-systems 2.4 of the design references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from providers.ccr.endpoints import WIRE_TRANSFORMERS

DEEPSEEK_OUTPUT = 8192
"""Tokens; what claude-code-router caps a request with this transformer at."""

BUILT_IN = {
    "openrouter": "CCM does it for every provider of the kind openrouter.",
    "vercel": "CCM does it for every provider that speaks Chat Completions.",
    "groq": "CCM does it for every provider of the kind groq.",
    "cerebras": "CCM does it for every provider of the kind cerebras.",
    "openai": "CCM does it for every provider that speaks Chat Completions.",
    "cleancache": "CCM sends cache marks only to providers that take them.",
    "streamoptions": "CCM always asks for the usage.",
    "maxcompletiontokens": "CCM chooses max_tokens or max_completion_tokens by the kind and the model.",
}
LEFT_OUT = {
    "enhancetool": "CCM passes a call's arguments on as the model wrote them.",
    "tooluse": "CCM does not force tool calls on a model.",
    "forcereasoning": "CCM does not write prompts that ask for reasoning.",
}
LOG_INS = frozenset({"gemini-cli", "qwen-cli", "rovo-cli", "codex-cli", "claude-code-oauth"})
"""Plugins that call a service with a person's subscription."""

NO_TRANSFORMER = "CCM has no transformer of this name, and never runs a file's code."
SAMPLING = frozenset({"temperature", "top_p", "top_k", "repetition_penalty"})


@dataclass(slots=True)
class Effects:
    """What a list of transformers comes to. `skipped` pairs a transformer's place in the list (".use[1]")
    with why it has no effect."""

    max_output: int | None = None
    thinking: bool | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    bearer: bool = False
    names: set[str] = field(default_factory=set)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def under(self, narrower: "Effects") -> "Effects":
        """These, and on top of them those of one model."""
        return Effects(
            max_output=narrower.max_output or self.max_output,
            thinking=self.thinking if narrower.thinking is None else narrower.thinking,
            extra_body={**self.extra_body, **narrower.extra_body},
            names=self.names | narrower.names,
        )


def effects_of(use: Sequence[Any]) -> Effects:
    """Of the value of a `use`: names, or pairs of a name and its options."""
    effects = Effects()
    for place, item in enumerate(use):
        name, options = item, {}
        if isinstance(item, list) and item:
            name, options = item[0], item[1] if len(item) > 1 and isinstance(item[1], dict) else {}
        where = f".use[{place}]"
        if not isinstance(name, str):
            effects.problems.append((where, "must be a transformer's name, or a list of its name and its options."))
            continue
        effects.names.add(name.lower())
        _apply(effects, name.lower(), options, where)
    return effects


def _apply(effects: Effects, name: str, options: Mapping[str, Any], where: str) -> None:
    if name == "maxtoken":
        _cap(effects, options.get("max_tokens"), where)
    elif name == "deepseek":
        effects.max_output = effects.max_output or DEEPSEEK_OUTPUT
    elif name == "reasoning":
        effects.thinking = options.get("enable") is not False
    elif name == "sampling":
        _sampling(effects, options, where)
    elif name == "customparams":
        effects.extra_body |= options
    elif name in WIRE_TRANSFORMERS:
        effects.bearer = effects.bearer or options.get("UseBearer") is True
    else:
        if name == "openrouter":
            effects.extra_body |= options
        reason = BUILT_IN.get(name) or LEFT_OUT.get(name) or NO_TRANSFORMER
        if not (name == "openrouter" and options):
            effects.skipped.append((where, f"{name}: {reason}"))


def _sampling(effects: Effects, options: Mapping[str, Any], where: str) -> None:
    if "max_tokens" in options:
        _cap(effects, options["max_tokens"], where)
    for name in sorted(SAMPLING & set(options)):
        effects.extra_body[name] = options[name]


def _cap(effects: Effects, tokens: Any, where: str) -> None:
    if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
        effects.max_output = tokens
    else:
        effects.problems.append((where, "max_tokens must be a whole number of at least 1."))
