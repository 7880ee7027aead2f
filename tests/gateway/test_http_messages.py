"""What `/v1` serves, over a real socket."""

import gzip
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fakes.answers import End, Failure, Reply, Text, Tokens
from tests.fakes.brain import InOrder, always, saying
from tests.world import PRICES, World

HELLO: dict[str, Any] = {
    "model": "anthropic-model",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello"}],
}


@pytest.fixture
def key(world: World, email: str) -> str:
    world.make_default("anthropic")
    world.anthropic.clear()
    world.openai.clear()
    world.anthropic.brain = world.openai.brain = saying("Welcome.")
    return world.ccm.create_key(email)


def call(world: World, method: str, path: str, key: str = "", **options: Any) -> httpx.Response:
    headers = {"x-api-key": key, **options.pop("headers", {})} if key else options.pop("headers", {})
    return httpx.request(method, world.ccm.url + path, headers=headers, timeout=60, trust_env=False, **options)


def test_the_provider_gets_the_client_s_bytes_but_for_the_model(world: World, key: str) -> None:
    """Unknown fields, odd spacing, escapes and number forms all survive."""
    body = (
        b'{ "metadata" : {"user_id": "\\u00e9\\/"} , "temperature":1.50 ,"model":"anthropic-model", "max_tokens":100,'
        b'"messages":[ {"role":"user","content":[{"type":"text","text":"h\\u0069","novel":null}],"extra":true} ]}'
    )
    response = call(world, "POST", "/v1/messages?beta=true", key, content=body)
    assert response.status_code == 200, response.text
    (request,) = world.anthropic.requests
    for kept in (
        b'{"user_id": "\\u00e9\\/"}',
        b'"temperature":1.50',
        b'[ {"role":"user","content":[{"type":"text","text":"h\\u0069"',
    ):
        assert kept in request.raw
    assert request.body == json.loads(body) | {"model": "anthropic-actual"}
    assert request.headers["x-api-key"] == "secret-of-anthropic"
    assert key not in str(request.headers)


