"""kill -9 of the web process in the middle of a stream: nothing is free of charge, nothing is charged twice."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.fakes.answers import End, many_deltas
from tests.fakes.brain import always, saying
from tests.world import World

SWEEP_SECONDS = 120
SENT = 50
BODY = {
    "model": "anthropic-model",
    "max_tokens": 2000,
    "stream": True,
    "messages": [{"role": "user", "content": "Tell me a long story."}],
}


@contextmanager
def streamed(world: World, key: str) -> Iterator[httpx.Response]:
    headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
    url = f"{world.ccm.url}/v1/messages"
    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        client.stream("POST", url, json=BODY, headers=headers) as response,
    ):
        assert response.status_code == 200
        yield response


def read_until(response: httpx.Response, needle: str) -> str:
    """What has come of the stream once `needle` is in it."""
    text = ""
    for piece in response.iter_text():
        text += piece
        if needle in text:
            return text
    raise AssertionError(f"the stream ended without {needle!r}: {text}")


def await_settled(world: World, email: str) -> dict[str, object]:
    """Sweep as the worker does, until the dead process's request has its usage record."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while True:
        world.ccm.python("from credits.services import sweep; sweep()")
        records = world.ccm.usage_records(email)
        if records:
            (record,) = records
            return record
        assert time.monotonic() < deadline, "the hold of the dead process was never settled"


def test_a_killed_process_leaves_its_stream_charged_once(private_world: World, email: str) -> None:
    world = private_world
    key = world.ccm.create_key(email)
    world.anthropic.brain = always(many_deltas(200, events=SENT, end=End.STALL))
    with streamed(world, key) as response:
        read_until(response, "w0040")
        world.ccm.kill()
    world.anthropic.requests[0].finished.wait(10)

    world.ccm.start()
    record = await_settled(world, email)
    assert record["usage_source"] == "checkpoint"
    # Forty words have reached the client, of which each is more than one token; no more than
    # what the provider sent may be charged.
    assert 40 <= int(str(record["output_tokens"])) <= 4 * SENT
    assert int(str(record["charge"])) > 0
    assert world.ccm.run("reconcile").returncode == 0

    world.anthropic.brain = saying("Back again.")
    answer = world.post(key, BODY | {"stream": False})
    assert answer.json()["content"][0]["text"] == "Back again."
    assert len(world.ccm.usage_records(email)) == 2


def test_a_client_that_leaves_ends_the_provider_s_stream_and_pays_for_what_came(world: World, email: str) -> None:
    key = world.ccm.create_key(email)
    world.make_default("anthropic")
    world.anthropic.clear()
    world.anthropic.brain = always(many_deltas(200, events=SENT, end=End.STALL))
    with streamed(world, key) as response:
        read_until(response, "w0040")
    (request,) = world.anthropic.requests
    assert request.finished.wait(10)
    assert request.cancelled
    record = await_settled(world, email)
    assert record["status"] == 499
    assert 40 <= int(str(record["output_tokens"])) <= 4 * SENT
    assert world.ccm.run("reconcile").returncode == 0
