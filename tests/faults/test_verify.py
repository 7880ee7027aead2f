"""The fault run's own checks: each kind of damage to the books is seen, and sound books are not accused."""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import httpx
import pytest

from tests.fakes.answers import Reply, Text, Tokens
from tests.fakes.anthropic import fake_anthropic
from tests.fakes.brain import Brain
from tests.fakes.openai import fake_openai
from tests.fakes.server import FakeProvider
from tests.faults import traffic
from tests.faults.load import Sent
from tests.faults.traffic import counted, make_plan
from tests.faults.verify import Served, nanos, verify

GRANTED = 10**9
PLAN = replace(
    make_plan("tag-1", Random(1)), kind="regular", model="anthropic-model", streamed=True, words=40, leave_after=0
)
BODY_BYTES = len(PLAN.body)
TOLD = Tokens(input=100, output=50, cache_read=7)
EXACT = traffic.charge(new=100, output=50, cache_read=7)


def whole() -> Sent:
    return Sent(PLAN, 0, BODY_BYTES, status=200, request_id="req_1", words=40, stops=1, complete=True)


def cut(words: int = 20) -> Sent:
    return Sent(PLAN, 0, BODY_BYTES, status=200, request_id="req_1", words=words, failure="reset")


def refused() -> Sent:
    return Sent(PLAN, 0, BODY_BYTES, status=503)


SERVED = Served("anthropic", "tag-1", 40, True, TOLD)
HALF = Served("anthropic", "tag-1", 30, False, TOLD)


def partial(words: int) -> int:
    return traffic.charge(new=100, output=counted(words), cache_read=7)


def books(charge: int = EXACT) -> dict[str, Any]:
    state = "captured" if charge else "voided"
    return {
        "holds": [
            {"id": "req_1", "wallet_id": 1, "state": state, "amount": 5 * EXACT, "captured": charge,
             "max_tokens": 1000, "tag": "tag-1"},
        ],
        "usage": [
            {"request_id": "req_1", "organization_id": 1, "charge": charge, "status": 200,
             "usage_source": "provider", "session_id": "tag-1"},
        ],
        "wallets": [
            {"organization_id": 1, "posted": GRANTED - charge, "held": 0, "debt": 0, "granted": GRANTED,
             "email": "a@b"},
        ],
    }  # fmt: skip


EMPTY = {
    "holds": [],
    "usage": [],
    "wallets": [
        {"organization_id": 1, "posted": GRANTED, "held": 0, "debt": 0, "granted": GRANTED, "email": "a@b"},
    ],
}


def violations(sent: list[Sent], served: list[Served], stored: dict[str, Any]) -> list[str]:
    return verify(sent, served, stored, {"a@b": GRANTED}).violations


