"""import_config and export_config: what an operator writes becomes the catalogue, exactly, and again the same."""

from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from providers.catalogue import build
from providers.config import ImportReport, Outcome, import_config
from providers.config_export import export_config
from providers.errors import ConfigError
from providers.models import (
    CatalogueVersion,
    Credential,
    Mapping,
    MappingCost,
    Model,
    ModelPrice,
    Provider,
    RouterProfile,
)
from tests.providers.catalogue_support import make_model, make_provider

pytestmark = pytest.mark.django_db

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


def test_every_key_of_the_format_arrives():
    report = import_config(FULL, environ=ENVIRON)
    assert outcomes(report) == {Outcome.CREATED}
    assert report.warnings == []
    assert report.ignored == []
    catalogue = build()
    gpt = catalogue.models["gpt-5.1"]
    assert (gpt.display_name, gpt.description) == ('GPT-5.1 "quoted"', "two\nlines")
    assert (gpt.context_window, gpt.max_output, gpt.vision, gpt.tools, gpt.thinking) == (
        400000,
        128000,
        True,
        True,
        True,
    )
    assert gpt.price is not None
    assert (gpt.price.input, gpt.price.cache_read, gpt.price.cache_write_1h) == (1_250_000_000, 125_000_000, 2 * 10**9)
    assert gpt.price.web_search == 10_000_000
    [target] = gpt.targets
    assert target.cost is not None
    assert (target.provider, target.weight, target.cost.output) == ("openai", 3, 9_999_999_999)
    assert [(key.secret, key.weight) for key in target.credentials] == [
        ("sk-first-0123456789", 1),
        ("sk-second-0123456789", 2),
    ]
    assert (target.timeouts.connect, target.timeouts.first_byte) == (5, 60)
    assert (target.timeouts.idle, target.timeouts.total) == (2.5, 600)
    sonnet = catalogue.models["claude-sonnet-4-5"]
    assert not sonnet.discoverable
    assert sonnet.price is not None
    assert sonnet.price.output == 18 * 10**9
    profile = catalogue.platform_profile
    assert (profile.default, profile.think, profile.safety) == ("claude-sonnet-4-5", "gpt-5.1", "gpt-5.1")
    assert profile.think_efforts == frozenset({"max", "xhigh"})
    assert (profile.think_in_plan_mode, profile.pin_explicit_model) == (True, False)


def test_importing_again_changes_nothing():
    import_config(FULL, environ=ENVIRON)
    version = CatalogueVersion.current()
    report = import_config(FULL, environ=ENVIRON)
    assert outcomes(report) == {Outcome.UNCHANGED}
    assert CatalogueVersion.current() == version


def test_an_import_is_one_change_of_the_catalogue():
    import_config(FULL, environ=ENVIRON)
    assert CatalogueVersion.current() == 1


def test_a_dry_run_reports_the_same_and_changes_nothing():
    dry = import_config(FULL, environ=ENVIRON, dry_run=True)
    assert not Provider.objects.exists()
    assert not Model.objects.exists()
    assert CatalogueVersion.current() == 0
    assert dry.changes == import_config(FULL, environ=ENVIRON).changes


def test_an_export_imports_into_an_empty_database_as_the_same_catalogue():
    import_config(FULL, environ=ENVIRON)
    text = export_config()
    assert "sk-first" not in text
    assert '"$OPENAI_API_KEY"' in text
    before = build()
    assert outcomes(import_config(text, environ=ENVIRON)) == {Outcome.UNCHANGED}
    for model in (RouterProfile, Mapping, ModelPrice, Model, Credential, Provider):
        model.objects.all().delete()
    import_config(text, environ=ENVIRON)
    assert export_config() == text
    after = build()
    assert after.platform_profile == before.platform_profile
    assert {name: model.price for name, model in after.models.items()} == {
        name: model.price for name, model in before.models.items()
    }


