"""Limits, a key's models and overload at the HTTP boundary, on one CCM that these tests have to themselves."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fakes.answers import End, Reply, Silence, Tokens
from tests.fakes.brain import always, saying
from tests.fakes.server import FakeProvider
from tests.processes import NewDatabase
from tests.world import World

MOST_ACTIVE = 12
HELLO: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture(scope="module")
def limited(new_database: NewDatabase) -> Iterator[World]:
    settings = {"CCM_MAX_ACTIVE_REQUESTS": str(MOST_ACTIVE), "CCM_LIMIT_KEY_REQUESTS": "1000"}
    with new_database() as url, World(database_url=url, settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def customers(limited: World) -> list[tuple[str, str]]:
    return limited.ccm.create_customers(8)


@pytest.fixture
def customer(customers: list[tuple[str, str]]) -> tuple[str, str]:
    return customers.pop()


@pytest.fixture
def email(customer: tuple[str, str]) -> str:
    return customer[0]


@pytest.fixture
def key(limited: World, customer: tuple[str, str]) -> str:
    limited.anthropic.clear()
    limited.anthropic.brain = saying("Welcome.")
    return customer[1]


def restrict(world: World, email: str, statement: str) -> None:
    """Run `statement` on the customer's newest `key` and its `organization`."""
    world.ccm.python(
        "from accounts.models import ApiKey; from accounts.services import *; from accounts.types import Limits; "
        f"key = ApiKey.objects.filter(organization__members__email={email!r}).latest('pk'); "
        f"organization = key.organization; {statement}"
    )


