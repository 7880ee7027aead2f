"""Every recorded answer, replayed over sockets through a running CCM and received by the official SDK:
streamed and whole, with its bytes cut, nothing of what the provider said is lost, and it costs what
it says."""

import json
import random
import re
from types import ModuleType
from typing import Any

import anthropic as sdk
import pytest
from pydantic import ValidationError

from tests.conformance.client import MESSAGE, Client
from tests.conformance.oracles import anthropic, bedrock, cohere, gemini, openai_chat, openai_responses
from tests.conformance.recordings import EXCEPTIONS, Recording, files, name_of, read, recordings
from tests.conformance.replay import PRICES, Answer, Stage, model_of
from tests.conformance.requests import DOCUMENT, asking
from tests.conformance.told import Counts, Told, received, steps, without_ids

ORACLES: dict[str, ModuleType] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "gemini": gemini,
    "cohere": cohere,
    "bedrock": bedrock,
}
ANSWERS = [recording for recording in recordings() if recording.status == 200]
TRANSLATED = [recording for recording in ANSWERS if recording.format != "anthropic"]
NATIVE = [recording for recording in ANSWERS if recording.format == "anthropic"]
SMALL = 6_000
"""Bytes of an answer that is also sent byte by byte over the socket."""


@pytest.fixture(scope="module")
def client(stage: Stage) -> Client:
    return Client(stage.ccm.url, stage.key)


def told_by(recording: Recording, body: bytes, *, streamed: bool) -> Told:
    told: Told = ORACLES[recording.format].told(body, streamed=streamed, kind=recording.kind)
    if recording.format == "cohere":
        told.cited = [DOCUMENT for _ in told.cited]
    return told


def bodies(recording: Recording) -> tuple[bytes, bytes]:
    """The answer as a stream and as one that is not streamed: as recorded, and as folded from that."""
    oracle = {**ORACLES, "anthropic": anthropic}[recording.format]
    if recording.streamed:
        return recording.body, oracle.whole(recording.body)
    return oracle.stream(recording.body), recording.body


def stream_of(recording: Recording, body: bytes, cuts: list[int] | None = None) -> Answer:
    ends = [*sorted(set(cuts or ())), len(body)]
    starts = [0, *ends[:-1]]
    pieces = tuple(body[start:end] for start, end in zip(starts, ends, strict=True))
    kind = "application/vnd.amazon.eventstream" if recording.format == "bedrock" else "text/event-stream"
    return Answer(pieces, kind)


def check(told: Told, message: dict[str, Any]) -> None:
    """Everything that the provider said is in the Message."""
    got = received(message)
    assert got.calls == told.calls
    assert got.text.strip() == told.text.strip()
    assert got.thinking.replace("\n", "") == told.thinking.replace("\n", "")
    if not told.queries:
        assert steps(got.order) == steps(told.order)
    assert sorted(got.queries) == sorted(told.queries)
    assert got.found >= told.found
    assert sorted(got.cited) == sorted(told.cited)
    for secret in told.sealed:
        assert any(secret in carried for carried in got.sealed), f"lost: {secret[:40]}"
    assert got.stop_reason == told.stop_reason
    if told.counts is not None:
        assert got.counts == told.counts