def test_a_changed_price_is_a_new_row_from_now_on():
    import_config(FULL, environ=ENVIRON)
    report = import_config(FULL.replace('output = "10"', 'output = "12"'), environ=ENVIRON)
    assert [str(change) for change in report.changes if change.outcome is Outcome.CHANGED] == [
        "changed   price of gpt-5.1"
    ]
    assert sorted(ModelPrice.objects.values_list("output", flat=True)) == [Decimal(10), Decimal(12)]
    price = build().models["gpt-5.1"].price
    assert price is not None
    assert price.output == 12 * 10**9


def test_a_replaced_secret_takes_the_place_of_the_old_one():
    import_config(FULL, environ=ENVIRON)
    import_config(FULL, environ=ENVIRON | {"OPENAI_API_KEY": "sk-third-0123456789"})
    secrets = {credential.label: credential.open_secret() for credential in Credential.objects.all()}
    assert secrets == {"OPENAI_API_KEY": "sk-third-0123456789", "OPENAI_KEY_2": "sk-second-0123456789"}


def test_a_missing_variable_is_a_warning_and_the_stored_secret_stays():
    import_config(FULL, environ=ENVIRON)
    report = import_config(FULL, environ={})
    assert [warning.split(",")[0] for warning in report.warnings] == [
        "providers[0].api_key: environment variable OPENAI_API_KEY is not set",
        "providers[0].api_keys[0].key: environment variable OPENAI_KEY_2 is not set",
    ]
    assert Credential.objects.count() == 2


def test_what_the_file_does_not_name_stays():
    import_config(FULL, environ=ENVIRON)
    extra = make_model("extra")
    Mapping.objects.create(model=Model.objects.get(name="gpt-5.1"), provider=make_provider("other"), actual_model="x")
    report = import_config(FULL, environ=ENVIRON)
    assert [str(change) for change in report.changes if change.outcome is Outcome.SKIPPED] == [
        "skipped   mapping gpt-5.1 → other x: the file does not list it, so it stays"
    ]
    assert Model.objects.filter(pk=extra.pk).exists()


def provider_toml(lines: str) -> str:
    return f'[[providers]]\nname = "p"\nkind = "openai"\n{lines}\n'


def model_toml(lines: str) -> str:
    return f'[[providers]]\nname = "p"\nkind = "demo"\n[[models]]\nname = "m"\n{lines}\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[providers]\n", "not TOML"),
        ("providers = 3", "providers: must be a list of tables."),
        ('[[providers]]\nkind = "openai"', "providers[0].name: is required."),
        ('[[providers]]\nname = "p"', "providers[0].kind: is required."),
        (provider_toml('[[providers]]\nname = "P"\nkind = "demo"'), "providers[1].name: 'p' is there already."),
        (provider_toml('enabled = "yes"'), "providers[0].enabled: must be true or false."),
        (provider_toml('base_url = "gateway.example"'), "providers[0].base_url: Write an http:// or https:// URL"),
        (provider_toml('api_key = "$NOT A NAME"'), "providers[0].api_key: begins with $"),
        (provider_toml("api_keys = [{ key = 3 }]"), "providers[0].api_keys[0].key: must be a text"),
        (provider_toml("idle_timeout = 0"), "providers[0].idle_timeout: must be at least 0.1 seconds."),
        (provider_toml('wire = "morse"'), "providers[0].wire: Value 'morse' is not a valid choice."),
        ('[[providers]]\nname = "p"\nkind = "openai-compatible"', "providers[0].base_url: The kind OpenAI-compatible"),
        (model_toml('input = "1"'), "models[0].output: is required beside the other prices."),
        (model_toml('input = "1"\noutput = "-2"'), "models[0].output: must be a number of at least 0"),
        (model_toml('input = "1"\noutput = "x"'), "models[0].output: must be a number of at least 0"),
        (model_toml('input = "1"\noutput = "0.0000000001"'), "models[0]"),
        (model_toml('input = "1"\noutput = "2"\nmarkup = "0.2"'), "models[0].markup: stands instead of the prices"),
        (model_toml("context_window = 0"), "models[0].context_window: must be a whole number of at least 1."),
        (model_toml("max_output = true"), "models[0].max_output: must be a whole number"),
        (
            model_toml('[[models.mappings]]\nprovider = "nobody"\nactual_model = "m"'),
            "models[0].mappings[0].provider: no provider is named 'nobody'.",
        ),
        (model_toml('[[models.mappings]]\nprovider = "p"'), "models[0].mappings[0].actual_model: is required."),
        ("router = 3", "router: must be a table."),
        ('[router]\nlong_context_threshold = "many"', "router.long_context_threshold: must be a whole number."),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_is_imported(text, problem):
    with pytest.raises(ConfigError) as caught:
        import_config(text, environ={})
    assert problem in str(caught.value)
    assert not Provider.objects.exists()
    assert not RouterProfile.objects.exists()


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        import_config('[[providers]]\n[[providers]]\nname = "x"', environ={})
    assert str(caught.value).splitlines() == [
        "providers[0].name: is required.",
        "providers[0].kind: is required.",
        "providers[1].kind: is required.",
    ]


