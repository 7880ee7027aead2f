"""What the person at the keyboard sees when something is wrong, and how often the client asks."""

from pathlib import Path

import pytest

from tests.e2e import clients
from tests.fakes.answers import html
from tests.fakes.brain import always, saying
from tests.world import World


@pytest.fixture
def asked(world: World) -> None:
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = saying("This must not be reached.")


def refused(world: World, before: dict[str, int]) -> dict[str, int]:
    """How often CCM has refused since, by code."""
    now = world.refusals()
    return {code: number - before.get(code, 0) for code, number in now.items() if number != before.get(code, 0)}


@pytest.mark.usefixtures("asked")
def test_without_credits_the_client_shows_what_is_needed_and_asks_once(
    world: World, client: Path, folder: Path, email: str
) -> None:
    key = world.ccm.create_key(email, usd="")
    before = world.refusals()
    outcome = clients.run(client, "hello", folder=folder, variables=world.variables(key))
    assert "API Error: 402" in outcome.text
    assert "not enough credits" in outcome.text
    assert world.ccm.url in outcome.text
    assert list(refused(world, before).values()) == [1]
    assert world.anthropic.requests == []


@pytest.mark.usefixtures("asked")
def test_a_revoked_key_is_refused_once(world: World, client: Path, folder: Path, email: str) -> None:
    key = world.ccm.create_key(email)
    world.ccm.python(
        "from accounts.models import ApiKey; from accounts.services import revoke_key; "
        f"revoke_key(key=ApiKey.objects.get(organization__memberships__user__email={email!r}))"
    )
    before = world.refusals()
    outcome = clients.run(client, "hello", folder=folder, variables=world.variables(key))
    assert "401" in outcome.text
    assert "revoked" in outcome.text
    assert sum(refused(world, before).values()) == 1
    assert world.anthropic.requests == []


@pytest.mark.usefixtures("asked")
def test_an_unknown_model_is_named_and_asked_for_once(world: World, client: Path, folder: Path, email: str) -> None:
    key = world.ccm.create_key(email)
    before = world.refusals()
    outcome = clients.run(
        client, "hello", folder=folder, variables=world.variables(key), arguments=["--model", "no-such-model"]
    )
    assert "API Error: 400" in outcome.text
    assert "no-such-model" in outcome.text
    assert refused(world, before) == {"unknown_model": 1}
    assert world.ccm.usage_records(email) == []


@pytest.mark.usefixtures("asked")
def test_a_provider_that_is_down_costs_nothing(world: World, client: Path, folder: Path, email: str) -> None:
    key = world.ccm.create_key(email)
    outcome = clients.run(
        client,
        "hello",
        folder=folder,
        variables=world.variables(key, CLAUDE_CODE_MAX_RETRIES="1"),
        arguments=["--model", "down-model"],
    )
    assert outcome.report["is_error"]
    assert "API Error: 5" in outcome.text
    records = world.ccm.usage_records(email)
    assert records
    assert all(record["status"] >= 500 and record["charge"] == 0 for record in records)
    assert world.ccm.run("reconcile").returncode == 0


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("status", [200, 502])
def test_a_provider_that_answers_with_a_page_costs_nothing(
    world: World, client: Path, folder: Path, email: str, status: int
) -> None:
    world.anthropic.brain = always(html(status))
    key = world.ccm.create_key(email)
    outcome = clients.run(client, "hello", folder=folder, variables=world.variables(key, CLAUDE_CODE_MAX_RETRIES="1"))
    assert outcome.report["is_error"]
    assert "API Error: 5" in outcome.text
    assert "<h1>" not in outcome.text
    records = world.ccm.usage_records(email)
    assert records
    assert all(record["status"] >= 500 and record["charge"] == 0 for record in records)
