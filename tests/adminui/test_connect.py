"""The lines that people paste: a shell must read back exactly what was meant."""

import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adminui.connect import KEY_PLACEHOLDER, ConnectModels, choose_models, connect_snippet
from providers.types import Model, Price, Profile, Target, Timeouts

PRICE = Price(input=1, output=1, cache_read=1, cache_write=1, cache_write_1h=1)
TARGET = Target(1, 1, "p", "demo", "anthropic", "", "m", 1, 1, PRICE, Timeouts())
MODELS = ConnectModels("big", "mid", "small", 200_000)


def model(name: str, window: int | None = 100_000, **changes: object) -> Model:
    made = Model(1, name, name, "", window, None, True, True, True, PRICE, (TARGET,))
    return replace(made, **changes)  # type: ignore[arg-type]


def catalogue(*models: Model) -> dict[str, Model]:
    return {each.name: each for each in models}


def environment_after(lines: str) -> dict[str, str]:
    read = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", f"{lines}\nenv -0"], env={"PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert read.returncode == 0, read.stderr
    return dict(entry.split("=", 1) for entry in read.stdout.decode().split("\0") if entry)


@pytest.mark.parametrize("form", ["shell", "one_line"])
def test_bash_reads_back_what_was_meant(form: str):
    awkward = ConnectModels("it's $HOME", "a b`c`", 'q"uote\\', 32_000)
    snippet = connect_snippet("https://ccm.example/", "sk-ccm-1", awkward)
    environment = environment_after(getattr(snippet, form))
    assert {name: environment.get(name) for name in snippet.variables} == dict(snippet.variables)


def test_the_variables_of_the_newest_client():
    snippet = connect_snippet("https://ccm.example/", "sk-ccm-1", MODELS)
    assert dict(snippet.variables) == {
        "ANTHROPIC_BASE_URL": "https://ccm.example",
        "ANTHROPIC_AUTH_TOKEN": "sk-ccm-1",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "big",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "mid",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "small",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "200000",
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "160000",
        "CLAUDE_CODE_DISABLE_1M_CONTEXT": "1",
    }


def test_with_a_safety_model_auto_mode_is_left_on():
    variables = connect_snippet("https://ccm.example", None, replace(MODELS, safety=True)).variables
    assert "CLAUDE_CODE_AUTO_MODE_SERVER" not in variables


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_settings_json_says_the_same(name: str):
    snippet = connect_snippet("https://ccm.example", "k", ConnectModels(opus=name))
    assert json.loads(snippet.settings_json) == {"env": dict(snippet.variables)}


def test_without_a_key_there_is_a_placeholder_and_unknown_models_are_left_out():
    variables = connect_snippet("https://ccm.example", None, ConnectModels()).variables
    assert variables["ANTHROPIC_AUTH_TOKEN"] == KEY_PLACEHOLDER
    assert not [name for name in variables if name.startswith("ANTHROPIC_DEFAULT_") or "CONTEXT" in name]


def test_a_window_of_a_million_is_not_switched_off():
    variables = connect_snippet("https://ccm.example", None, replace(MODELS, context_window=1_000_000)).variables
    assert variables["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "1000000"
    assert "CLAUDE_CODE_DISABLE_1M_CONTEXT" not in variables


def test_tiers_are_chosen_by_their_word_in_the_name_first():
    models = catalogue(model("demo-opus"), model("demo-sonnet", 50_000), model("demo-haiku"), model("other"))
    chosen = choose_models(models, Profile(default="other", background="other", think="other"))
    assert chosen == ConnectModels("demo-opus", "demo-sonnet", "demo-haiku", 50_000)


def test_tiers_fall_back_to_the_routes_of_the_profile():
    models = catalogue(model("gpt", 400_000), model("glm", 128_000), model("mini", None))
    chosen = choose_models(models, Profile(default="glm", think="gpt", background="mini"))
    assert chosen == ConnectModels("glm", "glm", "mini", 128_000)


def test_a_model_that_cannot_serve_is_never_chosen():
    models = catalogue(model("claude-opus", price=None), model("claude-sonnet", targets=()), model("glm"))
    chosen = choose_models(models, Profile(default="glm", background="gone"))
    assert chosen == ConnectModels("glm", "glm", "glm", 100_000)
    assert choose_models({}, Profile(default="gone")) == ConnectModels()


def test_every_variable_says_why():
    for models in (MODELS, ConnectModels(), replace(MODELS, safety=True)):
        for _, _, why in connect_snippet("https://ccm.example", None, models).explained:
            assert why.endswith(".")


def test_a_model_that_was_picked_serves_its_tier_and_what_cannot_serve_is_passed_over():
    models = catalogue(model("demo-opus"), model("demo-sonnet", 50_000), model("demo-haiku"), model("gone", price=None))
    wanted = {"opus": "demo-haiku", "sonnet": "gone", "haiku": "nonsense"}
    chosen = choose_models(models, Profile(default="demo-opus"), wanted)
    assert chosen == ConnectModels("demo-haiku", "demo-sonnet", "demo-haiku", 50_000)
