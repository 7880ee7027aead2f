"""What a failing provider does to a person at the keyboard: nothing, as long as another one is well."""

from pathlib import Path

import pytest

from tests.e2e import clients
from tests.fakes.answers import Answer, End, Failure, Reply, Reset, Text
from tests.fakes.brain import Conversation, saying
from tests.world import World

FIRST, SECOND = "Served by the first.", "Served by the second."
CUT = Reply(blocks=[Text("Half of a sentence that goes on")], events=5, end=End.RESET)
FAULTS: dict[str, Answer] = {
    "error": Failure(500, "boom", type="api_error"),
    "limited": Failure(429, "slow down", type="rate_limit_error", headers={"retry-after": "30"}),
    "overloaded": Failure(529, "Overloaded", type="overloaded_error"),
    "reset": Reset(),
    "cut": CUT,
}
MODEL = """
[[models]]
name = "failover-{name}"
context_window = 1000000
max_output = 32000
tools = true
input = "3"
output = "15"
[[models.mappings]]
provider = "anthropic"
actual_model = "failover-{name}"
priority = 1
[[models.mappings]]
provider = "openai"
actual_model = "failover-{name}"
priority = 2
"""


class Failing:
    """Meets the first `times` requests with the fault, and serves the others."""

    def __init__(self, fault: Answer, times: int) -> None:
        self.fault = fault
        self.left = times

    def __call__(self, conversation: Conversation) -> Answer:
        if self.left:
            self.left -= 1
            return self.fault
        return saying(FIRST)(conversation)


@pytest.fixture(scope="module")
def failover(world: World) -> World:
    """Each client has models of its own: for half a minute CCM does not ask a provider that was limited."""
    names = [f"{version}-{name}" for version in clients.VERSIONS for name in FAULTS]
    world.ccm.import_config("".join(MODEL.format(name=name) for name in names))
    key = world.ccm.create_key("failover-probe@example.com", usd="1")
    world.await_model(key, f"failover-{names[-1]}")
    return world


@pytest.mark.parametrize("name", FAULTS)
def test_the_session_goes_on(failover: World, client: Path, folder: Path, email: str, name: str) -> None:
    failover.anthropic.clear()
    failover.openai.clear()
    # A connection that was reset is tried once more: the provider may just have closed it.
    failover.anthropic.brain = Failing(FAULTS[name], times=2 if name == "reset" else 1)
    failover.openai.brain = saying(SECOND)
    key = failover.ccm.create_key(email)

    outcome = clients.run(
        client,
        "hello",
        folder=folder,
        variables=failover.variables(key),
        arguments=["--model", f"failover-{client.relative_to(clients.FOLDER).parts[0]}-{name}"],
    )

    assert outcome.status == 0, outcome
    assert not outcome.report["is_error"]
    assert failover.anthropic.violations == failover.openai.violations == []
    records = failover.ccm.usage_records(email)
    if name == "cut":  # what had been said was said: the client asks again, and both are charged
        assert FIRST in outcome.text or SECOND in outcome.text
        assert sum(record["error_code"] != "" for record in records) == 1
    else:
        assert outcome.text == SECOND
        assert {record["status"] for record in records} == {200}
        assert len(failover.anthropic.requests) <= 2, "asked, and at most once more"
        (away, *_) = [record for record in records if len(record["attempts"]) > 1]
        assert [each["provider"] for each in away["attempts"]][-1] == "openai"
    assert failover.ccm.run("reconcile").returncode == 0
