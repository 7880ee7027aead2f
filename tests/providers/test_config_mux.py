"""import_config reads what claude-code-mux has: every key arrives, or is told with the reason."""

import json
from pathlib import Path

import pytest

from providers.catalogue import build
from providers.config import Outcome, import_config
from providers.config_entries import ROUTES
from providers.models import (
    Credential,
    Model,
    Provider,
    RouterProfile,
)
from tests.providers.config_support import check_providers, outcomes

pytestmark = pytest.mark.django_db


@pytest.fixture
def mux_file(project: Path) -> Path:
    file = project.parent / "shared" / "reference" / "import_examples" / "ccm_config.toml"
    if not file.is_file():
        pytest.skip(f"no example at {file}")
    return file


def test_a_claude_code_mux_file_as_it_is(mux_file):
    environ = {"ZAI_API_KEY": "zai-0123456789-abcd", "KIMI_API_KEY": "kimi-0123456789-abcd"}
    report = import_config(mux_file.read_text(), environ=environ)
    kinds = {row.name: (row.kind, row.base_url, row.enabled) for row in Provider.objects.all()}
    assert kinds == {
        "zai coding plan": ("z.ai", "", True),
        "openrouter": ("openrouter", "", True),
        "kimi-for-coding": ("anthropic-compatible", "https://api.kimi.com/coding", True),
        "claude-max": ("anthropic", "", False),
        "vertex": (
            "vertex",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project/locations/us-central1",
            False,
        ),
    }
    credentials = {(row.provider.name, row.label) for row in Credential.objects.select_related("provider")}
    assert credentials == {
        ("zai coding plan", "ZAI_API_KEY"),
        ("openrouter", "api_key"),
        ("kimi-for-coding", "KIMI_API_KEY"),
    }
    models = {
        model.name: [(target.provider, target.actual_model) for target in model.targets]
        for model in build().models.values()
    }
    assert models == {
        "glm-4.6": [("zai coding plan", "glm-4.6"), ("openrouter", "z-ai/glm-4.6")],
        "glm-4.5-air": [("zai coding plan", "glm-4.5-air")],
        "kimi-for-coding": [("kimi-for-coding", "claude-sonnet-4-5-20250929")],
        "claude-sonnet-4.5": [],
    }
    profile = build().platform_profile
    assert (profile.default, profile.background, profile.think) == ("glm-4.6", "glm-4.5-air", "kimi-for-coding")
    assert profile.websearch is None
    assert profile.auto_map_regex == "^(claude-|gpt-)"
    assert {"server.host", "server.port", "server.log_level", "server.timeouts.connect_timeout_ms"} <= {
        skipped.path for skipped in report.skipped
    }
    told = "\n".join(report.warnings)
    for words in (
        "server.api_key: was never enforced",
        "router.websearch: is empty: treated as unset",
        "subscription log-in, which is not imported",
        "a service-account key is needed",
        "claude-sonnet-4.5 has no usable provider",
    ):
        assert words in told
    assert outcomes(import_config(mux_file.read_text(), environ=environ)) == {Outcome.UNCHANGED}


def test_the_mux_example_gives_the_expected_import(mux_file):
    """The file beside the example says what of it must arrive. Its kinds are families: any kind that
    speaks the same format will do."""
    expected = json.loads(mux_file.with_name("ccm_expected.json").read_text())
    environ = {"ZAI_API_KEY": "zai-0123456789-abcd", "KIMI_API_KEY": "kimi-0123456789-abcd"}
    report = import_config(mux_file.read_text(), environ=environ)
    check_providers(expected["providers"], report)
    assert {
        model.name: [[row.provider.name, row.actual_model] for row in model.mappings.select_related("provider").all()]
        for model in Model.objects.all()
    } == expected["models"]
    row = RouterProfile.objects.get()
    assert {route: getattr(row, route) for route in ROUTES if getattr(row, route)} == expected["routes"]
    assert (row.auto_map_regex, row.background_regex) == (expected["auto_map_regex"], expected["background_regex"])
    assert set(expected["ignored"]) <= {skipped.path for skipped in report.skipped}
    told = "\n".join(report.warnings)
    for warning in expected["warnings"]:
        assert warning.split(" ")[0 if "." in warning.split(" ")[0] else 1] in told


MUX = """
[server]
tracing = { enabled = true }
[server.timeouts]
api_timeout_ms = 600000
[litellm]
endpoint = "http://localhost:4000"
api_key = "sk-litellm-0123456789"
[presets]
fast = "x"
[router]
default = "m"
[[router.prompt_rules]]
pattern = "(?i)commit"
model = "m"
[[providers]]
name = "moon"
provider_type = "moonshot"
api_key = "sk-moon-0123456789"
models = []
[[providers]]
name = "mini"
provider_type = "minimax"
base_url = "https://api.minimaxi.com/anthropic/"
auth_type = "password"
api_key = "sk-mini-0123456789"
project_id = "p"
headers = { x = "y" }
models = []
[[providers]]
name = "own"
provider_type = "openai"
base_url = "http://127.0.0.1:1234/v1"
api_key = "none"
models = []
[[providers]]
name = "vertex"
provider_type = "vertex-ai"
auth_type = "oauth"
models = []
"""


def test_what_claude_code_mux_says_and_ccm_has_no_place_for_is_told_with_the_reason(settings):
    settings.ALLOW_PRIVATE_UPSTREAMS = False
    report = import_config(MUX, environ={})
    told = {skipped.path: skipped.reason for skipped in report.skipped}
    assert set(told) == {
        "server.timeouts.api_timeout_ms", "server.tracing.enabled", "litellm.endpoint", "litellm.api_key",
        "presets.fast", "router.prompt_rules", "providers[1].project_id", "providers[1].headers.x",
    }  # fmt: skip
    assert all(len(reason) > 20 for reason in told.values())
    rows = {row.name: (row.kind, row.base_url, row.enabled) for row in Provider.objects.all()}
    assert rows == {
        "moon": ("moonshot", "https://api.moonshot.cn/v1", True),
        "mini": ("minimax", "https://api.minimaxi.com/anthropic", True),
        "own": ("openai-compatible", "http://127.0.0.1:1234/v1", False),
        "vertex": ("vertex-ai", "", False),
    }
    warnings = "\n".join(report.warnings)
    for words in ("base_url: claude-code-mux ignored it", "'password' is neither", "CCM_ALLOW_PRIVATE_UPSTREAMS=1",
                  "providers[3].project_id: is not there"):  # fmt: skip
        assert words in warnings
    assert "sk-" not in f"{report}"


def test_a_server_on_this_machine_comes_in_enabled_where_that_is_allowed(settings):
    settings.ALLOW_PRIVATE_UPSTREAMS = True
    import_config(MUX, environ={})
    assert Provider.objects.get(name="own").enabled


def test_what_an_operator_made_work_is_not_disabled_again(mux_file):
    import_config(mux_file.read_text(), environ={})
    Provider.objects.filter(name="claude-max").update(enabled=True)
    import_config(mux_file.read_text(), environ={})
    assert Provider.objects.get(name="claude-max").enabled