def send(world: World, key: str, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    return httpx.post(f"{world.ccm.url}{path}", json={**HELLO, **fields}, headers=headers, timeout=60, trust_env=False)


@pytest.fixture
def held(limited: World, key: str) -> Iterator[FakeProvider]:
    """The provider, which answers once it is told to resume."""
    limited.anthropic.brain = always(Reply(end=End.STALL))
    limited.anthropic.stall()
    yield limited.anthropic
    limited.anthropic.resume()


def until_served(world: World, key: str) -> None:
    """A slot is given back just after its answer."""
    deadline = time.monotonic() + 30
    while send(world, key).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- limits -----------------------------------------------------------------------------------


def test_a_limit_of_requests(limited: World, key: str, email: str):
    restrict(limited, email, "set_limits(owner=key, limits=Limits(requests=2))")
    served = [send(limited, key) for _ in range(2)]
    assert [each.status_code for each in served] == [200, 200]
    assert served[1].headers["anthropic-ratelimit-requests-limit"] == "2"
    assert served[1].headers["anthropic-ratelimit-requests-remaining"] == "0"
    refused = send(limited, key)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "limit of 2 requests per minute" in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-should-retry"] == "true"
    reset = time.strptime(refused.headers["anthropic-ratelimit-requests-reset"], "%Y-%m-%dT%H:%M:%SZ")
    assert reset > time.gmtime()
    assert len(limited.anthropic.requests) == 2
    assert len(limited.ccm.usage_records(email)) == 2
    # Counting and the model list are free of it; OpenAI's clients get the error in their own form.
    count = {"model": HELLO["model"], "messages": HELLO["messages"]}
    headers = {"x-api-key": key}
    for _ in range(4):
        url = f"{limited.ccm.url}/v1/messages/count_tokens"
        assert httpx.post(url, json=count, headers=headers, timeout=60, trust_env=False).status_code == 200
    openai = send(limited, key, "/v1/chat/completions")
    assert (openai.status_code, openai.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_a_limit_of_tokens_counts_what_was_used(limited: World, key: str, email: str):
    limited.anthropic.brain = lambda _: Reply(tokens=Tokens(input=10, output=900))
    restrict(limited, email, "set_limits(owner=organization, limits=Limits(output_tokens=1000))")
    first = send(limited, key)
    assert first.headers["anthropic-ratelimit-output-tokens-limit"] == "1000"
    assert send(limited, key).status_code == 200
    refused = None
    deadline = time.monotonic() + 30
    while refused is None or refused.status_code != 429:  # what was used is told just after the answer
        assert time.monotonic() < deadline
        refused = send(limited, key)
    assert "organisation's limit of 1,000 output tokens per minute" in refused.json()["error"]["message"]


def test_of_many_requests_at_once_exactly_so_many_are_served(limited: World, key: str, email: str, held: FakeProvider):
    restrict(limited, email, "set_limits(owner=key, limits=Limits(concurrency=3))")
    with ThreadPoolExecutor(3) as running, ThreadPoolExecutor(8) as others:
        served = [running.submit(send, limited, key) for _ in range(3)]
        held.wait_for(3)
        refused = list(others.map(lambda _: send(limited, key), range(8)))
        assert {each.status_code for each in refused} == {429}
        assert "3 requests at once" in refused[0].json()["error"]["message"]
        held.resume()
        assert [each.result().status_code for each in served] == [200, 200, 200]
    assert len(held.requests) == 3
    until_served(limited, key)


def test_a_client_that_leaves_gives_its_slot_back(limited: World, key: str, email: str, held: FakeProvider):
    restrict(limited, email, "set_limits(owner=key, limits=Limits(concurrency=1))")
    held.brain = always(Silence())
    headers = {"authorization": f"Bearer {key}"}
    url = f"{limited.ccm.url}/v1/messages"
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
        client.post(url, json={**HELLO, "stream": True}, headers=headers, timeout=httpx.Timeout(60, read=2))
    (left,) = held.wait_for(1)
    assert left.finished.wait(30)
    held.brain = saying("Welcome.")
    until_served(limited, key)


# --- a key's models ---------------------------------------------------------------------------


def test_a_key_may_use_only_its_models(limited: World, key: str, email: str):
    restrict(limited, email, "set_allowed_models(key=key, names=['openai-agent', 'openai-model'])")
    refused = send(limited, key)  # the default route leads to another
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "policy_blocked"
    assert "'anthropic-model'" in refused.json()["error"]["message"]
    assert "openai-agent, openai-model" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert send(limited, key, model="anthropic/anthropic-agent").status_code == 400
    tagged = {"system": "<CCM-SUBAGENT-MODEL>anthropic-agent</CCM-SUBAGENT-MODEL>"}
    assert send(limited, key, **tagged).json()["error"]["type"] == "policy_blocked"
    assert limited.anthropic.requests == []
    assert send(limited, key, model="openai-agent").status_code == 200
    headers = {"x-api-key": key}
    listed = httpx.get(f"{limited.ccm.url}/v1/models", headers=headers, timeout=60, trust_env=False).json()
    assert [model["id"] for model in listed["data"]] == ["openai-agent", "openai-model"]
    one = httpx.get(f"{limited.ccm.url}/v1/models/anthropic-agent", headers=headers, timeout=60, trust_env=False)
    assert one.status_code == 404
    told = send(limited, key, "/api/v1/route").json()["error"]
    assert (told["code"], told["metadata"]["code"]) == (400, "model_not_allowed")
    assert told["metadata"]["rules"][-1] == {
        "rule": "default",
        "matched": True,
        "why": 'No other route applies: "anthropic-model" serves.',
    }


# --- overload ---------------------------------------------------------------------------------


def test_the_tenant_with_most_under_way_is_refused_first(
    limited: World, key: str, customers: list[tuple[str, str]], held: FakeProvider
):
    _, other = customers.pop()
    with ThreadPoolExecutor(MOST_ACTIVE + 1) as running:
        served = [running.submit(send, limited, key) for _ in range(MOST_ACTIVE)]
        held.wait_for(MOST_ACTIVE)
        refused = send(limited, key)
        assert (refused.status_code, refused.json()["error"]["type"]) == (529, "overloaded_error")
        assert int(refused.headers["retry-after"]) > 0
        served.append(running.submit(send, limited, other))  # who has none under way is served
        held.wait_for(MOST_ACTIVE + 1)
        held.resume()
        assert {each.result().status_code for each in served} == {200}
    assert send(limited, key).status_code == 200


# --- the last one: it ends the Valkey ---------------------------------------------------------


def test_without_valkey_requests_are_served_and_still_limited(limited: World, key: str, email: str, held: FakeProvider):
    restrict(limited, email, "set_limits(owner=key, limits=Limits(concurrency=2))")
    with ThreadPoolExecutor(2) as running:
        served = [running.submit(send, limited, key)]
        held.wait_for(1)
        assert limited.ccm._valkey is not None
        limited.ccm._valkey.stop()
        served.append(running.submit(send, limited, key))
        held.wait_for(2)
        assert send(limited, key).status_code == 429
        held.resume()
        assert [each.result().status_code for each in served] == [200, 200]
    assert send(limited, key).status_code == 200
