"""The formats of configuration files, and how one is told from the other."""

import re
from collections.abc import Mapping
from enum import StrEnum

from providers import ccr, config_file
from providers.config_entries import ConfigFile

MOST_BYTES = 1_000_000
"""The largest file that is read: a configuration of thousands of models."""

# What may stand before the brace with which JSON5 begins; TOML knows neither these comments nor the brace.
_BEFORE_THE_BRACE = re.compile(r"(?:[\s\ufeff]|//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)*\{")


class Format(StrEnum):
    CCM = "ccm"
    """TOML of CCM or claude-code-mux."""
    CCR = "ccr"
    """JSON5 of claude-code-router."""

    @property
    def label(self) -> str:
        return {"ccm": "CCM or claude-code-mux (TOML)", "ccr": "claude-code-router (JSON5)"}[self.value]


def format_of(text: str) -> Format:
    return Format.CCR if _BEFORE_THE_BRACE.match(text) else Format.CCM


def parse(
    text: str,
    environ: Mapping[str, str],
    *,
    format: Format | None = None,  # noqa: A002 - the option's name
    allow_private: bool,
) -> tuple[ConfigFile, Format]:
    """`format` None: told by the text itself. Raises ConfigError with every problem, a line each."""
    known = format or format_of(text)
    reader = ccr.parse if known is Format.CCR else config_file.parse
    return reader(text.removeprefix("\ufeff"), environ, allow_private=allow_private), known