def test_unknown_keys_and_unknown_models_are_told():
    report = import_config('[router]\nlongContext = "x"\ndefault = "gone"\nthink = "p/m"', environ={})
    assert report.ignored == ["router.longContext"]
    assert report.warnings == ["router.default: no model is named 'gone'; the route is skipped until there is one."]


def test_an_operator_is_warned_of_a_loss_and_of_a_model_without_price():
    lossy = model_toml(
        'input = "1"\noutput = "2"\n[[models.mappings]]\nprovider = "p"\nactual_model = "m"\n'
        'cost = { input = "1", output = "2.5" }'
    )
    assert import_config(lossy, environ={}).warnings == ["model m: p costs 2.5 for output, customers pay 2."]
    assert "model n has no price: requests for it are refused until it has one." in (
        import_config('[[models]]\nname = "n"', environ={}).warnings
    )


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
        "vertex": ("vertex-ai", "", False),
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
    assert {"server.host", "server.port", "server.log_level", "server.timeouts.connect_timeout_ms"} <= set(
        report.ignored
    )
    told = "\n".join(report.warnings)
    for words in (
        "server.api_key: was never enforced",
        "router.websearch: is empty: treated as unset",
        "subscription log-in, which is not imported",
        "a service-account key would be needed",
        "claude-sonnet-4.5 has no usable provider",
    ):
        assert words in told
    assert outcomes(import_config(mux_file.read_text(), environ=environ)) == {Outcome.UNCHANGED}


def test_what_an_operator_made_work_is_not_disabled_again(mux_file):
    import_config(mux_file.read_text(), environ={})
    Provider.objects.filter(name="claude-max").update(enabled=True)
    import_config(mux_file.read_text(), environ={})
    assert Provider.objects.get(name="claude-max").enabled


def test_the_command_prints_what_it_did(tmp_path, monkeypatch):
    file = tmp_path / "ccm.toml"
    file.write_text(FULL)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    out = StringIO()
    call_command("import_config", str(file), "--dry-run", stdout=out)
    assert "Dry run: nothing was changed." in out.getvalue()
    assert not Provider.objects.exists()
    call_command("import_config", str(file), stdout=out)
    assert "created   provider openai" in out.getvalue()
    assert not any(secret in out.getvalue() for secret in ENVIRON.values())
    exported = StringIO()
    call_command("export_config", stdout=exported)
    assert exported.getvalue() == export_config()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.toml"], "cannot be read"),
        (["wrong.toml"], "providers\\[0\\].kind: is required"),
        (["wrong.toml", "--format", "ccr"], "cannot be imported yet"),
    ],
)
def test_the_command_refuses_in_plain_words(tmp_path, monkeypatch, arguments, words):
    (tmp_path / "wrong.toml").write_text('[[providers]]\nname = "x"')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=words):
        call_command("import_config", *arguments, stdout=StringIO())


