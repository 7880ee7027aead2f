"""Bad input and bad luck at the HTTP boundary: the documented envelope, and nothing is charged."""

import gzip
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from tests.fakes.answers import Failure, Reset, html
from tests.fakes.brain import always, saying
from tests.world import PROVIDER, World

UNSPOILT = 16
HELLO: dict[str, Any] = {
    "model": "anthropic-model",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture
def key(world: World, email: str) -> str:
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = saying("This must not be reached.")
    return world.ccm.create_key(email)


def send(
    world: World, body: bytes, key: str = "", headers: Mapping[str, str] | None = None, path: str = "/v1/messages"
) -> httpx.Response:
    sent = {
        "content-type": "application/json",
        **({"authorization": f"Bearer {key}"} if key else {}),
        **(headers or {}),
    }
    return httpx.post(world.ccm.url + path, content=body, headers=sent, timeout=60, trust_env=False)


def refusal(response: httpx.Response, status: int, type_: str) -> str:
    """The text of an error in the documented envelope; anything else fails the test."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == type_
    assert body["request_id"] == response.headers["request-id"] == response.headers["x-ccm-request-id"]
    return str(body["error"]["message"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"model":"anthropic-model","max_tokens":9}', "messages: field required"),
        (b'{"max_tokens":9,"messages":[{"role":"user","content":"x"}]}', "model: field required"),
        (b'{"model":"","max_tokens":9,"messages":[{"role":"user","content":"x"}]}', "model: must name a model"),
        (b'{"model":7,"max_tokens":9,"messages":[{"role":"user","content":"x"}]}', "model: Expected `str`, got `int`"),
        (b'{"model":"anthropic-model","messages":[{"role":"user","content":"x"}]}', "max_tokens: field required"),
        (b'{"model":"anthropic-model","max_tokens":0,"messages":[{"role":"user","content":"x"}]}', "at least 1"),
        (b'{"model":"anthropic-model","max_tokens":-5,"messages":[{"role":"user","content":"x"}]}', "at least 1"),
        (b'{"model":"anthropic-model","max_tokens":"9","messages":[{"role":"user","content":"x"}]}', "max_tokens: Exp"),
        (b'{"model":"anthropic-model","max_tokens":9,"messages":[]}', "at least one message"),
        (b'{"model":"anthropic-model","max_tokens":9,"messages":"hi"}', "messages: Expected `array`"),
        (b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"robot","content":"x"}]}', "messages[0].role"),
        (b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"user"}]}', "messages[0]"),
        (
            b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"user","content":[{"text":"x"}]}]}',
            "messages[0].content[0]",
        ),
        (
            b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":{}}',
            "tools: ",
        ),
        (
            b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"user","content":"x"}],"system":7}',
            "system: ",
        ),
        (
            b'{"model":"anthropic-model","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":"yes"}',
            "stream: Expected",
        ),
        (
            b'{"model":"anthropic-model","max_tokens":9,"messages":' + b"[" * 4000 + b"]" * 4000 + b"}",
            "",
        ),
    ],
)
def test_malformed_input_is_refused_with_the_field_s_name(world: World, key: str, body: bytes, says: str) -> None:
    message = refusal(send(world, body, key), 400, "invalid_request_error")
    assert says in message
    assert world.anthropic.requests == []


def test_a_body_of_33_megabytes_is_too_large(world: World, key: str, email: str) -> None:
    body = json.dumps(HELLO | {"messages": [{"role": "user", "content": "x" * (33 * 1024 * 1024)}]}).encode()
    assert "32 MB" in refusal(send(world, body, key), 413, "request_too_large")
    assert "32 MB" in refusal(
        send(world, gzip.compress(body, 1), key, {"content-encoding": "gzip"}), 413, "request_too_large"
    )
    assert world.anthropic.requests == []
    assert world.ccm.usage_records(email) == []


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "No API key was sent"),
        ({"authorization": "Bearer nonsense"}, "not a CCM API key"),
        ({"x-api-key": "sk-ant-api03-abcdef"}, "Anthropic credential"),
        ({"authorization": "Bearer sk-ccm-" + "A" * 43}, "unknown, revoked or expired"),
        ({"authorization": "Basic abc"}, "No API key was sent"),
    ],
)
def test_a_wrong_key_is_refused_once_and_for_all(world: World, headers: dict[str, str], says: str) -> None:
    response = send(world, json.dumps(HELLO).encode(), headers=headers)
    assert says in refusal(response, 401, "authentication_error")
    assert response.headers["x-should-retry"] == "false"


def test_either_header_may_hold_the_key_whatever_the_other_one_holds(world: World, key: str) -> None:
    world.anthropic.brain = saying("Welcome.")
    body = json.dumps(HELLO).encode()
    assert send(world, body, headers={"x-api-key": key}).status_code == 200
    assert send(world, body, key, {"x-api-key": "something-else"}).status_code == 200
    assert send(world, body, "something-else", {"x-api-key": key}).status_code == 200


def test_a_revoked_key_is_refused_at_once(world: World, key: str, email: str) -> None:
    world.anthropic.brain = saying("Welcome.")
    assert send(world, json.dumps(HELLO).encode(), key).status_code == 200, "the key is in the cache now"
    # Without an announcement, as if Valkey were away: the hold's transaction still sees it.
    world.ccm.python(
        "from accounts.models import ApiKey; from django.utils import timezone; "
        f"ApiKey.objects.filter(organization__memberships__user__email={email!r}).update(revoked_at=timezone.now())"
    )
    response = send(world, json.dumps(HELLO).encode(), key)
    assert "revoked" in refusal(response, 401, "authentication_error")
    assert len(world.ccm.usage_records(email)) == 1


def test_an_unknown_model_is_named(world: World, key: str, email: str) -> None:
    response = send(world, json.dumps(HELLO | {"model": "no-such-model"}).encode(), key)
    message = refusal(response, 400, "policy_blocked")
    assert "no-such-model" in message
    assert "/v1/models" in message
    assert response.headers["x-should-retry"] == "false"
    assert world.ccm.usage_records(email) == []


def test_a_model_without_a_price_is_refused_before_any_provider_is_called(world: World, key: str) -> None:
    world.ccm.import_config(
        """
        [[models]]
        name = "free-by-mistake"
        [[models.mappings]]
        provider = "anthropic"
        actual_model = "x"
        """
    )
    world.await_model(key, "free-by-mistake")
    message = refusal(
        send(world, json.dumps(HELLO | {"model": "free-by-mistake"}).encode(), key), 400, "policy_blocked"
    )
    assert "has no price" in message
    assert world.anthropic.requests == []


def test_without_credits_the_message_says_what_is_needed(world: World, email: str) -> None:
    world.make_default("anthropic")
    world.anthropic.clear()
    poor = world.ccm.create_key(email, usd="")
    response = send(world, json.dumps(HELLO).encode(), poor)
    message = refusal(response, 402, "billing_error")
    assert "$0.0000 is available" in message
    assert world.ccm.url in message
    assert "credit balance is too low" not in message.lower()
    assert response.headers["x-should-retry"] == "false"
    assert world.anthropic.requests == []
    assert world.ccm.usage_records(email) == []


def test_a_key_at_its_limit_is_told_which_one_and_until_when(world: World, email: str) -> None:
    world.make_default("anthropic")
    world.anthropic.clear()
    limited = world.ccm.create_key(email, usd="5", limits=["--limit-day", "0"])
    response = send(world, json.dumps(HELLO).encode(), limited)
    message = refusal(response, 402, "billing_error")
    assert "this API key's daily limit of $0.0000 is used up" in message
    assert "It resets at " in message
    assert response.headers["x-should-retry"] == "false"
    assert world.anthropic.requests == []
    assert world.ccm.usage_records(email) == []


@pytest.fixture(scope="module")
def unspoilt(world: World) -> Iterator[str]:
    """Models of providers that have not failed yet, one for each case: breakers and resting credentials of one are
    not the next one's."""
    names = [f"unspoilt-{number}" for number in range(UNSPOILT)]
    url = world.anthropic.base_url
    world.ccm.import_config("".join(PROVIDER.format(name=name, kind="anthropic-compatible", url=url) for name in names))
    models = [f"{name}-model" for name in names]
    world.await_model(world.ccm.create_key("unspoilt@example.com"), models[-1])
    return iter(models)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("answer", "status", "type_", "says"),
    [
        (html(200), 500, "api_error", "The provider unspoilt-"),
        (html(502), 500, "api_error", "The provider unspoilt-"),
        (Failure(401, "invalid x-api-key", type="authentication_error"), 500, "api_error", "refused CCM's credentials"),
        (Failure(429, "slow down", type="rate_limit_error", headers={"retry-after": "7"}), 429, "rate_limit_error", ""),
        (Failure(529, "Overloaded", type="overloaded_error"), 529, "overloaded_error", ""),
        (Failure(500, "boom", type="api_error"), 500, "api_error", ""),
        (
            Failure(400, "prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error"),
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
        ),
        (Reset(), 500, "api_error", "closed the connection"),
    ],
    ids=["html", "html-502", "credentials", "rate-limit", "overloaded", "error", "context", "reset"],
)
def test_a_failing_provider_costs_nothing_and_keeps_its_status(
    world: World,
    unspoilt: Iterator[str],
    key: str,
    email: str,
    answer: Any,
    status: int,
    type_: str,
    says: str,
    streamed: bool,
) -> None:
    world.anthropic.brain = always(answer)
    model = next(unspoilt)
    response = send(world, json.dumps(HELLO | {"model": model, "stream": streamed}).encode(), key)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["type"] == type_
    assert says in error["message"]
    assert "secret-of-" not in response.text
    if status == 429:
        assert response.headers["retry-after"] == "7"
    (record,) = world.ccm.usage_records(email)
    assert (record["charge"], record["status"]) == (0, status)
    assert response.headers["x-ccm-provider"] == model.removesuffix("-model")


def test_an_unreachable_provider_is_named(world: World, key: str, email: str) -> None:
    response = send(world, json.dumps(HELLO | {"model": "down-model"}).encode(), key)
    message = refusal(response, 500, "api_error")
    assert "The provider down could not be reached (connection refused)" in message
    (record,) = world.ccm.usage_records(email)
    assert record["charge"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("POST", "/v1/complete", 404), ("GET", "/v1/messages", 405), ("PUT", "/v1", 404)],
)
def test_what_is_not_there_says_what_is(world: World, method: str, path: str, status: int) -> None:
    response = httpx.request(method, world.ccm.url + path, timeout=30, trust_env=False)
    assert response.status_code == status
    assert "/v1/messages" in response.json()["error"]["message"]
