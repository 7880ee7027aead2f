"""Every wire, streamed and not, is charged by class from the price that its hold was made with.

Named after the bugs of peers: LiteLLM #37923 (streams of one provider family were logged at almost
nothing), #38176 (one endpoint went past the budgets), #11364 and #11789 (cached tokens charged
twice), new-api #7062 (the end of a stream decided whether it was charged at all).
"""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.fakes.answers import End, Reply, Text, Tokens
from tests.fakes.anthropic import fake_anthropic
from tests.fakes.brain import always
from tests.fakes.openai import fake_openai
from tests.fakes.server import FakeProvider
from tests.world import World

MODEL = """
[[models]]
name = "{provider}-priced"
context_window = 1000000
max_output = 32000
input = "2"
output = "8"
cache_read = "0.5"
cache_write = "3"
cache_write_1h = "5"
tiers = [{{ above = 1000, input = "4", output = "12", cache_read = "1", cache_write = "6", cache_write_1h = "10" }}]
[[models.mappings]]
provider = "{provider}"
actual_model = "{provider}-priced-actual"
cost = {{ input = "1", output = "4", tiers = [{{ above = 1000, input = "3", output = "5" }}] }}
[[models]]
name = "{provider}-marked-up"
markup = "0.25"
max_output = 32000
[[models.mappings]]
provider = "{provider}"
actual_model = "{provider}-marked-up-actual"
cost = {{ input = "4", output = "8", tiers = [{{ above = 1000, input = "8", output = "16" }}] }}
[[models]]
name = "{provider}-costless"
input = "2"
output = "8"
max_output = 32000
[[models.mappings]]
provider = "{provider}"
actual_model = "{provider}-costless-actual"
[[models]]
name = "{provider}-priceless"
max_output = 32000
[[models.mappings]]
provider = "{provider}"
actual_model = "{provider}-priceless-actual"
cost = {{ input = "1", output = "4" }}
"""
MOVING = """
[[providers]]
name = "slow-{provider}"
kind = "{provider}-compatible"
base_url = "{url}"
api_key = "secret"
[[models]]
name = "{provider}-moving"
input = "{input}"
output = "8"
max_output = 32000
[[models.mappings]]
provider = "slow-{provider}"
actual_model = "moving-actual"
"""
WIRES = ("anthropic", "openai")
STREAMED = (False, True)
EMAIL = "prices@example.com"
SHORT = {"input": 2000, "output": 8000, "cache_read": 500, "cache_write": 3000, "cache_write_1h": 5000}
LONG = {"input": 4000, "output": 12000, "cache_read": 1000, "cache_write": 6000, "cache_write_1h": 10000}
"""Nano-USD a token, up to 1000 input tokens and above."""

Records = dict[str, dict[str, Any]]


@dataclass
class Shop:
    """A running CCM with the models of this module, and one customer of it."""

    world: World
    slow: dict[str, FakeProvider]
    key: str

    def ask(self, model: str, tokens: Tokens, *, stream: bool) -> httpx.Response:
        """The whole answer has been read, and settled, when this returns."""
        wire = model.split("-")[0]
        for fake in (self.world.fake(wire), self.slow[wire]):
            fake.brain = always(Reply(tokens=tokens))
        response = self.world.post(self.key, body_for(model, stream=stream))
        assert response.status_code == 200, response.text
        return response

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.world.ccm.url + path, headers={"x-api-key": self.key}, timeout=30, trust_env=False)

    def models(self) -> set[str]:
        return {model["id"] for model in self.get("/v1/models?limit=1000").json()["data"]}

    def records(self) -> Records:
        return {row["request_id"]: row for row in self.world.ccm.usage_records(EMAIL)}

    def moving(self, input_: str) -> str:
        return "".join(MOVING.format(provider=wire, url=self.slow[wire].base_url, input=input_) for wire in WIRES)