TIERS = (
    'tiers = [{ above = 200000, input = "6", output = 22.5, cache_read = "0.6" }, '
    '{ above = 400000, input = 8, output = "30" }]'
)
TIERED = model_toml(
    f'input = "3"\noutput = "15"\ncache_read = "0.3"\n{TIERS}\n'
    '[[models.mappings]]\nprovider = "p"\nactual_model = "m"\n'
    'cost = { input = "2", output = "10", cache_read = "0.2", tiers = [{ above = 200000, input = "4", output = "15", '
    'cache_read = "0.3" }] }'
)


def test_tiers_arrive_and_an_export_gives_them_back():
    assert import_config(TIERED, environ={}).warnings == []
    model = build().models["m"]
    assert model.price is not None
    assert [(tier.above, tier.input, tier.cache_read, tier.cache_write) for tier in model.price.tiers] == [
        (200_000, 6 * 10**9, 6 * 10**8, 7_500_000_000),
        (400_000, 8 * 10**9, 8 * 10**9, 10 * 10**9),
    ]
    cost = model.targets[0].cost
    assert cost is not None
    assert [(tier.above, tier.output) for tier in cost.tiers] == [(200_000, 15 * 10**9)]
    text = export_config()
    assert 'tiers = [{ above = 200000, input = "6", output = "22.5", cache_read = "0.6" }, ' in text
    assert outcomes(import_config(text, environ={})) == {Outcome.UNCHANGED}
    for row in (Mapping, ModelPrice, Model, Provider):
        row.objects.all().delete()
    import_config(text, environ={})
    assert export_config() == text
    assert build().models["m"].price == model.price


def test_a_changed_tier_is_a_new_price_and_a_new_cost():
    import_config(TIERED, environ={})
    report = import_config(TIERED.replace("22.5", "23").replace('output = "15", c', 'output = "16", c'), environ={})
    assert [str(change) for change in report.changes if change.outcome is Outcome.CHANGED] == [
        "changed   price of m",
        "changed   cost of m → p m",
    ]
    assert (ModelPrice.objects.count(), MappingCost.objects.count()) == (2, 2)
    without = import_config(TIERED.replace(TIERS, ""), environ={})
    assert "changed   price of m" in map(str, without.changes)
    price = build().models["m"].price
    assert price is not None
    assert price.tiers == ()


@pytest.mark.parametrize(
    ("tiers", "problem"),
    [
        ("tiers = 3", "models[0].tiers: must be a list of tables."),
        ("tiers = [3]", "models[0].tiers[0]: must be a table."),
        ('tiers = [{ input = "6", output = "9" }]', "models[0].tiers: A tier begins above a whole number"),
        ('tiers = [{ above = "5", input = "6", output = "9" }]', "models[0].tiers[0].above: must be a whole number."),
        ('tiers = [{ above = 5, input = "6" }]', "models[0].tiers: The tier above 5 needs a price for output."),
        ('tiers = [{ above = 5, input = "-6", output = "9" }]', "models[0].tiers[0].input: must be a number"),
        ('tiers = [{ above = 5, input = "1", output = "15" }]', "1 for input above 5 tokens is less than the 3"),
    ],
)
def test_a_tier_that_cannot_be_meant_is_named(tiers, problem):
    with pytest.raises(ConfigError) as caught:
        import_config(model_toml(f'input = "3"\noutput = "15"\n{tiers}'), environ={})
    assert problem in str(caught.value)
    assert not Model.objects.exists()


def test_a_loss_on_long_requests_alone_is_warned_of():
    lossy = TIERED.replace(TIERS, "").replace('input = "3"', 'input = "2"')
    assert import_config(lossy, environ={}).warnings == [
        "model m: p costs 4 for input above 200000 tokens, customers pay 2.",
    ]


@pytest.mark.parametrize(
    ("told", "stored"), [("count_tokens = true", True), ("count_tokens = false", False), ("", None)]
)
def test_whether_a_provider_is_asked_to_count_is_imported_and_exported(told: str, stored: bool | None):
    import_config(f'[[providers]]\nname = "p"\nkind = "anthropic"\n{told}\n', environ={})
    assert Provider.objects.get(name="p").count_tokens is stored
    assert told in export_config()
    assert ("count_tokens" in export_config()) is bool(told)
