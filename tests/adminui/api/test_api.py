"""/api/v1 over the network: who may ask what, and what it answers."""

import gzip
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.adminui.api.support import api, data
from tests.fakes.answers import Failure, Reply, Tokens
from tests.fakes.brain import always, saying
from tests.world import PRICES, World

HELLO: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}
TAG = "<CCM-SUBAGENT-MODEL>openai-agent</CCM-SUBAGENT-MODEL>"


@pytest.fixture
def key(world: World, customer: tuple[str, str]) -> str:
    world.anthropic.clear()
    world.openai.clear()
    world.anthropic.brain = world.openai.brain = saying("Welcome.")
    return customer[1]


def set_routes(world: World, key: str, scope: str = "organization", **profile: Any) -> Any:
    return data(api(world, "PUT", "/routing", key, json={"scope": scope, "profile": profile}))


def message(world: World, key: str, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    told = {"authorization": f"Bearer {key}", **(headers or {})}
    return httpx.post(
        f"{world.ccm.url}/v1/messages", json={**HELLO, **fields}, headers=told, timeout=60, trust_env=False
    )


# --- who asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/routing", "/generation?id=req_1", "/routing/versions"])
def test_without_a_key_nothing_is_told(world: World, path: str):
    for headers in ({}, {"authorization": "Bearer sk-ccm-wrong"}, {"x-api-key": "sk-ant-x"}, {"cookie": "sessionid=x"}):
        answer = api(world, "GET", path, "", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == 401
        assert answer.json()["error"]["metadata"]["type"] == "authentication_error"
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["request-id"] == answer.json()["request_id"]


def test_either_header_will_do(world: World, reader: str):
    assert api(world, "GET", "/routing", "", headers={"x-api-key": reader}).status_code == 200
    assert api(world, "GET", "/routing", reader).status_code == 200


def test_what_is_not_there_is_404_in_json(world: World, reader: str):
    for path in ("/generation?id=req_0", "/generation?id=%00", "/routing/versions?scope=key&key_id=999999"):
        answer = api(world, "GET", path, reader)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404), answer.text


def test_the_documentation_needs_nothing_from_elsewhere(world: World):
    schema = api(world, "GET", "/openapi.json", "").json()
    assert {"/api/v1/route", "/api/v1/generation", "/api/v1/routing", "/api/v1/what-if"} <= set(schema["paths"])
    assert schema["components"]["securitySchemes"]["KeyAuth"]["scheme"] == "bearer"
    page = api(world, "GET", "/docs", "")
    assert page.status_code == 200
    assert "//" not in page.text.replace(world.ccm.url, "").split("<body", 1)[0].replace("<!--", "")
    for asset in ("swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-init.js"):
        assert f"/static/ninja/{asset}" in page.text
        assert httpx.get(f"{world.ccm.url}/static/ninja/{asset}", trust_env=False).status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]


# --- profiles ---------------------------------------------------------------------------------


def test_a_profile_is_merged_field_by_field_and_takes_effect(world: World, key: str):
    set_routes(world, key, think="openai-model", background="openai-agent", long_context_threshold=70_000)
    state = set_routes(world, key, scope="key", background="", pin_explicit_model=True)
    assert state["organization"]["profile"] == {
        "think": "openai-model",
        "background": "openai-agent",
        "long_context_threshold": 70_000,
    }
    assert state["key"]["profile"] == {"background": "", "pin_explicit_model": True}
    merged = state["merged"]
    assert merged["default"] == {"value": "anthropic-model", "from": "platform"}
    assert merged["think"] == {"value": "openai-model", "from": "organization"}
    assert merged["background"] == {"value": "", "from": "key"}
    assert merged["think_efforts"] == {"value": ["max"], "from": "built_in"}
    assert data(api(world, "GET", "/routing", key)) == state
    thinking: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    world.await_told(key, thinking, lambda told: told.get("model") == "openai-model")
    answer = message(world, key, **thinking)
    assert (answer.headers["x-ccm-route"], answer.headers["x-ccm-model"]) == ("think", "openai-model")
    assert message(world, key, model="claude-haiku-4-5").headers["x-ccm-route"] == "default"


