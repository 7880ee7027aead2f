"""claude-code-router's files: what they say arrives as providers, models, routes and fallbacks, and
what has no place here is told with the reason."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gateway.plan import plan
from gateway.resilience import Resilience
from gateway.routing.names import find_model
from providers.catalogue import build
from providers.config import ImportReport, Outcome, import_config
from providers.config_export import export_config
from providers.config_formats import MOST_BYTES, Format, format_of
from providers.errors import ConfigError
from providers.models import CatalogueVersion, Credential, Mapping, Model, Provider, RouterProfile
from tests.providers.config_support import check_providers, outcomes

pytestmark = pytest.mark.django_db

SECRET = "sk-literal-0123456789"
ROUTES = {"longContext": "long_context", "webSearch": "websearch"}


@pytest.fixture(autouse=True)
def _hosted(settings: Any) -> None:
    settings.ALLOW_PRIVATE_UPSTREAMS = False


def provider(name: str = "p", url: str = "https://llm.example/v1/chat/completions", **more: Any) -> dict[str, Any]:
    return {"name": name, "api_base_url": url, "api_key": SECRET, "models": ["m"], **more}


def imported(*providers: dict[str, Any], environ: dict[str, str] | None = None, **more: Any) -> ImportReport:
    return import_config(json.dumps({"Providers": providers, **more}), environ=environ or {})


def skipped(report: ImportReport) -> dict[str, str]:
    return {each.path: each.reason for each in report.skipped}


@pytest.fixture
def example(project: Path) -> Path:
    file = project.parent / "shared" / "reference" / "import_examples" / "ccr_v2_config.json"
    if not file.is_file():
        pytest.skip(f"no example at {file}")
    return file


def test_the_example_gives_the_expected_import(example):
    expected = json.loads(example.with_name("ccr_v2_expected.json").read_text())
    variables = ("OPENROUTER_API_KEY", "DEEPSEEK_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY")
    environ = {name: f"sk-{name.lower()}-0123" for name in variables}
    report = import_config(example.read_text(), environ=environ)
    assert report.format is Format.CCR
    check_providers(expected["providers"], report)
    row = RouterProfile.objects.get()
    for scenario, wanted in expected["routes"].items():
        route = getattr(row, ROUTES.get(scenario, scenario))
        if isinstance(wanted, dict):
            assert (route, row.long_context_threshold) == (wanted["model"], wanted["threshold"])
        else:
            assert route == wanted
    for scenario, names in expected["fallback"].items():
        model = Model.objects.get(name=getattr(row, scenario))
        first, *others = model.mappings.select_related("provider").order_by("priority")
        assert f"{first.provider.name}/{first.actual_model}" == model.name
        assert [f"{other.provider.name}/{other.actual_model}" for other in others] == names
    check_options(expected["providers"], report)
    told = skipped(report)
    for entry in expected["skipped"]:
        path = entry.partition(":")[0].removeprefix("provider ")
        assert any(path in key for key in told), entry
    assert set(expected["ignored"]) <= set(told)
    assert not any(value in f"{report}" for value in (*environ.values(), "sk-literal"))


def check_options(providers: list[dict[str, Any]], report: ImportReport) -> None:
    """Options and quirks are kept, or told as skipped."""
    for entry in providers:
        for name, options in entry.get("model_options", {}).items():
            assert Mapping.objects.get(model__name=f"{entry['name']}/{name}").extra_body == options
        for name, quirks in entry.get("quirks", {}).items():
            for quirk in quirks:
                if isinstance(quirk, dict):
                    models = Model.objects.filter(name__startswith=f"{entry['name']}/")
                    assert {model.max_output for model in models} == {quirk["max_tokens_cap"]}
                else:
                    words = {"tooluse": "tooluse", "repair_tool_args": "enhancetool"}[quirk]
                    path = f"Providers[{providers.index(entry)}].transformer{'' if name == '*' else '.' + name}.use"
                    assert any(key.startswith(path) and why.startswith(words) for key, why in skipped(report).items())


def test_importing_the_example_again_changes_nothing(example):
    import_config(example.read_text(), environ={})
    version = CatalogueVersion.current()
    again = import_config(example.read_text(), environ={})
    assert outcomes(again) == {Outcome.UNCHANGED}
    assert CatalogueVersion.current() == version


def test_what_came_from_claude_code_router_is_exported_and_imported_as_the_same(example):
    environ = {"OPENROUTER_API_KEY": "sk-router-0123456789"}
    import_config(example.read_text(), environ=environ)
    text = export_config()
    environ |= {"MODELSCOPE_API_KEY": "sk-literal", "OLLAMA_API_KEY": "ollama"}  # what it names literals by
    again = import_config(text, environ=environ)
    assert outcomes(again) == {Outcome.UNCHANGED}
    for model in (RouterProfile, Mapping, Model, Credential, Provider):
        model.objects.all().delete()
    import_config(text, environ=environ)
    assert export_config() == text


@pytest.mark.parametrize(
    ("url", "transformers", "kind", "base_url", "wire"),
    [
        ("https://api.anthropic.com/v1/messages", ["Anthropic"], "anthropic", "", ""),
        ("https://api.openai.com/v1/chat/completions", [], "openai", "", ""),
        ("https://api.openai.com/v1/responses", ["openai-responses"], "openai", "", "openai_responses"),
        ("https://api.deepseek.com/v1/chat/completions/", [], "deepseek", "", ""),
        ("https://api.deepseek.com/anthropic/v1/messages", [], "deepseek", "https://api.deepseek.com/anthropic",
         "anthropic"),
        ("https://api.groq.com/openai/v1/chat/completions", ["groq"], "groq", "", ""),
        ("https://api.moonshot.cn/v1/chat/completions", [], "moonshot", "https://api.moonshot.cn/v1", ""),
        ("https://open.bigmodel.cn/api/paas/v4/chat/completions", [], "z.ai", "https://open.bigmodel.cn/api/paas/v4",
         "openai_chat"),
        ("https://api.z.ai/api/anthropic/v1/messages", ["anthropic"], "z.ai", "", ""),
        ("https://ark.cn-beijing.volces.com/api/v3/chat/completions", [], "openai-compatible",
         "https://ark.cn-beijing.volces.com/api/v3", ""),
        ("https://relay.example/v1/messages", ["Anthropic"], "anthropic-compatible", "https://relay.example", ""),
        ("https://relay.example/v1/messages", [["Anthropic", {"UseBearer": True}]], "openai-compatible",
         "https://relay.example", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta/models/", ["gemini"], "gemini", "", ""),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", [], "gemini",
         "https://generativelanguage.googleapis.com/v1beta/openai", "openai_chat"),
        ("https://relay.example/v1beta/models/", ["gemini"], "gemini", "https://relay.example/v1beta", ""),
        ("https://acme.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21", [], "azure",
         "https://acme.openai.azure.com/openai/v1", "openai_chat"),
        ("https://llm.example/api", [], "openai-compatible", "https://llm.example/api", ""),
    ],
)  # fmt: skip
def test_an_endpoint_is_recognised(url, transformers, kind, base_url, wire):
    imported(provider(url=url, transformer={"use": transformers}))
    row = Provider.objects.get()
    assert (row.kind, row.base_url, row.wire, row.enabled) == (kind, base_url, wire, True)


def test_vertex_ai_comes_in_disabled_with_its_place():
    url = "https://europe-west1-aiplatform.googleapis.com"
    report = imported(
        provider(url=url, transformer={"use": ["vertex-gemini"]}), environ={"GOOGLE_CLOUD_PROJECT": "acme"}
    )
    row = Provider.objects.get()
    place = "https://europe-west1-aiplatform.googleapis.com/v1/projects/acme/locations/europe-west1"
    assert (row.kind, row.base_url, row.enabled) == ("vertex", place, False)
    assert "a service-account key is needed" in "\n".join(report.warnings)


def test_a_subscription_log_in_comes_in_disabled_and_stays_as_the_operator_leaves_it():
    entry = provider(url="https://cloudcode-pa.googleapis.com/v1internal", transformer={"use": ["gemini-cli"]})
    report = imported(entry)
    assert not Provider.objects.get().enabled
    assert "subscription log-in, which is not imported" in "\n".join(report.warnings)
    Provider.objects.update(enabled=True)
    imported(entry)
    assert Provider.objects.get().enabled


@pytest.mark.parametrize(
    ("transformer", "facts", "extra"),
    [
        ({"use": [["maxtoken", {"max_tokens": 4096}]]}, {"max_output": 4096}, {}),
        ({"use": ["deepseek"], "m": {"use": [["maxtoken", {"max_tokens": 99}]]}}, {"max_output": 99}, {}),
        ({"use": ["reasoning"]}, {"thinking": True}, {}),
        ({"m": {"use": [["reasoning", {"enable": False}]]}}, {"thinking": False}, {}),
        ({"use": [["sampling", {"temperature": 0.6, "max_tokens": 10}]]}, {"max_output": 10}, {"temperature": 0.6}),
        ({"use": [["customparams", {"safe": True}]], "m": {"use": [["customparams", {"x": [1]}]]}}, {},
         {"safe": True, "x": [1]}),
        ({"use": ["cleancache", "streamoptions", "tooluse", "enhancetool", "mine", ["forcereasoning", {}]]}, {}, {}),
    ],
)  # fmt: skip
def test_transformers_become_facts_of_models_and_extra_fields(transformer, facts, extra):
    report = imported(provider(transformer=transformer))
    model = Model.objects.get()
    assert {name: getattr(model, name) for name in facts} == facts
    assert Mapping.objects.get().extra_body == extra
    told = [path for path in skipped(report) if path.startswith("Providers[0].transformer")]
    assert len(told) == (6 if "cleancache" in transformer.get("use", ()) else 0)


def test_options_that_cannot_be_sent_are_told():
    report = imported(
        provider(transformer={"use": [["customparams", {"model": "other"}]]}),
        provider("a", "https://relay.example/v1/messages", transformer={"use": [["customparams", {"x": 1}]]}),
    )
    assert "'model' is a field that CCM decides about" in skipped(report)["Providers[0].models[0]"]
    assert "Only Chat Completions" in skipped(report)["Providers[1].models[0]"]
    assert set(Mapping.objects.values_list("extra_body__x", flat=True)) == {None}


def test_routes_and_fallbacks_find_their_models_as_claude_code_router_does():
    report = imported(
        provider("One", models=["A", "b"]),
        provider("two", models=["a"]),
        Router={
            "default": "one,a",
            "think": "two,unlisted",
            "background": "b",
            "image": "",
            "webSearch": "nobody,x",
            "longContext": "a",
            "longContextThreshold": 100,
            "custom": "x.js",
        },
        fallback={"default": ["TWO,a", "one,b", "one,A"], "webSearch": ["two,a"]},
    )
    row = RouterProfile.objects.get()
    assert (row.default, row.think, row.background) == ("One/A", "two/unlisted", "One/b")
    assert (row.image, row.websearch, row.long_context, row.long_context_threshold) == (None, None, "two/a", 100)
    order = (
        Mapping.objects.filter(model__name="One/A").order_by("priority").values_list("provider__name", "actual_model")
    )
    assert list(order) == [("One", "A"), ("two", "a"), ("One", "b")]
    assert set(skipped(report)) == {"Router.webSearch", "Router.custom", "fallback.webSearch"}


def test_both_ways_of_naming_a_model_find_the_imported_one():
    """`/model provider,model` goes on working, and is charged as that model and no other."""
    imported(
        provider("zeta", models=["vendor/x"]),
        provider("alpha", models=["y"]),
        Router={"default": "alpha,y"},
        fallback={"default": ["zeta,vendor/x"]},
    )
    Model.objects.update(markup=1)
    catalogue = build()
    for name in ("zeta,vendor/x", "zeta/vendor/x", "Zeta, vendor/X"):
        found = find_model(catalogue, name)
        assert found is not None
        assert found.model.name == "zeta/vendor/x", name
    [first, second] = plan(catalogue.models["alpha/y"], provider=None, session_id="s", standing=Resilience())
    assert (first.target.provider, second.target.provider) == ("alpha", "zeta")


def test_variables_stand_anywhere_and_stay_as_they_are_where_they_are_not_set():
    environ = {"HOST_NAME": "llm.example", "KEY": "sk-from-the-environment", "M": "model-of-env"}
    report = imported(
        provider(url="https://${HOST_NAME}/v1/chat/completions", api_key="$KEY", models=["$M", "x-$UNSET_MODEL"]),
        provider("q", api_key="${UNSET_KEY}"),
        provider("r", api_key="prefix-${KEY}"),
        provider("s", api_key="prefix-${UNSET_PART}"),
        provider("t", api_key="{{apiKey}}"),
        Router={"default": "p,$M"},
        environ=environ,
    )
    assert Provider.objects.get(name="p").base_url == "https://llm.example/v1"
    assert RouterProfile.objects.get().default == "p/model-of-env"
    assert Model.objects.filter(name="p/x-$UNSET_MODEL").exists()
    secrets = {row.provider.name: (row.label, row.open_secret()) for row in Credential.objects.all()}
    assert secrets == {"p": ("KEY", "sk-from-the-environment"), "r": ("api_key", "prefix-sk-from-the-environment")}
    assert report.variables == ["UNSET_MODEL", "UNSET_KEY", "UNSET_PART"]
    told = "\n".join(report.warnings)
    assert "Providers[0].models[1]: environment variable UNSET_MODEL is not set" in told
    assert "Providers[4].api_key: is an input of a preset" in told
    assert "sk-from" not in f"{report}"


def test_the_first_version_named_one_provider():
    report = import_config(
        '{OPENAI_API_KEY: "sk-first-version-01", OPENAI_BASE_URL: "https://api.deepseek.com/v1/", OPENAI_MODEL: "v3"}',
        environ={},
    )
    row = Provider.objects.get()
    assert (row.name, row.kind, row.base_url) == ("openai", "deepseek", "")
    assert RouterProfile.objects.get().default == "openai/v3"
    assert report.skipped == []


def test_a_preset_is_read_without_its_questions():
    report = import_config(
        json.dumps({"name": "mine", "version": "1", "schema": [], "Providers": [provider()], "template": {}}),
        environ={},
    )
    assert set(skipped(report)) == {"name", "version", "schema", "template"}
    assert Provider.objects.count() == 1


def test_names_that_cannot_be_names_here_are_replaced():
    report = imported(
        provider("硅基流动", models=["模型 a"]),
        provider("a/b c"),
        Router={"default": "硅基流动,模型 a", "think": "A/B c,m"},
    )
    assert set(Provider.objects.values_list("name", flat=True)) == {"provider-1", "a-b c"}
    row = RouterProfile.objects.get()
    assert (row.default, row.think) == ("provider-1/-a", "a-b-c/m")
    assert set(Mapping.objects.values_list("actual_model", flat=True)) == {"模型 a", "m"}
    assert len([warning for warning in report.warnings if "cannot be a provider's name here" in warning]) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"Providers": [{"name": "p",}', "This is not JSON5: line 1, column"),
        ("[]", "it must be a JSON object"),
        ("{}", "it has neither Providers nor a Router"),
        ('{"Providers": {}}', "Providers: must be a list of tables."),
        ('{"Providers": ["p"]}', "Providers[0]: must be a table."),
        ('{"Providers": [{"name": 3}]}', "Providers[0].name: must be a text in quotes."),
        (json.dumps({"Providers": [provider(url="ftp://x")]}), "Providers[0].api_base_url: Write an http:// or"),
        (json.dumps({"Providers": [provider(models="m")]}), "Providers[0].models: must be a list."),
        (json.dumps({"Providers": [provider(), provider("P")]}), "Providers[1].name: 'P' is there already."),
        (json.dumps({"Providers": [provider(transformer=["x"])]}), "Providers[0].transformer: must be a table."),
        (
            json.dumps({"Providers": [provider(transformer={"use": [3]})]}),
            "use[0]: must be a transformer's",
        ),
        (json.dumps({"Providers": [provider(transformer={"use": [["maxtoken", {}]]})]}), "use[0]: max_tokens must be"),
        (json.dumps({"Providers": [provider()], "API_TIMEOUT_MS": "long"}), "API_TIMEOUT_MS: must be a whole number"),
        (json.dumps({"Providers": [provider(models=["a b", "a-b"])]}), "models[1]: another model has the name 'p/a-b'"),
        (json.dumps({"Providers": [provider()], "Router": {"longContextThreshold": 0}}), "Router.longContextThreshold"),
    ],
)
def test_a_wrong_entry_is_named_and_nothing_is_imported(text, problem):
    with pytest.raises(ConfigError) as caught:
        import_config(text, environ={}, format=Format.CCR)
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not Provider.objects.exists()


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("\ufeff // c\n /* { */ {}", Format.CCR),
        ("{", Format.CCR),
        ("# {\n[router]", Format.CCM),
        ("", Format.CCM),
        ('name = "{"', Format.CCM),
    ],
)
def test_the_format_is_told_by_the_content(text, known):
    assert format_of(text) is known


def test_the_command_reads_the_programs_own_folder_and_tells_of_its_project_routers(tmp_path, monkeypatch):
    folder = tmp_path / ".claude-code-router"
    (folder / "-home-u-project").mkdir(parents=True)
    (folder / "-home-u-project" / "config.json").write_text('{"Router": {}}')
    (folder / "plugins").mkdir()
    (folder / "plugins" / "x.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"Providers": [provider(api_key="$THE_KEY")], "PORT": 1}))
    monkeypatch.setenv("THE_KEY", "sk-the-key-0123456789")
    out = StringIO()
    call_command("import_config", str(folder), "--dry-run", "--markup", "0.2", stdout=out)
    text = out.getvalue()
    assert "claude-code-router (JSON5)" in text
    assert "created   credential p/THE_KEY\n" in text
    assert "skipped   PORT: CCM listens where HOST and PORT say." in text
    assert f"skipped   {folder}/-home-u-project/config.json: CCM has no routers of projects" in text
    assert "plugins" not in text
    assert "sk-the-key" not in text
    assert "Dry run: nothing was changed." in text
    assert not Provider.objects.exists()
    call_command("import_config", str(folder), "--markup", "0.2", stdout=StringIO())
    assert str(Model.objects.get().markup) == "0.200000"


def test_the_command_refuses_what_is_no_configuration(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b"{" + b" " * MOST_BYTES)
    with pytest.raises(CommandError, match="is larger than"):
        call_command("import_config", str(file), stdout=StringIO())
    file.write_bytes(b"\xff{}")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_config", str(file), stdout=StringIO())
