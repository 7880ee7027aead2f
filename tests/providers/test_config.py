"""import_config and export_config: what an operator writes becomes the catalogue, exactly, and again the same."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Organization
from providers.catalogue import build
from providers.config import Outcome, ReportDiffers, import_config
from providers.config_export import export_config
from providers.errors import ConfigError
from providers.models import (
    CatalogueVersion,
    Credential,
    Mapping,
    Model,
    ModelPrice,
    Provider,
    RouterProfile,
)
from tests.providers.catalogue_support import make_credential, make_model, make_provider
from tests.providers.config_support import ENVIRON, FULL, model_toml, outcomes, provider_toml

pytestmark = pytest.mark.django_db


def test_every_key_of_the_format_arrives():
    report = import_config(FULL, environ=ENVIRON)
    assert outcomes(report) == {Outcome.CREATED}
    assert report.warnings == []
    assert report.skipped == []
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
    assert target.extra_body == {"user": "ccm", "provider": {"only": ["azure"], "share": 0.5}, "safe": True}
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
    assert [str(change) for change in report.of(Outcome.CHANGED)] == ["changed   price of gpt-5.1: output 10 → 12"]
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
    report = import_config(
        '[router]\nlongContext = "x"\ndefault = "gone"\nthink = "p/m"\n[unknown]\ndeep = 1', environ={}
    )
    assert [str(skipped) for skipped in report.skipped] == [
        "router.longContext: claude-code-mux no longer reads it. Set long_context.",
        "unknown.deep: CCM does not know this key.",
    ]
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


def test_a_markup_goes_to_models_without_a_price_alone():
    text = model_toml('input = "1"\noutput = "2"') + '[[models]]\nname = "n"\n[[models]]\nname = "o"\nmarkup = 0.5\n'
    import_config(text, environ={}, markup=Decimal("0.2"))
    assert dict(Model.objects.values_list("name", "markup")) == {"m": None, "n": Decimal("0.2"), "o": Decimal("0.5")}
    Model.objects.filter(name="n").update(markup=Decimal("0.3"))
    report = import_config(text, environ={}, markup=Decimal("0.2"))
    assert outcomes(report) == {Outcome.UNCHANGED}


def test_an_import_that_would_do_something_else_than_expected_does_nothing():
    expected = import_config(FULL, environ=ENVIRON, dry_run=True).digest
    make_model("gpt-5.1")
    with pytest.raises(ReportDiffers):
        import_config(FULL, environ=ENVIRON, expected=expected)
    assert not Provider.objects.exists()
    Model.objects.all().delete()
    assert outcomes(import_config(FULL, environ=ENVIRON, expected=expected)) == {Outcome.CREATED}


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ("extra_body = 3", "extra_body: must be a table."),
        ("extra_body = { model = 'x' }", "extra_body: 'model' is a field that CCM decides about itself."),
        ("extra_body = { when = 2026-01-01 }", "extra_body: may hold texts, numbers"),
        (f"extra_body = {{ x = '{'y' * 5000}' }}", "extra_body: Extra fields have at most 4096 characters."),
    ],
)
def test_extra_fields_that_cannot_be_sent_are_named(extra, problem):
    with pytest.raises(ConfigError) as caught:
        import_config(model_toml(f'[[models.mappings]]\nprovider = "p"\nactual_model = "m"\n{extra}'), environ={})
    assert f"models[0].mappings[0].{problem}" in str(caught.value)


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
    assert "created   provider openai: openai, https://gateway.example/v1" in out.getvalue()
    assert not any(secret in out.getvalue() for secret in ENVIRON.values())
    exported = StringIO()
    call_command("export_config", stdout=exported)
    assert exported.getvalue() == export_config()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.toml"], "cannot be read"),
        (["wrong.toml"], "providers\\[0\\].kind: is required"),
        (["wrong.toml", "--format", "ccr"], "This is not JSON5: line 1, column 3"),
        (["wrong.toml", "--markup", "-1"], "a share of at least 0"),
    ],
)
def test_the_command_refuses_in_plain_words(tmp_path, monkeypatch, arguments, words):
    (tmp_path / "wrong.toml").write_text('[[providers]]\nname = "x"')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=words):
        call_command("import_config", *arguments, stdout=StringIO())


def test_a_policy_and_the_limits_of_keys_go_in_and_out_and_tenants_keys_stay_inside(db):
    text = """
[[providers]]
name = "acme"
kind = "openai"
api_keys = [{ key = "$KEY_ONE", weight = 2, requests_per_minute = 50, concurrency = 4 }, { key = "$KEY_TWO" }]
[[models]]
name = "m"
policy = "latency"
  [[models.mappings]]
  provider = "acme"
  actual_model = "m"
"""
    environ = {"KEY_ONE": "sk-one-0123456789", "KEY_TWO": "sk-two-0123456789"}
    import_config(text, environ=environ)
    provider = Provider.objects.get()
    tenant = Organization.objects.create(name="Tenant")
    make_credential(provider, secret="sk-tenant-0123456789", label="TENANTS", organization=tenant)
    model = build().models["m"]
    assert model.policy == "latency"
    limits = [(key.weight, key.requests_per_minute, key.concurrency) for key in model.targets[0].credentials]
    assert limits == [(2, 50, 4), (1, None, None)]
    (own,) = model.own_targets[tenant.pk]
    assert (own.is_own, [key.secret for key in own.credentials]) == (True, ["sk-tenant-0123456789"])
    exported = export_config()
    assert 'policy = "latency"' in exported
    assert 'key = "$KEY_ONE", weight = 2, requests_per_minute = 50, concurrency = 4' in exported
    assert "TENANTS" not in exported
    assert not any(change.outcome == "changed" for change in import_config(exported, environ=environ).changes)


def test_an_unknown_policy_is_refused_by_name(db):
    with pytest.raises(ConfigError, match=r"models\[0\]\.policy: must be one of priority, price, latency, throughput"):
        import_config('[[models]]\nname = "m"\npolicy = "luck"\n', environ={})


@pytest.mark.parametrize(
    ("told", "stored"), [("count_tokens = true", True), ("count_tokens = false", False), ("", None)]
)
def test_whether_a_provider_is_asked_to_count_is_imported_and_exported(told: str, stored: bool | None):
    import_config(f'[[providers]]\nname = "p"\nkind = "anthropic"\n{told}\n', environ={})
    assert Provider.objects.get(name="p").count_tokens is stored
    assert told in export_config()
    assert ("count_tokens" in export_config()) is bool(told)