def test_every_change_is_a_version_that_can_be_gone_back_to(world: World, key: str, email: str):
    set_routes(world, key, think="openai-model")
    set_routes(world, key, think="openai-agent", image="anthropic-agent")
    second, first = data(api(world, "GET", "/routing/versions", key))
    assert (first["version"], first["profile"], first["by"]) == (1, {"think": "openai-model"}, email)
    assert first["means"].startswith("API key sk-ccm-…")
    assert second["changes"] == {
        "image": {"old": None, "new": "anthropic-agent"},
        "think": {"old": "openai-model", "new": "openai-agent"},
    }
    state = data(api(world, "POST", "/routing/revert", key, json={"version": 1}))
    assert state["organization"] == {"version": 3, "profile": {"think": "openai-model"}}
    assert data(api(world, "GET", "/routing/versions?limit=1", key))[0]["reverts"] == 1
    assert api(world, "POST", "/routing/revert", key, json={"version": 77}).status_code == 404
    assert data(api(world, "GET", "/routing/versions?scope=key", key)) == []


def test_who_read_an_older_version_changes_nothing(world: World, key: str):
    set_routes(world, key, think="openai-model")
    body = {"profile": {"think": "openai-agent"}, "version": 0}
    answer = api(world, "PUT", "/routing", key, json=body)
    assert (answer.status_code, answer.json()["error"]["metadata"]["version"]) == (409, 1)
    assert data(api(world, "PUT", "/routing", key, json=body | {"version": 1}))["organization"]["version"] == 2


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ({"think": "retired"}, "think"),
        ({"default": "anthropic-model", "image": "nobody/x"}, "image"),
        ({"auto_map_regex": "(a+)+$"}, "auto_map_regex"),
        ({"background_regex": "("}, "background_regex"),
        ({"long_context_threshold": 0}, "long_context_threshold"),
        ({"long_context_threshold": "many"}, "profile.long_context_threshold"),
        ({"think_efforts": ["Very Hard"]}, "think_efforts"),
        ({"think_efforts": "max"}, "profile.think_efforts"),
        ({"colour": "red"}, "profile.colour"),
    ],
)
def test_what_cannot_work_is_named_by_its_field(world: World, reader: str, profile: dict[str, Any], field: str):
    answer = api(world, "PUT", "/routing", reader, json={"profile": profile})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert list(error["metadata"]["fields"]) == [field]
    assert field in error["message"]
    assert data(api(world, "GET", "/routing", reader))["organization"]["version"] == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"profile": 1}', b"\xff"])
