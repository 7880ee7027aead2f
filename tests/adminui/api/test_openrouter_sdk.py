"""/api/v1 by OpenRouter's own SDK with our base URL, and keys that are made and changed there."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from openrouter import OpenRouter, errors

from tests.adminui.api.support import api, data
from tests.fakes.answers import Reply, Tokens
from tests.fakes.brain import always, saying
from tests.world import World

pytestmark = pytest.mark.filterwarnings("ignore:.*DEPRECATED.*:DeprecationWarning")
HELLO: dict[str, Any] = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def management(world: World, managers: dict[str, str], customer: tuple[str, str]) -> str:
    """A management key of the customer's."""
    world.anthropic.clear()
    world.anthropic.brain = saying("Welcome.")
    return managers[customer[0]]


@pytest.fixture
def sdk(world: World, management: str) -> Iterator[OpenRouter]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield OpenRouter(api_key=management, server_url=f"{world.ccm.url}/api/v1", client=client, retry_config=None)


def message(world: World, key: str) -> httpx.Response:
    return world.post(key, HELLO)


def test_a_key_lives_from_its_making_to_its_end(world: World, sdk: OpenRouter):
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    made = sdk.api_keys.create(name="robot", limit=2.5, limit_reset="daily", expires_at=expires)
    secret, hash_ = made.key, made.data.hash
    assert (made.data.name, made.data.limit, made.data.limit_reset) == ("robot", 2.5, "daily")
    assert (made.data.limit_remaining, made.data.disabled, made.data.expires_at) == (2.5, False, expires)
    assert secret.startswith("sk-ccm-")
    assert made.data.label == f"sk-ccm-…{secret[-4:]}"

    world.anthropic.brain = always(Reply(tokens=Tokens(input=1000, output=100)))
    assert message(world, secret).status_code == 200
    found = sdk.api_keys.get(hash=hash_).data
    assert found.usage == found.usage_daily == found.usage_monthly == 0.0045
    assert found.limit_remaining == 2.5 - 0.0045
    assert found.last_used_at is not None

    changed = sdk.api_keys.update(hash=hash_, name="droid", disabled=True, limit=0.001, limit_reset="monthly").data
    assert (changed.name, changed.disabled, changed.limit, changed.limit_reset) == ("droid", True, 0.001, "monthly")
    assert changed.updated_at is not None
    assert message(world, secret).status_code == 401
    listed = [key.hash for key in sdk.api_keys.list().data]
    assert hash_ not in listed
    assert hash_ in [key.hash for key in sdk.api_keys.list(include_disabled=True).data]

    sdk.api_keys.update(hash=hash_, disabled=False)
    refused = message(world, secret)
    assert (refused.status_code, refused.json()["error"]["type"]) == (402, "billing_error"), refused.text
    assert sdk.api_keys.update(hash=hash_, limit=None).data.limit is None
    assert message(world, secret).status_code == 200

    assert sdk.api_keys.delete(hash=hash_).DELETED is True
    assert message(world, secret).status_code == 401
    with pytest.raises(errors.NotFoundResponseError):
        sdk.api_keys.get(hash=hash_)


def test_keys_are_listed_in_pages(sdk: OpenRouter, world: World, management: str):
    for number in range(3):
        sdk.api_keys.create(name=f"key {number}")
    assert [key.name for key in sdk.api_keys.list().data][:3] == ["key 2", "key 1", "key 0"]
    assert [key.name for key in sdk.api_keys.list(offset=1).data][:2] == ["key 1", "key 0"]
    page = data(api(world, "GET", "/keys?limit=1&offset=2", management))
    assert [key["name"] for key in page] == ["key 0"]


def test_a_management_key_cannot_send_requests(world: World, sdk: OpenRouter, management: str, customer: Any):
    for method, path in (
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/models"),
    ):
        answer = httpx.request(
            method, world.ccm.url + path, json=HELLO, headers={"authorization": f"Bearer {management}"}, trust_env=False
        )
        assert answer.status_code == 403, (path, answer.text)
        assert "management key" in answer.json()["error"]["message"]
    assert world.anthropic.requests == []
    assert sdk.api_keys.get_current_key_metadata().data.is_management_key is True


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/keys"), ("POST", "/keys"), ("GET", "/keys/1"), ("PATCH", "/keys/1"), ("DELETE", "/keys/1"),
     ("GET", "/credits"), ("GET", "/activity")],
)  # fmt: skip
def test_an_ordinary_key_manages_nothing(world: World, reader: str, method: str, path: str):
    body = {"json": {"name": "x"}} if method in {"POST", "PATCH"} else {}
    answer = api(world, method, path, reader, **body)
    assert answer.status_code == 403
    assert "management keys" in answer.json()["error"]["message"]


def test_a_management_key_does_no_more_than_who_made_it(world: World, sdk: OpenRouter, customer: tuple[str, str]):
    email = customer[0]
    role = "from accounts.models import Membership; Membership.objects.filter(user__email={!r}).update(role={!r})"
    world.ccm.python(role.format(email, "developer"))
    try:
        with pytest.raises(errors.ForbiddenResponseError, match="manage other people's API keys"):
            sdk.api_keys.create(name="x")
    finally:
        world.ccm.python(role.format(email, "owner"))