def without_nulls(value: Any) -> Any:
    """The SDK writes nulls where nothing was told."""
    if isinstance(value, list):
        return [without_nulls(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(part) for name, part in value.items() if part is not None}


def is_known(message: dict[str, Any]) -> bool:
    """Whether the SDK's present types describe this Message: some were recorded before them."""
    try:
        MESSAGE.validate_python(message)
    except ValidationError:
        return False
    return True


def cost_of(counts: Counts) -> str:
    nanos = (
        counts.input * PRICES["input"]
        + counts.cache_read * PRICES["cache_read"]
        + counts.cache_write * PRICES["cache_write"]
        + counts.output * PRICES["output"]
    )
    return f"{nanos // 10**9}.{nanos % 10**9:09d}"


def test_every_recording_fits_a_wire_or_is_excused() -> None:
    if not files():
        pytest.skip("no recordings beside the project")
    odd = [name_of(path) for path in files() if not list(read(path))]
    unexcused = [name for name in odd if not any(re.search(pattern, name) for pattern in EXCEPTIONS)]
    assert unexcused == []
    unused = [pattern for pattern in EXCEPTIONS if not any(re.search(pattern, name) for name in odd)]
    assert unused == []


@pytest.mark.parametrize("recording", TRANSLATED, ids=str)
def test_nothing_is_lost(stage: Stage, client: Client, recording: Recording) -> None:
    stream, whole = bodies(recording)
    told = told_by(recording, stream, streamed=True)
    body = asking(recording, told, model_of(recording))
    stage.server.play(stream_of(recording, stream))
    if told.failure:
        with pytest.raises(sdk.APIStatusError) as raised:
            client.streamed(**body)
        assert told.failure[:60] in str(raised.value)
        assert len(stage.server.asked) in {1, 2}, "once more where nothing was said yet"
        return
    streamed = client.streamed(**body)
    check(told, streamed)
    stage.server.play(Answer((whole,)))
    at_once = client.whole(**body)
    check(told_by(recording, whole, streamed=False), at_once)
    assert without_ids(at_once) == without_ids(streamed)
    if told.counts is not None:
        assert client.cost == cost_of(told.counts)


@pytest.mark.parametrize("recording", NATIVE, ids=str)
def test_anthropic_s_own_answers_pass(stage: Stage, client: Client, recording: Recording) -> None:
    stream, whole = bodies(recording)
    body = asking(recording, None, model_of(recording))
    stage.server.play(Answer((whole,)))
    expected = {**json.loads(whole), "model": model_of(recording)}
    known = is_known(expected)
    assert client.whole(**body, known=known) == expected
    stage.server.play(stream_of(recording, stream))
    got = client.streamed(**body, known=known)
    for message in (got, expected):
        if any(block["type"] == "fallback" for block in message["content"]):
            # The SDK names the model that served in the end.
            message.pop("model")
    assert without_nulls(got) == without_nulls(expected)


@pytest.mark.parametrize("recording", [each for each in ANSWERS if each.streamed], ids=str)
def test_cuts_change_nothing(stage: Stage, client: Client, recording: Recording) -> None:
    told = told_by(recording, recording.body, streamed=True) if recording.format != "anthropic" else None
    if told and told.failure:
        pytest.skip("a failure ends the stream")
    body = asking(recording, told, model_of(recording))
    raw = recording.body
    body["known"] = False  # the types were looked at above
    stage.server.play(stream_of(recording, raw))
    expected = without_ids(client.streamed(**body))
    chance = random.Random(recording.id)
    inside = [place + 1 for place in range(len(raw) - 1) if raw[place] >= 0xC0]
    cuts = chance.sample(range(1, len(raw)), min(60, len(raw) - 1)) + inside[:60]
    stage.server.play(stream_of(recording, raw, cuts))
    assert without_ids(client.streamed(**body)) == expected
    if len(raw) <= SMALL:
        stage.server.play(stream_of(recording, raw, list(range(1, len(raw)))))
        assert without_ids(client.streamed(**body)) == expected


@pytest.mark.parametrize("recording", [each for each in recordings() if each.status >= 400], ids=str)
def test_recorded_refusals(stage: Stage, client: Client, recording: Recording) -> None:
    said = json.loads(recording.body)["error"]["message"]
    stage.server.play(Answer((recording.body,), status=recording.status))
    with pytest.raises(sdk.APIStatusError) as raised:
        client.whole(**asking(recording, None, model_of(recording)))
    assert raised.value.status_code == recording.status
    assert (said in str(raised.value)) == (recording.status == 400)