def test_a_body_that_is_none_is_refused(world: World, reader: str, body: bytes):
    answer = api(world, "PUT", "/routing", reader, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["metadata"]["type"] == "invalid_request_error"


def test_only_keys_of_those_who_may_change_routes_do(world: World, key: str, email: str):
    world.ccm.python(
        "from accounts.models import Membership; "
        f"Membership.objects.filter(user__email={email!r}).update(role='developer')"
    )
    try:
        answer = api(world, "PUT", "/routing", key, json={"profile": {}})
        assert (answer.status_code, answer.json()["error"]["metadata"]["type"]) == (403, "permission_error")
        assert "change routes" in answer.json()["error"]["message"]
        assert api(world, "POST", "/routing/revert", key, json={"version": 1}).status_code == 403
        assert api(world, "GET", "/routing", key).status_code == 200
    finally:
        world.ccm.python(
            f"from accounts.models import Membership; "
            f"Membership.objects.filter(user__email={email!r}).update(role='owner')"
        )


# --- the dry run ------------------------------------------------------------------------------


def test_the_dry_run_says_what_would_happen_and_does_nothing(world: World, key: str, email: str):
    set_routes(world, key, think="openai-model")
    system = [{"type": "text", "text": "You are Claude Code."}, {"type": "text", "text": f"Do it. {TAG}"}]
    before = world.refusals()
    answer = api(world, "POST", "/route", key, json={**HELLO, "system": system, "x-unknown": [1.50]})
    told = answer.json()
    assert answer.status_code == 200, answer.text
    assert (told["route"], told["model"], told["provider"]) == ("subagent", "openai-agent", None)
    assert told["targets"] == [
        {"provider": "openai", "model": "openai-agent-actual", "healthy": True, "input": "3", "output": "15"}
    ]
    rules = {rule["rule"]: rule for rule in told["rules"]}
    assert list(rules) == [
        "auto_map", "safety", "websearch", "subagent", "image", "long_context", "pin_explicit_model", "think",
        "background", "default",
    ]  # fmt: skip
    assert [name for name, rule in rules.items() if rule["matched"]] == ["auto_map", "subagent"]
    assert all(rule["why"] for rule in told["rules"])
    assert told["request"] == {
        **HELLO,
        "model": "openai-agent-actual",
        "system": [system[0], {"type": "text", "text": "Do it. "}],
        "x-unknown": [1.5],
    }
    assert told["profile"]["think"] == {"value": "openai-model", "from": "organization"}
    assert world.anthropic.requests == world.openai.requests == []
    assert world.ccm.usage_records(email) == []
    assert world.refusals() == before


def test_the_dry_run_decides_as_the_request_is_served(world: World, key: str):
    """Each signal once: the same route and model by either way, and the same reasons on the record."""
    set_routes(
        world, key, scope="key", think="openai-model", background="openai-agent", websearch="anthropic-agent",
        image="anthropic-agent", long_context="openai-model", long_context_threshold=300, subagent="openai-agent",
    )  # fmt: skip
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    long = [{"role": "user", "content": "many words " * 400}]
    cases: list[tuple[str, str, dict[str, str], dict[str, Any]]] = [
        ("default", "anthropic-model", {}, {}),
        ("think", "openai-model", {}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("background", "openai-agent", {}, {"model": "claude-haiku-4-5"}),
        ("image", "anthropic-agent", {}, {"messages": [{"role": "user", "content": [png]}]}),
        ("long_context", "openai-model", {}, {"messages": long}),
        ("subagent", "openai-agent", {"x-claude-code-agent-id": "a1"}, {}),
        ("subagent", "anthropic-agent", {}, {"system": "<CCM-SUBAGENT-MODEL>anthropic-agent</CCM-SUBAGENT-MODEL>"}),
        ("explicit", "openai-model", {}, {"model": "openai-model"}),
    ]
    world.await_told(key, cases[1][3], lambda told: told.get("model") == "openai-model")
    for route, model, headers, fields in cases:
        told = api(world, "POST", "/route", key, json={**HELLO, **fields}, headers=headers).json()
        assert (told["route"], told["model"]) == (route, model), told
        served = message(world, key, headers, **fields)
        assert (served.headers["x-ccm-route"], served.headers["x-ccm-model"]) == (route, model)
        found = data(api(world, "GET", f"/generation?id={served.headers['request-id']}", key))
        assert found["explanation"]["rules"] == told["rules"]
        assert found["explanation"]["targets"] == told["targets"]
        assert found["explanation"]["from"] == (told["profile"].get(route, {}).get("from"))


def test_the_dry_run_takes_what_messages_takes(world: World, reader: str):
    packed = gzip.compress(json.dumps(HELLO).encode())
    answer = api(world, "POST", "/route", reader, content=packed, headers={"content-encoding": "gzip"})
    assert answer.json()["route"] == "default"
    large = {**HELLO, "messages": [{"role": "user", "content": "x" * 5_000_000}]}
    assert api(world, "POST", "/route", reader, json=large).status_code == 200


def test_a_search_that_nobody_could_make_is_refused_with_the_rules(world: World, key: str):
    set_routes(world, key, websearch="anthropic-agent")
    fields: dict[str, Any] = {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    choice = {"type": "tool", "name": "web_search"}
    world.await_told(key, {**fields, "tool_choice": choice}, lambda told: "'anthropic-agent'" in str(told))
    told = api(world, "POST", "/route", key, json={**HELLO, **fields, "tool_choice": choice}).json()["error"]
    served = message(world, key, **fields, tool_choice=choice)
    assert told["message"] == served.json()["error"]["message"]
    assert told["metadata"]["code"] == "no_web_search"
    assert [rule["rule"] for rule in told["metadata"]["rules"] if rule["matched"]] == ["auto_map", "websearch"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({**HELLO, "model": "gpt-nothing"}, "gpt-nothing"),
        ({"model": "claude-x"}, "messages: field required"),
        ({**HELLO, "tools": 7}, "tools"),
        ([], "JSON object"),
    ],
)
def test_the_dry_run_refuses_as_messages_does(world: World, reader: str, body: Any, text: str):
    told = api(world, "POST", "/route", reader, json=body)
    headers = {"authorization": f"Bearer {reader}"}
    served = httpx.post(f"{world.ccm.url}/v1/messages", json=body, headers=headers, timeout=60, trust_env=False)
    assert told.status_code == served.status_code == 400
    assert text in told.json()["error"]["message"]
    assert told.json()["error"]["message"] == served.json()["error"]["message"]
    assert told.json()["error"]["metadata"]["type"] == served.json()["error"]["type"]


# --- one request ------------------------------------------------------------------------------


def test_a_generation_in_openrouters_shape_with_its_price(world: World, key: str, email: str):
    tokens = Tokens(input=100, output=20, cache_read=1000, cache_write=10)
    world.anthropic.brain = always(Reply(tokens=tokens))
    headers = {"x-claude-code-session-id": "session-1", "user-agent": "claude-cli/2.1"}
    served = message(world, key, headers)
    found = data(api(world, "GET", f"/generation?id={served.headers['request-id']}", key))
    assert found["id"] == served.headers["request-id"]
    assert (found["model"], found["provider_name"]) == ("anthropic-model", "anthropic")
    assert (found["tokens_prompt"], found["tokens_completion"], found["native_tokens_cached"]) == (1110, 20, 1000)
    assert (found["finish_reason"], found["native_finish_reason"]) == ("stop", "end_turn")
    assert (found["session_id"], found["user_agent"]) == ("session-1", "claude-cli/2.1")
    assert found["streamed"] is found["cancelled"] is found["is_byok"] is False
    cost = 100 * PRICES["input"] + 20 * PRICES["output"] + 1000 * PRICES["cache_read"] + 10 * PRICES["cache_write"]
    exact = json.loads(
        api(world, "GET", f"/generation?id={served.headers['request-id']}", key).text, parse_float=Decimal
    )["data"]
    assert exact["total_cost"] == exact["usage"] == Decimal(cost).scaleb(-9)
    assert {line["what"]: line["count"] for line in found["lines"]} == {
        "input": 100, "output": 20, "cache read": 1000, "cache write": 10,
    }  # fmt: skip
    assert sum(line["usd"] for line in exact["lines"]) == exact["total_cost"]
    assert found["attempts"][0]["provider"] == "anthropic"
    assert "cost" not in json.dumps(found["attempts"])
    assert "mapping" not in json.dumps(found["attempts"])


def test_a_failed_generation_tells_its_attempts(world: World, key: str):
    world.anthropic.brain = always(Failure(status=500, message="broken"))
    served = message(world, key)
    found = data(api(world, "GET", f"/generation?id={served.headers['request-id']}", key))
    assert found["status"] == served.status_code
    assert found["total_cost"] == 0
    assert found["attempts"]
    assert found["attempts"][-1]["error"]
    assert found["provider_responses"][-1]["status"] == 500


def test_another_tenants_generation_is_not_there(world: World, key: str, reader: str):
    served = message(world, key)
    assert api(world, "GET", f"/generation?id={served.headers['request-id']}", reader).status_code == 404


def test_openais_clients_find_theirs_by_their_own_id(world: World, key: str):
    body = {"model": "openai-model", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    served = httpx.post(f"{world.ccm.url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)
    found = data(api(world, "GET", f"/generation?id={served.json()['id']}", key))
    assert found["id"] == served.headers["request-id"]


# --- savings ----------------------------------------------------------------------------------


def test_what_if(world: World, key: str):
    world.anthropic.brain = always(Reply(tokens=Tokens(input=1000, output=100)))
    for _ in range(2):
        message(world, key)
    message(world, key, thinking={"type": "enabled", "budget_tokens": 1024})
    same = data(api(world, "POST", "/what-if", key, json={"profile": {}}))
    assert (same["requests"], same["saved"]) == (3, 0)
    assert same["charged"] == same["would_have_charged"] > 0
    other = data(api(world, "POST", "/what-if", key, json={"profile": {"think": "openai-model"}, "days": 7}))
    (moved,) = [each for each in other["changes"] if each["would_model"] != each["model"]]
    assert (moved["would_route"], moved["would_model"], moved["requests"]) == ("think", "openai-model", 1)
    assert any("its tokens are taken to be the same" in each["what"] for each in other["unknown"])
    wrong = api(world, "POST", "/what-if", key, json={"profile": {"think": "nothing"}})
    assert (wrong.status_code, list(wrong.json()["error"]["metadata"]["fields"])) == (400, ["think"])
    assert api(world, "POST", "/what-if", key, json={"profile": {}, "days": 0}).status_code == 400