def test_another_tenants_key_is_not_there(world: World, sdk: OpenRouter, stranger: str):
    mine = sdk.api_keys.create(name="mine").data.hash
    for method, body in (("GET", {}), ("PATCH", {"json": {"disabled": True}}), ("DELETE", {})):
        assert api(world, method, f"/keys/{mine}", stranger, **body).status_code == 404
    assert api(world, "GET", f"/activity?api_key_hash={mine}", stranger).status_code == 404
    assert mine not in [key["hash"] for key in data(api(world, "GET", "/keys", stranger))]
    assert sdk.api_keys.get(hash=mine).data.disabled is False


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "limit": -1}, "limit"),
        ({"name": "x", "limit": 0.0000000001}, "limit"),
        ({"name": "x", "limit_reset": "daily"}, "limit_reset"),
        ({"name": "x", "limit": 1, "limit_reset": "hourly"}, "limit_reset"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "allowed_models": ["nothing"]}, "allowed_models"),
        ({"name": "x", "colour": "red"}, "colour"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_its_field(
    world: World, reading_manager: str, body: dict[str, Any], field: str
):
    before = data(api(world, "GET", "/keys", reading_manager))
    answer = api(world, "POST", "/keys", reading_manager, json=body)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]
    assert data(api(world, "GET", "/keys", reading_manager)) == before


def test_credits_and_activity(world: World, sdk: OpenRouter, customer: tuple[str, str], management: str):
    world.anthropic.brain = always(Reply(tokens=Tokens(input=1000, output=100)))
    message(world, customer[1])
    message(world, customer[1])
    have = sdk.credits.get_credits().data
    assert (have.total_credits, have.total_usage) == (100, 0.009)
    assert sdk.analytics.get_user_activity().data == []  # today is not complete
    today = datetime.now(UTC).date().isoformat()
    (item,) = sdk.analytics.get_user_activity(request={"date_": today}).data
    assert (item.date_, item.model, item.provider_name) == (today, "anthropic-model", "anthropic")
    assert (item.requests, item.prompt_tokens, item.completion_tokens, item.usage) == (2, 2000, 200, 0.009)
    other = sdk.api_keys.create(name="unused").data.hash
    assert sdk.analytics.get_user_activity(request={"date_": today, "api_key_hash": other}).data == []
    for wrong in ("yesterday", "2020-01-01", "2999-01-01"):
        assert api(world, "GET", f"/activity?date={wrong}", management).status_code == 400


def test_the_key_that_asks(world: World, customer: tuple[str, str]):
    with httpx.Client(trust_env=False, timeout=60) as client:
        found = OpenRouter(api_key=customer[1], server_url=f"{world.ccm.url}/api/v1", client=client, retry_config=None)
        told = found.api_keys.get_current_key_metadata().data
    assert told.label == f"sk-ccm-…{customer[1][-4:]}"
    assert (told.limit, told.usage, told.is_management_key, told.budgets) == (None, 0, False, [])


def test_models_with_exact_prices(sdk: OpenRouter, world: World):
    page = sdk.models.list()
    assert page is not None
    found = {model.id: model for model in page.result.data}
    model = found["anthropic-model"]
    assert (model.pricing.prompt, model.pricing.completion) == ("0.000003", "0.000015")
    assert (model.pricing.input_cache_read, model.pricing.input_cache_write) == ("0.0000003", "0.00000375")
    assert (model.context_length, model.top_provider.max_completion_tokens) == (1_000_000, 32_000)
    assert "image" in model.architecture.input_modalities
    assert {"tools", "reasoning"} <= set(model.supported_parameters)
    assert page.result.total_count == len(found) == sdk.models.count().data.count
    public = httpx.get(f"{world.ccm.url}/api/v1/models?limit=1&offset=1", trust_env=False).json()
    assert [each["id"] for each in public["data"]] == [sorted(found)[1]]
    assert public["links"]["next"] == "?offset=2&limit=1"
    details = httpx.get(world.ccm.url + model.links.details, trust_env=False).json()["data"]
    assert details["id"] == "anthropic-model"
    assert httpx.get(f"{world.ccm.url}/api/v1/models/nothing", trust_env=False).status_code == 404


def test_a_limited_key_sees_the_models_that_it_may_use(world: World, sdk: OpenRouter, management: str):
    body = {"name": "narrow", "allowed_models": ["openai-model"]}
    made = api(world, "POST", "/keys", management, json=body).json()
    assert [each["id"] for each in data(api(world, "GET", "/models/user", made["key"]))] == ["openai-model"]
    assert len(data(api(world, "GET", "/models/user", management))) > 1
    assert "may not use" in message(world, made["key"]).json()["error"]["message"]


def test_generation_and_status(world: World, sdk: OpenRouter, customer: tuple[str, str]):
    world.anthropic.brain = always(Reply(tokens=Tokens(input=1000, output=100)))
    served = message(world, customer[1])
    found = sdk.generations.get_generation(id=served.headers["request-id"]).data
    assert (found.model, found.total_cost, found.native_tokens_completion) == ("anthropic-model", 0.0045, 100)
    told = data(api(world, "GET", "/status?window=1h", customer[1]))
    assert {provider["name"] for provider in told["providers"]} == {"anthropic", "down", "openai"}
    assert api(world, "GET", "/status?window=9y", customer[1]).status_code == 400