def test_the_answer_says_how_it_was_routed_and_what_it_cost(world: World, key: str, email: str) -> None:
    world.anthropic.brain = always(Reply(tokens=Tokens(input=100, output=20, cache_read=1000, cache_write=10)))
    response = call(world, "POST", "/v1/messages", key, json=HELLO)
    cost = 100 * PRICES["input"] + 20 * PRICES["output"] + 1000 * PRICES["cache_read"] + 10 * PRICES["cache_write"]
    assert response.headers["x-ccm-route"] == "explicit"
    assert response.headers["x-ccm-model"] == "anthropic-model"
    assert response.headers["x-ccm-provider"] == "anthropic"
    assert response.headers["x-ccm-attempts"] == "1"
    assert response.headers["x-ccm-cost"] == f"0.{cost:09d}"
    assert response.json()["model"] == "anthropic-model"
    (record,) = world.ccm.usage_records(email)
    assert record["request_id"] == response.headers["request-id"]
    assert (record["charge"], record["status"], record["route"]) == (cost, 200, "explicit")
    assert record["margin"] == record["charge"] - record["cost"] > 0
    assert [rule["rule"] for rule in record["why"]][-1] == "explicit"


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_streamed_and_not_an_answer_is_the_same_and_costs_the_same(
    world: World, key: str, email: str, provider: str
) -> None:
    fake = world.fake(provider)
    fake.brain = always(Reply(blocks=[Text("The same answer either way.")], tokens=Tokens(input=7, output=9)))
    body = HELLO | {"model": f"{provider}-model"}
    whole = call(world, "POST", "/v1/messages", key, json=body).json()
    streamed = call(world, "POST", "/v1/messages", key, json=body | {"stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    text = "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"] == "The same answer either way."
    first, second = world.ccm.usage_records(email)
    for column in ("charge", "cost", "input_tokens", "output_tokens", "usage_source", "stop_reason"):
        assert first[column] == second[column], column
    assert first["usage_source"] == "provider"


def test_a_gzipped_request_is_served(world: World, key: str) -> None:
    body = gzip.compress(json.dumps(HELLO).encode())
    assert (
        call(world, "POST", "/v1/messages", key, content=body, headers={"content-encoding": "gzip"}).status_code == 200
    )


def test_a_base_url_that_wrongly_ends_in_v1_works(world: World, key: str) -> None:
    assert call(world, "POST", "/v1/v1/messages?beta=true", key, json=HELLO).status_code == 200
    assert call(world, "HEAD", "/v1").status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/hello"])
def test_the_client_s_warm_up_is_answered_at_once(world: World, path: str) -> None:
    response = call(world, "HEAD", path)
    assert response.status_code == 200
    assert response.content == b""


def test_counting_tokens_is_free(world: World, email: str) -> None:
    poor = world.ccm.create_key(email, usd="")
    body = {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": "one two three four"}]}
    with ThreadPoolExecutor(15) as pool:
        responses = list(
            pool.map(lambda _: call(world, "POST", "/v1/messages/count_tokens", poor, json=body), range(15))
        )
    counts = {response.json()["input_tokens"] for response in responses}
    assert len(counts) == 1
    assert 4 <= counts.pop() <= 20
    assert world.ccm.usage_records(email) == []


def test_a_probe_is_answered_here_and_free(world: World, key: str, email: str) -> None:
    body = {"model": "claude-opus-5-5", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    response = call(world, "POST", "/v1/messages", key, json=body)
    assert response.json()["type"] == "message"
    assert response.json()["usage"]["input_tokens"] > 0
    assert world.anthropic.requests == []
    assert world.ccm.usage_records(email) == []


def test_models_are_listed_in_pages(world: World, key: str) -> None:
    everything = call(world, "GET", "/v1/models?limit=1000", key).json()
    ids = [model["id"] for model in everything["data"]]
    assert {"anthropic-model", "openai-model", "openai-agent"} <= set(ids)
    assert not everything["has_more"]
    first = call(world, "GET", "/v1/models?limit=2", key).json()
    assert [model["id"] for model in first["data"]] == ids[:2]
    assert first["has_more"]
    after = call(world, "GET", f"/v1/models?limit=2&after_id={first['last_id']}", key).json()
    assert [model["id"] for model in after["data"]] == ids[2:4]
    before = call(world, "GET", f"/v1/models?limit=1&before_id={after['first_id']}", key).json()
    assert [model["id"] for model in before["data"]] == [ids[1]]
    assert call(world, "GET", "/v1/models?limit=0", key).status_code == 400
    assert call(world, "GET", "/v1/models").status_code == 401


def test_claude_code_s_picker_gets_ids_that_it_keeps_and_that_work(world: World, key: str) -> None:
    listed = call(world, "GET", "/v1/models?limit=1000", key, headers={"user-agent": "claude-code/2.1.330"}).json()
    ids = [model["id"] for model in listed["data"]]
    assert "anthropic/openai-model" in ids
    assert all(id_.startswith(("claude", "anthropic")) for id_ in ids)
    response = call(world, "POST", "/v1/messages", key, json=HELLO | {"model": "anthropic/openai-model"})
    assert response.headers["x-ccm-model"] == "openai-model"


def test_one_model_is_found_by_its_id(world: World, key: str) -> None:
    model = call(world, "GET", "/v1/models/openai-model", key).json()
    assert (model["id"], model["type"]) == ("openai-model", "model")
    missing = call(world, "GET", "/v1/models/no-such-model", key)
    assert missing.status_code == 404
    assert "no-such-model" in missing.json()["error"]["message"]


def test_a_second_target_takes_over_unseen(world: World, key: str, email: str) -> None:
    world.ccm.import_config(
        """
        [[models]]
        name = "two-targets"
        max_output = 32000
        tools = true
        input = "3"
        output = "15"
        [[models.mappings]]
        provider = "anthropic"
        actual_model = "first"
        priority = 1
        [[models.mappings]]
        provider = "openai"
        actual_model = "second"
        priority = 2
        """
    )
    world.await_model(key, "two-targets")
    world.anthropic.brain = InOrder(
        Failure(529, type="overloaded_error"),
        Reply(events=2, end=End.ERROR),  # an error inside a 200, before any content
        Reply(events=1, end=End.RESET),
    )
    world.openai.brain = saying("From the second.")
    for _ in range(3):
        response = call(world, "POST", "/v1/messages", key, json=HELLO | {"model": "two-targets", "stream": True})
        assert response.status_code == 200
        assert "second" in response.text
        assert response.text.count("event: message_start") == 1
        assert (response.headers["x-ccm-provider"], response.headers["x-ccm-attempts"]) == ("openai", "2")
    records = world.ccm.usage_records(email)
    assert len(records) == 3
    for record in records:
        assert [attempt["provider"] for attempt in record["attempts"]] == ["anthropic", "openai"]
        assert record["charge"] > 0


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
@pytest.mark.parametrize("end", [End.EOF, End.RESET, End.ERROR])
def test_a_stream_cut_after_content_ends_in_an_error_event_and_costs_what_came(
    world: World, key: str, email: str, provider: str, end: End
) -> None:
    world.fake(provider).brain = always(Reply(blocks=[Text("word " * 200, pieces=200)], events=100, end=end))
    body = HELLO | {"model": f"{provider}-model", "max_tokens": 2000, "stream": True}
    response = call(world, "POST", "/v1/messages", key, json=body)
    assert response.status_code == 200
    assert "event: error" in response.text
    assert "message_stop" not in response.text
    error = json.loads(response.text.rsplit("data: ", 1)[1])
    assert error["request_id"] == response.headers["request-id"]
    (record,) = world.ccm.usage_records(email)
    seen = response.text.count("word ")
    assert seen > 0
    assert seen <= record["output_tokens"] <= 400
    assert record["charge"] > 0
    assert record["usage_source"] in {"provider_partial", "counted"}


def test_a_small_balance_is_never_overspent_by_many_at_once(world: World, email: str) -> None:
    """Thirty requests at once, of which the balance affords about three."""
    world.make_default("anthropic")
    world.anthropic.brain = always(Reply(tokens=Tokens(input=100, output=1000), first_byte_after=0.3))
    each = 100 * PRICES["input"] + 1000 * PRICES["output"]
    poor = world.ccm.create_key(email, usd="0.05")
    barrier = threading.Barrier(30)

    def one(_: int) -> int:
        barrier.wait(30)
        return call(world, "POST", "/v1/messages", poor, json=HELLO | {"max_tokens": 1000}).status_code

    with ThreadPoolExecutor(30) as pool:
        statuses = list(pool.map(one, range(30)))
    assert set(statuses) == {200, 402}
    served = statuses.count(200)
    records = world.ccm.usage_records(email)
    assert len(records) == served
    assert sum(record["charge"] for record in records) == served * each <= 50_000_000
    reconciled = world.ccm.run("reconcile")
    assert reconciled.returncode == 0, reconciled.stdout


def test_fewer_credits_than_the_worst_case_cap_what_the_provider_may_write(world: World, email: str) -> None:
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = saying("Short.")
    poor = world.ccm.create_key(email, usd="0.05")
    assert call(world, "POST", "/v1/messages", poor, json=HELLO | {"max_tokens": 32000}).status_code == 200
    (request,) = world.anthropic.requests
    assert 256 <= request.body["max_tokens"] < 0.025 / 15e-6


def test_metrics_are_only_for_those_who_have_the_token(world: World) -> None:
    assert call(world, "GET", "/metrics").status_code == 404
    assert call(world, "GET", "/metrics", headers={"authorization": "Bearer wrong"}).status_code == 404


def test_health_tells_what_works(world: World) -> None:
    assert call(world, "GET", "/health/live").json() == {"status": "ok"}
    ready = call(world, "GET", "/health/ready").json()
    assert ready == {"status": "ok", "database": "ok", "writer": "ok", "catalogue": "ok", "valkey": "ok"}


def test_no_prompt_answer_or_key_reaches_the_log(world: World, key: str) -> None:
    world.anthropic.brain = saying("an-answer-to-find")
    secret = HELLO | {"messages": [{"role": "user", "content": "a-prompt-to-find"}]}
    call(world, "POST", "/v1/messages", key, json=secret)
    world.anthropic.brain = always(Failure(500, "a-provider-s-words"))
    call(world, "POST", "/v1/messages", key, json=secret)
    log = world.ccm.log.read_text()
    assert "attempt_failed" in log
    for hidden in ("a-prompt-to-find", "an-answer-to-find", key, "secret-of-anthropic"):
        assert hidden not in log
