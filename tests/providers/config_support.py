"""Configurations in CCM's format, whole and in part."""

from typing import Any

from providers.config import ImportReport, Outcome
from providers.kinds import KINDS
from providers.models import Provider

ENVIRON = {"OPENAI_API_KEY": "sk-first-0123456789", "OPENAI_KEY_2": "sk-second-0123456789"}

# The example of the documented format, every key of it.
FULL = r"""
[router]
default = "claude-sonnet-4-5"
think = "gpt-5.1"
background = "gpt-5.1"
websearch = "gpt-5.1"
image = "gpt-5.1"
long_context = "gpt-5.1"
subagent = "gpt-5.1"
safety = "gpt-5.1"
long_context_threshold = 60000
auto_map_regex = "^claude-"
background_regex = "(?i)claude.*haiku"
think_efforts = ["max", "xhigh"]
think_in_plan_mode = true
pin_explicit_model = false

[[providers]]
name = "openai"
kind = "openai"
base_url = "https://gateway.example/v1"
api_key = "$OPENAI_API_KEY"
api_keys = [{ key = "$OPENAI_KEY_2", weight = 2 }]
enabled = true
connect_timeout = 5
first_byte_timeout = 60
idle_timeout = 2.5
total_timeout = 600
wire = "openai_chat"

[[providers]]
name = "demo"
kind = "demo"

[[models]]
name = "gpt-5.1"
display_name = "GPT-5.1 \"quoted\""
description = "two\nlines"
context_window = 400000
max_output = 128000
vision = true
tools = true
thinking = true
input = "1.25"
output = "10"
cache_read = "0.125"
cache_write = "1.25"
cache_write_1h = "2"
web_search = "10"

  [[models.mappings]]
  provider = "openai"
  actual_model = "gpt-5.1"
  priority = 1
  weight = 3
  extra_body = { user = "ccm", provider = { only = ["azure"], share = 0.5 }, safe = true }
  cost = { input = "1.25", output = 9.999999999, cache_read = "0.125" }

  [[models.mappings]]
  provider = "demo"
  actual_model = "demo"
  priority = 2
  enabled = false

[[models]]
name = "claude-sonnet-4-5"
markup = "0.20"
discoverable = false

  [[models.mappings]]
  provider = "openai"
  actual_model = "claude-sonnet-4.5"
  cost = { input = 3, output = 15 }
"""


def outcomes(report: ImportReport) -> set[Outcome]:
    return {change.outcome for change in report.changes}


def provider_toml(lines: str) -> str:
    return f'[[providers]]\nname = "p"\nkind = "openai"\n{lines}\n'


def model_toml(lines: str) -> str:
    return f'[[providers]]\nname = "p"\nkind = "demo"\n[[models]]\nname = "m"\n{lines}\n'


def check_providers(expected: list[dict[str, Any]], report: ImportReport) -> None:
    """Each of `expected` has arrived as it says, and its warning was told."""
    assert set(Provider.objects.values_list("name", flat=True)) == {entry["name"] for entry in expected}
    for entry in expected:
        row = Provider.objects.get(name=entry["name"])
        kind = KINDS[row.kind]
        family = {"anthropic-compatible": "anthropic", "openai-compatible": "openai_chat", "vertex-gemini": "vertex"}
        assert row.kind == entry["kind"] or (row.wire or kind.wire) == family[entry["kind"]]
        if "base_url" in entry:
            assert (row.base_url or kind.base_url) == entry["base_url"]
        assert row.enabled == entry.get("enabled", True)
        secret = entry.get("secret")
        if "secret" in entry and secret is None:
            assert not row.credentials.exists()
        elif secret is not None:
            assert row.credentials.get().label == secret.get("env", "api_key")
        if "warning" in entry:
            assert any(
                entry["name"] in warning or row.kind in warning or "disabled" in warning for warning in report.warnings
            )
