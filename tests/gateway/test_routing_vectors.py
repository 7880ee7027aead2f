"""The routing facts of the two seed systems, case by case: kept, or changed with a reason.

Every case of `router-vectors.json` is routed here, by the rules directly and by the API's dry run over
HTTP, or listed in OUTSIDE with the part of the product that it belongs to. A case that is new in
the file fails until it has its place.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.routing import UnknownModel, find_model, merge_profiles
from gateway.routing.signals import session_id
from providers.types import Catalogue, Profile
from tests.gateway import routing_cases
from tests.gateway.routing_cases import catalogue, model, provided, request
from tests.gateway.routing_http import deciding_over_http

FILE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "router-vectors.json"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=f"no router vectors at {FILE}")
VECTORS: dict[str, Any] = msgspec.json.decode(FILE.read_bytes()) if FILE.is_file() else {}

BILLING = "x-anthropic-billing-header"
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}

# section -> (how many cases it has, why they are not routing's)
OUTSIDE = {
    "ccm.token_count_estimate": (9, "counting is the tokenizer's: routing is given the count"),
    "ccm.failover": (13, "which target serves is the plan's and the relay's"),
    "ccr_v2.custom_router": (4, "JavaScript routers run tenants' code: not offered"),
    "ccr_v2.v1_differences": (3, "what old versions did differently"),
    "ccr_v2.fallback": (6, "which target serves next is the plan's and the relay's"),
    "ccr_v3.billing_block": (4, "the wire that cannot carry the billing block drops it"),
    "ccr_v3.fallback_plan": (4, "the plan's and the relay's"),
    "ccr_v3.failure_class": (4, "the relay's"),
    "ccr_v3.retry_delay_ms": (7, "the relay's"),
    "ccr_v3.credential_cooldown": (3, "the plan's"),
    "ccr_v3.upstream_prepare": (3, "the wires'"),
    "ccr_v3.headers": (5, "the wires' and the transport's"),
    "ccr_v3.auth": (7, "the accounts app's"),
    "ccr_v3.usage_normalisation": (8, "the wires'"),
    "ccr_v3.stream": (3, "the relay's"),
}
OUTSIDE_CASES = {
    "v3-3": "a request without a key gets 401 before routing",
    "v3-7": "rules on URLs and headers are not offered",
    "v3-9": "rules on URLs and headers are not offered",
    "v3-12": "rules on URLs and headers are not offered",
    "v3-19": "JavaScript routers run tenants' code: not offered",
    "ccr-img-4": "there is no image agent to force",
    "g-14": "dropping an effort that the target refuses is the wires' (the route is tested here)",
    "g-15": "paths are the pipeline's",
    "g-17": "GET /v1/models is the pipeline's; its ids are tested with the names",
}
# case -> (what we do, why not what the seed does)
DIFFERENT = {
    "ccr-6": ("gemini,ws", "web search and long context come before the client's model (architecture, section 4)"),
    "ccr-14": ("gemini,ws", "web search comes before long context (architecture, section 4)"),
    "v3-16": ("Provider/claude-sonnet", "nothing proves a subagent, so tags in messages are only text (g-8)"),
    "v3-s3": ("DeepSeek/deepseek-v4-flash", "a model that the client names is served, whoever asks"),
    "v3-s4": ("DeepSeek/deepseek-v4-pro", "a model that the client names is served, whoever asks"),
    "v3-s5": ("DeepSeek/deepseek-v4-flash", "a model that the client names is served, whoever asks"),
    "registry shared": ("shared", "a public model has one name, whoever serves it"),
}


Decide = Callable[..., Any]


@pytest.fixture(params=["directly", "http"])
def decide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Decide:
    return routing_cases.decide if request.param == "directly" else deciding_over_http(monkeypatch)


def cases(section: str, part: str = "cases") -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in VECTORS.get(section, {}).get(part, [])]


def split(name: str) -> tuple[str | None, str]:
    """`provider,model` or `Provider/model` as (provider in lower case, model)."""
    for separator in (",", "/"):
        provider, found, rest = name.partition(separator)
        if found:
            return provider.lower(), rest
    return None, name


def served(decided: Any) -> tuple[str | None, str]:
    return decided.provider.lower() if decided.provider else None, decided.model.name


def without_billing(system: Any) -> Any:
    return system if isinstance(system, str) else [block for block in system if not block["text"].startswith(BILLING)]


# --- claude-code-mux ---------------------------------------------------------------------------


def mux_names(case: dict[str, Any], router: dict[str, str]) -> set[str]:
    answers = {case["expect"]["model"], case.get("ours", {}).get("model", "")}
    routes = {value for key, value in router.items() if not key.endswith("_regex")}
    return (answers | routes | {"m1", "m2", "glm-4.6"}) - {""}


@pytest.mark.parametrize("case", cases("ccm"))
def test_claude_code_mux(case: dict[str, Any], decide: Decide):
    router = case.get("router", VECTORS["ccm"]["default_router"])
    known = catalogue(*sorted(mux_names(case, router)))
    decided = decide(request(**case["request"]), profile=Profile(**router), known=known)
    expected = {**case["expect"], **case.get("ours", {})}
    assert decided.model.name == expected["model"]
    route = expected["route"].replace("-", "")
    if route == "default" and "SUBAGENT" in str(case["request"]):
        route = "subagent"  # the seed reports "default" where a tag chose
    elif route == "default" and expected["model"] == case["request"]["model"]:
        route = "explicit"  # and where the client did
    assert decided.route == route
    if "system_after" in expected:
        assert without_billing(decided.request.value("system")) == without_billing(expected["system_after"])


# --- claude-code-router 2 ----------------------------------------------------------------------

ROUTE_NAMES = {
    "webSearch": "websearch",
    "longContext": "long_context",
    "longContextThreshold": "long_context_threshold",
}


def router_profile(router: dict[str, Any], unset: str | None = None) -> Profile:
    """CCR gives every name without a provider to the default route, so its auto-map takes them all."""
    routes = dict.fromkeys(("default", "think", "websearch", "image", "long_context"), unset)
    named = {ROUTE_NAMES.get(key, key): value for key, value in router.items()}
    return Profile(**{**routes, **named}, auto_map_regex="^[^,]*$")


def router_catalogue(*routers: dict[str, Any]) -> Catalogue:
    pairs = {value for router in routers for value in router.values() if isinstance(value, str) and "," in value}
    configured = (
        f"{provider['name']},{name}" for provider in VECTORS["ccr_v2"]["providers"] for name in provider["models"]
    )
    return provided(*configured, *sorted(pairs), "p,m")


@pytest.mark.parametrize("case", cases("ccr_v2"))
def test_claude_code_router(case: dict[str, Any], decide: Decide):
    profile, known = router_inputs(case)
    sent = request(**case["request"])
    expected = {**case["expect"], **case.get("ours", {})}
    if "error" in expected:
        with pytest.raises(UnknownModel, match=case["request"]["model"]):
            decide(sent, profile=profile, known=known, tokens=case["token_count"])
        return
    decided = decide(sent, profile=profile, known=known, tokens=case["token_count"])
    name = DIFFERENT[case["id"]][0] if case["id"] in DIFFERENT else expected["model"]
    provider, model_name = served(decided)
    assert (provider, model_name.lower()) == split(name.lower())  # its example provider has a "Def"
    if case["id"] not in DIFFERENT and "system_after" in expected:
        assert decided.request.value("system") == expected["system_after"]


def router_inputs(case: dict[str, Any]) -> tuple[Profile, Catalogue]:
    router = case.get("router", VECTORS["ccr_v2"]["default_router"])
    project = case.get("project_router", {})
    profile = router_profile(router)
    if project:
        # A project's router leaves only background to the wider one: its own profile sets the rest to "".
        narrow = router_profile(project, unset="")
        profile = merge_profiles(narrow, profile)
    return profile, router_catalogue(router, project)


IMAGE_ROUTES = {
    "ccr-img-1": "image",
    "ccr-img-2": "image",
    "ccr-img-3": "default",  # an earlier image: CCR runs its image agent, we stay on the conversation's model
    "ccr-img-5": "default",
    "ccr-img-6": "default",
    "ccr-img-7": "default",
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["id"])
        for case in VECTORS.get("ccr_v2", {}).get("image", {}).get("cases", [])
        if case["id"] not in OUTSIDE_CASES
    ],
)
def test_images_of_claude_code_router(case: dict[str, Any], decide: Decide):
    router = {**VECTORS["ccr_v2"]["default_router"], **case.get("config", {}).get("Router", {})}
    turns = [{"role": "user", "content": case["last_user"]}]
    if "earlier_user" in case:
        turns = [{"role": "user", "content": case["earlier_user"]}, {"role": "assistant", "content": "ok"}, *turns]
    decided = decide(request(messages=turns), profile=router_profile(router), known=router_catalogue(router))
    assert decided.route == IMAGE_ROUTES[case["id"]]


# --- claude-code-router 3 ----------------------------------------------------------------------

V3_MODELS = ("claude-sonnet", "claude-opus", "claude-haiku", "gpt-5-codex")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["id"])
        for case in VECTORS.get("ccr_v3", {}).get("router", {}).get("cases", [])
        if case["id"] not in OUTSIDE_CASES
    ],
)
def test_claude_code_router_3(case: dict[str, Any], decide: Decide):
    known = provided(*(f"Provider,{name}" for name in V3_MODELS))
    decided = decide(request(**case["request"]), profile=Profile(default="Provider/claude-sonnet"), known=known)
    name = DIFFERENT[case["id"]][0] if case["id"] in DIFFERENT else case["expect"]["model"]
    assert served(decided) == split(name)
    if "system_after" in case["expect"]:
        assert without_billing(decided.request.value("system")) == case["expect"]["system_after"]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case["id"]) for case in VECTORS.get("ccr_v3", {}).get("subagent_env", {}).get("cases", [])],
)
def test_subagents_of_claude_code_router_3(case: dict[str, Any], decide: Decide):
    known = provided("Codex API,gpt-5.6-sol", "DeepSeek,deepseek-v4-flash", "DeepSeek,deepseek-v4-pro")
    texts = [f"{BILLING}: {case['request']['billing']}"] if "billing" in case["request"] else []
    if "tag" in case["request"]:
        texts.append(f"<CCR-SUBAGENT-MODEL>{case['request']['tag']}</CCR-SUBAGENT-MODEL>")
    sent = request(model=case["request"]["model"], system=[{"type": "text", "text": text} for text in texts])
    profile = Profile(default="Codex API/gpt-5.6-sol")
    decided = decide(sent, headers=case["request"].get("headers"), profile=profile, known=known)
    usual = case["expect"].get("model", case["request"]["model"])
    assert served(decided) == split(DIFFERENT[case["id"]][0] if case["id"] in DIFFERENT else usual)


@pytest.mark.parametrize("number", range(7))
def test_names_of_claude_code_router_3(number: int, monkeypatch: pytest.MonkeyPatch):
    section = VECTORS["ccr_v3"]["model_registry"]
    case = section["cases"][number]
    providers = case.get("providers", section["providers"])
    disabled = case.get("disabled_providers", [])
    pairs = [
        f"{provider},{name}" for provider, names in providers.items() for name in names if provider not in disabled
    ]
    found = find_model(provided(*pairs), case["in"])
    out = case["out"]
    if f"registry {case['in']}" in DIFFERENT:
        out = DIFFERENT[f"registry {case['in']}"][0]
    expected = out and (out.partition("/")[2] or out)
    assert (found.model.name if found else None) == expected
    over_http = deciding_over_http(monkeypatch)
    sent, profile = request(model=case["in"]), Profile(auto_map_regex="^never$")
    if expected is None:
        with pytest.raises(UnknownModel):
            over_http(sent, profile=profile, known=provided(*pairs))
    else:
        told = over_http(sent, profile=profile, known=provided(*pairs))
        assert (told.route, told.model.name) == ("explicit", expected)


# --- sessions and our own cases ----------------------------------------------------------------


@pytest.mark.parametrize("case", cases("session_id"))
def test_session_id(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    headers = {key.lower(): value for key, value in case.get("headers", {}).items()}
    sent = request(metadata={"user_id": case.get("user_id", "")})
    assert session_id(sent, headers) == case["expect"]
    assert deciding_over_http(monkeypatch)(sent, headers=headers).session_id == case["expect"]


OURS = {
    "g-1": "test_routing.py::test_a_million_tokens_is_remembered",
    "g-3": "test_routing.py::test_an_unknown_name_is_refused",
    "g-4": "test_routing.py::test_web_search_comes_first",
    "g-7": "test_routing_tags.py::test_every_form_of_a_name_in_a_tag",
    "g-8": "test_routing_tags.py::test_tags_in_other_places_are_only_text",
    "g-10": "test_routing_tags.py::test_a_proven_subagents_first_message_is_trusted",
    "g-11": "test_routing_tags.py::test_the_class_wins_over_the_agent_id",
    "g-12": "test_routing.py::test_what_does_not_fit_goes_to_long_context",
    "g-13": "test_routing.py::test_an_unknown_class_is_no_class",
}


def test_our_own_cases_have_their_tests():
    for id_, test in OURS.items():
        file, _, function = test.partition("::")
        assert f"def {function}(" in (Path(__file__).parent / file).read_text(), id_


TAG = "<CCM-SUBAGENT-MODEL>{}</CCM-SUBAGENT-MODEL> do it"
SUBAGENT = {"x-claude-code-request-class": "subagent", "x-claude-code-agent-id": "a1"}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


def tagged(name: str, spelling: str = "CCM") -> list[dict[str, str]]:
    return [{"role": "user", "content": TAG.format(name).replace("CCM", spelling)}]


# case -> (headers, the request's fields, tokens, the route and model)
OVER_HTTP: dict[str, tuple[dict[str, str], dict[str, Any], int, tuple[str, str]]] = {
    "g-1": ({}, {"model": "claude-opus-4-8[1m]"}, 9, ("default", "the-default")),
    "g-4": ({}, {"model": "claude-haiku-4-5", "tools": [SEARCH]}, 9, ("websearch", "the-searcher")),
    "g-7": (SUBAGENT, {"messages": tagged("demo/glm")}, 9, ("subagent", "glm")),
    "g-8": ({}, {"messages": tagged("glm")}, 9, ("default", "the-default")),
    "g-10": (SUBAGENT, {"messages": tagged("glm", "CCR")}, 9, ("subagent", "glm")),
    "g-11": (
        {**SUBAGENT, "x-claude-code-request-class": "main"},
        {"messages": tagged("glm")},
        9,
        ("default", "the-default"),
    ),
    "g-12": ({"x-claude-code-request-class": "compaction"}, {}, 60_001, ("long_context", "the-long")),
    "g-13": ({"x-claude-code-request-class": "whatever"}, {}, 9, ("default", "the-default")),
}


@pytest.mark.parametrize("id_", OVER_HTTP)
def test_our_own_cases_over_http(id_: str, monkeypatch: pytest.MonkeyPatch):
    headers, fields, tokens, (route, name) = OVER_HTTP[id_]
    known = catalogue(*routing_cases.ROUTE_MODELS, model("glm"))
    told = deciding_over_http(monkeypatch)(headers=headers, known=known, tokens=tokens, **fields)
    assert (told.route, told.model.name) == (route, name)
    if "messages" in fields:
        is_kept = route == "default"
        assert ("SUBAGENT-MODEL" in str(told.request.value("messages"))) is is_kept


def test_an_unknown_model_is_refused_over_http(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnknownModel):  # g-3: 400 policy_blocked
        deciding_over_http(monkeypatch)(model="gpt-5")


def test_effort_does_not_undo_disabled_thinking(decide: Decide):
    g_14 = next(case for case in VECTORS["ours_extra"] if case["id"] == "g-14")
    profile = Profile(default="d", think="t", think_efforts=frozenset({"high", "max"}))
    assert decide(request(**g_14["request"]), profile=profile, known=catalogue("d", "t")).route == "default"


def test_no_case_slips_by():
    routed = {"ccm.cases", "ccr_v2.cases", "ccr_v2.image", "ccr_v3.router", "ccr_v3.subagent_env"}
    routed |= {"ccr_v3.model_registry", "session_id.cases"}
    settings = {"default_router", "order", "providers"}
    extra = {case["id"] for case in VECTORS["ours_extra"]}
    assert extra <= set(OURS) | set(OUTSIDE_CASES)
    assert extra <= set(OVER_HTTP) | set(OUTSIDE_CASES) | {"g-3", "g-14"}
    for seed in ("ccm", "ccr_v2", "session_id", "ccr_v3"):
        for part, content in VECTORS[seed].items():
            section = f"{seed}.{part}"
            if section in routed or part in settings:
                continue
            size = len(content["cases"]) if isinstance(content, dict) and "cases" in content else len(content)
            assert section in OUTSIDE, f"{section} is new"
            assert OUTSIDE[section][0] == size, f"{section} has {size} cases"
