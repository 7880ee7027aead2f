"""Hybrid mode: a real LiteLLM proxy beside CCM's own providers, and without it again. `make e2e-litellm`."""

import json
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.e2e import litellm
from tests.e2e.clients import NotInstalled
from tests.fakes.answers import Failure
from tests.fakes.brain import always, saying
from tests.world import World

ASKED = os.environ.get("CCM_E2E_LITELLM") == "1"
NANOS = 10**9
CONFIG = """
[router]
think = "hybrid"
[[providers]]
name = "lite"
kind = "litellm"
base_url = "{url}"
api_key = "{key}"
[[models]]
name = "hybrid"
context_window = 100000
max_output = 4000
input = "6"
output = "30"
[[models.mappings]]
provider = "lite"
actual_model = "lite-actual"
priority = 1
cost = {{ input = "3", output = "15" }}
[[models]]
name = "anthropic-model"
[[models.mappings]]
provider = "lite"
actual_model = "lite-actual"
priority = 99
cost = {{ input = "3", output = "15" }}
"""
EMAIL = "hybrid@example.com"
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}

pytestmark = pytest.mark.skipif(not ASKED, reason="`make e2e-litellm` installs LiteLLM (700 MB) and runs this")


@pytest.fixture(scope="module")
def proxy(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[litellm.LiteLLM]:
    try:
        program = litellm.install()
    except NotInstalled as error:
        pytest.fail(str(error), pytrace=False)
    world.openai.brain = saying(litellm.SAYS)
    with litellm.running(program, tmp_path_factory.mktemp("litellm"), world.openai.base_url) as made:
        yield made


@pytest.fixture(scope="module")
def key(world: World, proxy: litellm.LiteLLM) -> str:
    world.make_default("anthropic")
    made = world.ccm.create_key(EMAIL)
    world.ccm.import_config(CONFIG.format(url=proxy.url, key=proxy.key))
    world.await_model(made, "hybrid")
    return made


def ask(world: World, key: str, model: str, **fields: Any) -> httpx.Response:
    body = {"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return world.post(key, body)


def text_of(response: httpx.Response) -> str:
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["content"][0]["text"])
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "message_stop"
    return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")


@pytest.mark.parametrize("stream", [False, True])
def test_litellm_serves_a_model_and_costs_what_it_says(
    world: World, key: str, proxy: litellm.LiteLLM, stream: bool
) -> None:
    answer = ask(world, key, "hybrid", stream=stream)
    assert answer.status_code == 200, answer.text
    assert text_of(answer) == litellm.SAYS
    assert answer.headers["x-ccm-provider"] == "lite"
    record = next(r for r in world.ccm.usage_records(EMAIL) if r["request_id"] == answer.headers["request-id"])
    assert record["cost"] == record["input_tokens"] * litellm.INPUT + record["output_tokens"] * litellm.OUTPUT
    assert record["charge"] == 2 * record["cost"]
    if not stream:
        direct = httpx.post(
            f"{proxy.url}/v1/messages",
            json={"model": "lite-actual", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]},
            headers={"authorization": f"Bearer {proxy.key}", "anthropic-version": "2023-06-01"},
            timeout=60,
            trust_env=False,
        )
        assert direct.status_code == 200, direct.text
        assert record["cost"] == int(Decimal(direct.headers["x-litellm-response-cost"]) * NANOS)


def test_a_route_may_lead_to_it(world: World, key: str) -> None:
    answer = ask(world, key, "claude-opus-5-5", **THINKING)
    assert answer.status_code == 200, answer.text
    assert (answer.headers["x-ccm-route"], answer.headers["x-ccm-model"]) == ("think", "hybrid")


def test_litellm_is_the_last_resort_of_another_model(world: World, key: str) -> None:
    world.anthropic.clear()
    world.anthropic.brain = always(Failure(500, "broken", type="api_error"))
    answer = ask(world, key, "anthropic-model")
    assert answer.status_code == 200, answer.text
    assert (text_of(answer), answer.headers["x-ccm-provider"]) == (litellm.SAYS, "lite")
    assert world.anthropic.requests
    world.anthropic.brain = saying("Anthropic itself.")


def test_without_litellm_nothing_of_it_is_left(world: World, key: str) -> None:
    world.anthropic.brain = saying("Anthropic itself.")
    world.ccm.python("from providers.models import Provider; Provider.objects.get(name='lite').delete()")
    left = world.ccm.python(
        "from providers.models import Credential, Mapping; "
        "print(Mapping.objects.filter(actual_model='lite-actual').count(), "
        "Credential.objects.filter(provider__isnull=True).count())"
    )
    assert left == "0 0"
    deadline = time.monotonic() + 10
    while (answer := ask(world, key, "hybrid")).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)  # until the running server has taken it up
    assert answer.status_code == 400, answer.text
    assert "hybrid" in answer.json()["error"]["message"]
    answer = ask(world, key, "anthropic-model")
    assert (text_of(answer), answer.headers["x-ccm-provider"]) == ("Anthropic itself.", "anthropic")
    thinking = ask(world, key, "claude-opus-5-5", **THINKING)
    assert thinking.status_code == 200, thinking.text
    assert thinking.headers["x-ccm-model"] == "anthropic-model"
    assert world.ccm.run("reconcile").returncode == 0