def body_for(model: str, *, stream: bool) -> dict[str, Any]:
    return {"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}], "stream": stream}


@pytest.fixture(scope="module")
def shop(world: World) -> Iterator[Shop]:
    with fake_anthropic() as slow_anthropic, fake_openai() as slow_openai:
        key = world.ccm.create_key(EMAIL)
        made = Shop(world, {"anthropic": slow_anthropic, "openai": slow_openai}, key)
        world.ccm.import_config("".join(MODEL.format(provider=wire) for wire in WIRES) + made.moving("2"))
        deadline = time.monotonic() + 10
        while "openai-moving" not in made.models():
            assert time.monotonic() < deadline, "the running server has not taken the models up"
            time.sleep(0.05)
        yield made


def cases(wire: str) -> list[tuple[Tokens, dict[str, int]]]:
    """Usage on both sides of the tier's bound; OpenAI tells no cache writes."""
    short = [Tokens(input=700, output=20, cache_read=300), Tokens(input=7, output=900)]
    long = [Tokens(input=701, output=20, cache_read=300), Tokens(input=1, output=900, cache_read=1000)]
    if wire == "anthropic":
        short.append(Tokens(input=100, output=20, cache_read=300, cache_write=400, cache_write_1h=200))
        long.append(Tokens(input=101, output=20, cache_read=300, cache_write=400, cache_write_1h=200))
    return [(tokens, SHORT) for tokens in short] + [(tokens, LONG) for tokens in long]


def test_each_wire_streamed_and_not_is_charged_by_class_and_tier(shop: Shop) -> None:
    """All combinations in one test, since reading the records is a command of its own."""
    wanted: dict[str, Any] = {}
    costless = ""
    for wire, stream in itertools.product(WIRES, STREAMED):
        for tokens, rates in cases(wire):
            response = shop.ask(f"{wire}-priced", tokens, stream=stream)
            charge = sum(getattr(tokens, name) * rate for name, rate in rates.items())
            if not stream:
                assert response.headers["x-ccm-cost"] == f"0.{charge:09d}"
            paid, output = (1000, 4000) if rates is SHORT else (3000, 5000)
            writes = tokens.cache_write * paid * 5 // 4 + tokens.cache_write_1h * paid * 2
            cost = (tokens.input + tokens.cache_read) * paid + writes + tokens.output * output
            wanted[response.headers["request-id"]] = (wire, stream, charge, cost, charge - cost, "provider")
        # A markup is on the cost of a request of the same length.
        for tokens, cost in ((Tokens(input=1000, output=10), 4_080_000), (Tokens(input=1001, output=10), 8_168_000)):
            response = shop.ask(f"{wire}-marked-up", tokens, stream=stream)
            wanted[response.headers["request-id"]] = (wire, stream, cost * 5 // 4, cost, cost // 4, "provider")
        # An unknown cost is not zero: no margin is claimed.
        response = shop.ask(f"{wire}-costless", Tokens(input=100, output=10), stream=stream)
        wanted[response.headers["request-id"]] = (wire, stream, 280_000, 280_000, 0, "provider")
        costless = response.headers["request-id"]
    records = shop.records()
    for request_id, expected in wanted.items():
        row = records[request_id]
        columns = (row["charge"], row["cost"], row["margin"], row["usage_source"])
        assert (row["provider"], row["streamed"], *columns) == expected, row["model"]
    assert records[costless]["attempts"][-1]["cost"] == "unknown"


@pytest.mark.parametrize("stream", STREAMED, ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_model_without_a_price_is_refused_before_anything_is_sent(shop: Shop, wire: str, stream: bool) -> None:
    shop.world.fake(wire).clear()
    response = shop.world.post(shop.key, body_for(f"{wire}-priceless", stream=stream))
    assert response.status_code == 400
    assert "has no price yet" in response.json()["error"]["message"]
    assert shop.world.fake(wire).requests == []
    assert f"{wire}-priceless" not in shop.models()
    named = shop.get(f"/v1/models/{wire}-priceless")
    assert named.status_code == 404
    assert "has no price yet" in named.json()["error"]["message"]


def test_a_price_that_changes_under_way_does_not_reach_the_request(shop: Shop) -> None:
    tokens = Tokens(input=100, output=10)
    stalled = always(Reply(blocks=[Text("one two three")], tokens=tokens, events=3, end=End.STALL))
    under_way = [Stream(shop, f"{wire}-moving") for wire in WIRES]
    for fake in shop.slow.values():
        fake.brain = stalled
    for stream in under_way:
        stream.start()
    try:
        for stream in under_way:
            assert stream.began.wait(30)
        shop.world.ccm.import_config(shop.moving("200"))
        for wire in WIRES:
            deadline = time.monotonic() + 10
            while (cost := shop.ask(f"{wire}-moving", tokens, stream=False).headers["x-ccm-cost"]) != "0.020080000":
                assert time.monotonic() < deadline, cost
                time.sleep(0.05)
    finally:
        for fake in shop.slow.values():
            fake.resume()
        for stream in under_way:
            stream.join(30)
    records = shop.records()
    assert [records[stream.request_id]["charge"] for stream in under_way] == [280_000, 280_000]


class Stream(threading.Thread):
    """A client that reads a stream to its end; `began` is set with its first event."""

    def __init__(self, shop: Shop, model: str) -> None:
        super().__init__()
        self.shop, self.model = shop, model
        self.began = threading.Event()
        self.request_id = ""

    def run(self) -> None:
        url, headers = f"{self.shop.world.ccm.url}/v1/messages", {"x-api-key": self.shop.key}
        body = body_for(self.model, stream=True)
        with httpx.stream("POST", url, json=body, headers=headers, timeout=60, trust_env=False) as response:
            self.request_id = response.headers["request-id"]
            for line in response.iter_lines():
                if line.startswith("data: ") and json.loads(line[6:])["type"] == "message_start":
                    self.began.set()