@pytest.mark.parametrize(
    ("sent", "served", "stored"),
    [
        pytest.param(whole(), [SERVED], books(), id="a whole answer at its price"),
        pytest.param(cut(), [HALF], books(partial(20)), id="a cut answer at what came"),
        pytest.param(cut(), [HALF], books(partial(30)), id="a cut answer at what was generated"),
        pytest.param(cut(), [SERVED], books(), id="the last event was lost"),
        pytest.param(cut(0), [], books(0), id="the provider was never asked"),
        pytest.param(refused(), [], EMPTY, id="refused before anything was held"),
        pytest.param(Sent(PLAN, 0, BODY_BYTES), [HALF], books(0), id="a whole request whose server was killed"),
        pytest.param(
            whole(),
            [replace(SERVED, provider="openai", tokens=None)],
            books(traffic.charge(new=BODY_BYTES // 3 + 8, output=60)),
            id="nobody told the usage",
        ),
    ],
)
def test_sound_books_are_not_accused(sent: Sent, served: list[Served], stored: dict[str, Any]):
    assert violations([sent], served, stored) == []


def changed(change: Callable[[dict[str, Any]], None], charge: int = EXACT) -> dict[str, Any]:
    stored = books(charge)
    change(stored)
    return stored


@pytest.mark.parametrize(
    ("sent", "served", "stored", "words"),
    [
        (whole(), [SERVED], books(EXACT + 1), "instead of"),
        (whole(), [SERVED], books(EXACT - 1), "instead of"),
        (whole(), [SERVED], books(0), "instead of"),
        (cut(), [HALF], books(partial(20) - 1), "not within"),
        (cut(), [HALF], books(partial(30) + 1), "not within"),
        (cut(), [HALF], books(0), "not within"),
        (cut(0), [], books(partial(1)), "no provider gave"),
        (replace(whole(), stops=2), [SERVED], books(), "end twice"),
        (replace(whole(), request_id="req_2"), [SERVED], books(), "was told req_2"),
        (replace(whole(), cost="0.000000001"), [SERVED], books(), "was told 0.000000001"),
        (whole(), [], EMPTY, "without a hold"),
        (refused(), [SERVED], EMPTY, "asked without a hold"),
        (whole(), [SERVED], changed(lambda b: b["holds"][0].update(state="needs_settlement")), "left needs_settlement"),
        (whole(), [SERVED], changed(lambda b: b["holds"].append(b["holds"][0])), "2 holds"),
        (whole(), [SERVED], changed(lambda b: b["usage"].clear()), "without a usage record"),
        (whole(), [SERVED], changed(lambda b: b["holds"][0].update(captured=1)), "1 captured"),
        (whole(), [SERVED], changed(lambda b: b["holds"][0].update(tag="other")), "nobody sent 'other'"),
        (whole(), [SERVED], changed(lambda b: b["usage"][0].update(request_id="other")), "belongs to no hold"),
        (whole(), [SERVED, replace(SERVED, tag="other")], books(), "served 'other'"),
        (whole(), [SERVED], changed(lambda b: b["wallets"][0].update(posted=GRANTED)), "left instead of"),
        (whole(), [SERVED], changed(lambda b: b["wallets"][0].update(held=1)), "still held"),
        (whole(), [SERVED], changed(lambda b: b["wallets"][0].update(granted=1)), "granted instead of"),
    ],
)  # fmt: skip
def test_damage_is_seen(sent: Sent, served: list[Served], stored: dict[str, Any], words: str):
    found = violations([sent], served, stored)
    assert any(words in violation for violation in found), found


def test_a_counted_answer_is_never_above_what_was_reserved():
    small = changed(lambda b: b["holds"][0].update(max_tokens=10), traffic.charge(new=100, output=10, cache_read=7))
    assert violations([cut()], [HALF], small) == []


@pytest.mark.parametrize(
    ("name", "fake", "path"),
    [("anthropic", fake_anthropic, "/v1/messages"), ("openai", fake_openai, "/v1/chat/completions")],
)
def test_a_client_that_dies_with_the_end_in_its_hands_had_a_whole_answer(
    name: str, fake: Callable[[Brain], FakeProvider], path: str
):
    """The gateway settles at the last event: killed right then, it has not waited for the connection's end."""
    plan = replace(PLAN, words=2)
    reply = Reply([Text("w0000 w0001 ", pieces=2)], tokens=TOLD, between=0.3)
    request = {"model": "m", "max_tokens": 9, "stream": True, "messages": json.loads(plan.body)["messages"]}
    request |= {"stream_options": {"include_usage": True}} if name == "openai" else {}
    anthropic = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    headers = anthropic if name == "anthropic" else {"authorization": "Bearer k"}
    with fake(lambda _: reply) as provider:
        with httpx.stream("POST", provider.origin + path, json=request, headers=headers, trust_env=False) as answer:
            for line in answer.iter_lines():
                if "message_stop" in line or "[DONE]" in line:
                    break
        (received,) = provider.wait_for(1)
        assert received.finished.wait(10)
        assert received.cancelled
        served = Served.of(name, received)
    assert (served.words, served.complete) == (2, True)
    assert violations([replace(whole(), plan=plan, words=2)], [served], books()) == []


def test_plans_travel_in_the_prompt():
    for number in range(50):
        plan = make_plan(f"tag-{number}", Random(number))
        assert traffic.plan_of(json.loads(plan.body)["messages"][0]["content"]) == plan
    with pytest.raises(ValueError, match="Hello"):
        traffic.plan_of("Hello")


def test_dollars_are_read_exactly():
    assert nanos("0.000000001") == 1
    assert nanos("12.5") == 12_500_000_000
