"""A tenant's own provider keys: used first, for that tenant alone, and charged at the fee to the nano."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gateway.metering import fee_snapshot
from providers.types import Price, Tier
from tests.fakes.answers import Answer, End, Failure, Reply, Text, Tokens
from tests.fakes.brain import always
from tests.fakes.server import Received
from tests.world import PRICES, World

OWN = "own-key-of-{email}"
USED = Tokens(input=1000, output=77, cache_read=333)
FULL = 1000 * PRICES["input"] + 333 * PRICES["cache_read"] + 77 * PRICES["output"]
FEE = FULL * 5 // 100


@pytest.fixture
def own_key(world: World, email: str) -> str:
    """The API key of an organisation with a key of its own at the provider anthropic."""
    world.make_default("anthropic")
    world.anthropic.clear()
    key = world.ccm.create_key(email)
    world.ccm.python(
        "from providers.models import Credential, Provider; from accounts.models import Organization; "
        f"c = Credential(provider=Provider.objects.get(name='anthropic'), label={email!r}, "
        f"organization=Organization.objects.get(personal_owner__email={email!r})); "
        f"c.set_secret({OWN.format(email=email)!r}); c.full_clean(); c.save()"
    )
    return key


def by_key(own: Answer, platform: Answer) -> Callable[[Received], Answer]:
    """The provider's answer, by the key that it was asked with."""
    return lambda entry: own if "own-key" in used_key(entry) else platform


def used_key(entry: Received) -> str:
    return entry.headers.get("x-api-key") or entry.headers.get("authorization", "")


def ask(world: World, key: str, *, stream: bool = False) -> httpx.Response:
    body: dict[str, Any] = {
        "model": "anthropic-model",
        "max_tokens": 500,
        "stream": stream,
        "messages": [{"role": "user", "content": "hello"}],
    }
    return world.post(key, body)


SERVED = Reply(blocks=[Text("Served.")], tokens=USED)
REFUSED = Failure(401, "invalid x-api-key", type="authentication_error")


@pytest.mark.parametrize("stream", [True, False])
def test_the_own_key_serves_its_organisation_alone_at_the_fee(
    world: World, own_key: str, email: str, stream: bool
) -> None:
    world.anthropic.brain = always(SERVED)
    other = f"other-{email}"
    stranger = world.ccm.create_key(other)
    wait_for_own(world, own_key)
    world.anthropic.clear()
    assert ask(world, own_key, stream=stream).status_code == 200
    assert ask(world, stranger, stream=stream).status_code == 200
    mine, theirs = world.anthropic.requests
    assert OWN.format(email=email) in used_key(mine)
    assert "secret-of-anthropic" in used_key(theirs)
    record, full = world.ccm.usage_records(email)[-1], world.ccm.usage_records(other)[-1]
    assert (record["charge"], record["cost"], record["margin"]) == (FEE, 0, FEE)
    assert record["attempts"][0]["own_key"] is True
    assert full["charge"] == FULL
    assert full["cost"] > 0
    held = "from credits.models import Hold; print(Hold.objects.get(pk={!r}).amount)"
    amounts = {world.ccm.python(held.format(each["request_id"])) for each in (record, full)}
    assert len(amounts) == 1, "the whole worst case is held: the platform's key may have to serve it"


def wait_for_own(world: World, key: str) -> None:
    """Until the running server uses the organisation's key."""
    for _ in range(200):
        world.anthropic.clear()
        assert ask(world, key).status_code == 200
        if "own-key" in used_key(world.anthropic.requests[-1]):
            return
    raise AssertionError("the catalogue was not taken up")


def test_where_the_own_key_is_refused_the_platform_s_serves_at_the_full_price_unless_that_is_not_wanted(
    world: World, own_key: str, email: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.anthropic.brain = always(SERVED)
    wait_for_own(world, own_key)
    answers(world, monkeypatch, own=REFUSED, platform=SERVED)
    world.anthropic.clear()
    assert ask(world, own_key).status_code == 200
    keys = [used_key(entry) for entry in world.anthropic.requests]
    assert ["own-key" in key for key in keys] == [True, False]
    record = world.ccm.usage_records(email)[-1]
    assert record["charge"] == FULL
    assert [each.get("own_key") for each in record["attempts"]] == [True, None]

    world.ccm.python(
        "from accounts import changes; from accounts.models import Organization; "
        f"Organization.objects.filter(personal_owner__email={email!r}).update(own_keys_only=True); "
        "changes.publish(changes.KEY)"
    )
    assert any(ask(world, own_key).status_code != 200 for _ in range(200))
    world.anthropic.clear()
    answer = ask(world, own_key)
    assert answer.status_code == 500
    assert "refused CCM's credentials" in answer.json()["error"]["message"]
    assert all("own-key" in used_key(entry) for entry in world.anthropic.requests)
    assert world.ccm.usage_records(email)[-1]["charge"] == 0
    assert world.ccm.run("reconcile").returncode == 0


def test_an_answer_that_breaks_off_is_charged_at_the_fee_too(world: World, own_key: str, email: str) -> None:
    world.anthropic.brain = always(SERVED)
    wait_for_own(world, own_key)
    world.anthropic.brain = lambda _: Reply(
        blocks=[Text("Half of a sentence that")], tokens=USED, events=5, end=End.RESET
    )
    assert ask(world, own_key, stream=True).status_code == 200
    record = world.ccm.usage_records(email)[-1]
    assert record["usage_source"] == "provider_partial"
    full = 1000 * PRICES["input"] + 333 * PRICES["cache_read"] + record["output_tokens"] * PRICES["output"]
    assert (record["charge"], record["cost"]) == (full * 5 // 100, 0)


def answers(world: World, monkeypatch: pytest.MonkeyPatch, *, own: Answer, platform: Answer) -> None:
    """What the fake answers to each of the two keys: its brain does not see headers."""
    choose = by_key(own, platform)
    monkeypatch.setattr(world.anthropic, "brain", lambda _: choose(world.anthropic.requests[-1]))


def test_the_fee_is_a_share_of_every_rate_rounded_up() -> None:
    price = Price(3_000_000_001, 15, 1, 0, 7, 10_000_000, (Tier(200_000, 6, 20, 1, 1, 1),))
    fee = fee_snapshot(price, 500, searches_are_ours=False)
    assert (fee.input, fee.output, fee.cache_read, fee.cache_write, fee.cache_write_1h) == (150_000_001, 1, 1, 0, 1)
    assert fee.web_search == 500_000
    assert (fee.tiers[0].above, fee.tiers[0].output) == (200_000, 1)
    assert fee_snapshot(price, 500, searches_are_ours=True).web_search == 10_000_000, "CCM makes and pays those"
    assert fee_snapshot(price, 0, searches_are_ours=False).input == 0
    assert fee_snapshot(price, 10_000, searches_are_ours=False).input == price.input
