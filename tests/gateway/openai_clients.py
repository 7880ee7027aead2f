"""One CCM with every kind of target that OpenAI's clients are tested on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from openai import OpenAI

from tests.fakes.brain import saying
from tests.fakes.responses import fake_responses
from tests.fakes.server import FakeProvider
from tests.world import World

MODELS = """
[[providers]]
name = "responses"
kind = "openai"
wire = "openai_responses"
base_url = "{url}"
api_key = "secret-of-responses"
[[models]]
name = "responses-model"
context_window = 1000000
max_output = 32000
tools = true
vision = true
thinking = true
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
[[models.mappings]]
provider = "responses"
actual_model = "gpt-5.2"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
[[providers]]
name = "demo"
kind = "demo"
[[models]]
name = "demo-target"
tools = true
max_output = 32000
input = "1"
output = "5"
[[models.mappings]]
provider = "demo"
actual_model = "demo"
[[models]]
name = "native-model"
context_window = 1000000
max_output = 32000
tools = true
input = "3"
output = "15"
[[models.mappings]]
provider = "anthropic"
actual_model = "claude-native"
cost = {{ input = "1", output = "5" }}
"""
TARGETS = ["anthropic", "openai", "responses"]


@dataclass(frozen=True)
class Place:
    world: World
    responses: FakeProvider
    key: str

    def welcome(self) -> None:
        """All providers answer "Welcome." and have no requests yet."""
        self.world.make_default("anthropic")
        for target in TARGETS:
            self.fake(target).clear()
            self.fake(target).brain = saying("Welcome.")

    def fake(self, provider: str) -> FakeProvider:
        return self.responses if provider == "responses" else self.world.fake(provider)

    def client(self, key: str) -> OpenAI:
        return OpenAI(api_key=key, base_url=f"{self.world.ccm.url}/v1", timeout=60, max_retries=0)


@contextmanager
def place(world: World) -> Iterator[Place]:
    """Adds the models `responses-model`, `demo-target` and `native-model` (searches itself) to `world`."""
    with fake_responses() as responses:
        world.ccm.import_config(MODELS.format(url=responses.base_url))
        key = world.ccm.create_key("place@example.com", usd="20")
        for model in ("responses-model", "demo-target", "native-model"):
            world.await_model(key, model)
        yield Place(world, responses, key)
