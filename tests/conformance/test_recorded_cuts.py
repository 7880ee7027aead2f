"""Every recorded stream in other pieces, byte by byte too, straight into its wire's decoder: over a socket
some cuts heal."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest

from providers.wire.registry import WIRES
from tests.conformance.oracles import anthropic
from tests.conformance.recordings import Recording, recordings
from tests.conformance.told import without_ids
from tests.providers.openai_chat_support import BASH, model, request, target

STREAMED = [recording for recording in recordings() if recording.streamed]
SMALL = 40_000
"""Bytes of a stream that is also fed byte by byte."""


def decoded(recording: Recording, pieces: Iterable[bytes]) -> Any:
    """The Message that the client can put together, and what is charged."""
    where = target(recording.kind, recording.model, wire=recording.format)
    decoder = WIRES[recording.format].stream_decoder(
        request=request(tools=[BASH], stream=True), target=where, model=model()
    )
    events = b"".join(decoder.feed(piece) for piece in pieces) + decoder.close()
    message = without_ids(json.loads(anthropic.whole(events)))
    return message, decoder.usage, decoder.failure, decoder.stop_reason, decoder.output_chars


def in_pieces(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@pytest.mark.parametrize("recording", STREAMED, ids=str)
def test_any_pieces_give_the_same(recording: Recording) -> None:
    raw = recording.body
    at_once = decoded(recording, [raw])
    places = sorted(random.Random(recording.id).sample(range(1, len(raw)), min(200, len(raw) - 1)))
    at_random = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]
    assert decoded(recording, at_random) == at_once
    assert decoded(recording, in_pieces(raw, 1 if len(raw) <= SMALL else 61)) == at_once
    assert decoded(recording, in_pieces(raw, 1460)) == at_once
