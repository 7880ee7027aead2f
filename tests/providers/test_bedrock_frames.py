"""Amazon's framing, read as botocore reads it, whatever the cuts and whatever is broken."""

import json
from binascii import crc32
from itertools import pairwise
from struct import pack
from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from providers.wire.bedrock.frames import BrokenFrame, FrameReader, Head
from tests.fakes.bedrock import event, exception, frame

payloads = st.binary(max_size=40)
names = st.sampled_from(["chunk", "contentBlockDelta", "metadata", "é"])


def by_botocore(raw: bytes) -> list[tuple[Any, bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    return [(message.headers[":event-type"], message.payload) for message in buffer]


def read_by(reader: FrameReader, data: bytes) -> list[tuple[Head, bytes]]:
    """Each frame with its head."""
    return [(head, payload) for head, payloads in reader.feed(data) for payload in payloads]


def told_by(frame: tuple[Head, bytes]) -> tuple[str, str, str, bytes]:
    head, payload = frame
    return *head, payload


def test_frames_of_one_kind_come_together() -> None:
    told = ["chunk", "chunk", "metadata", "chunk"]
    raw = b"".join(frame({":event-type": name}, b"%d" % number) for number, name in enumerate(told))
    groups = [(head.name, payloads) for head, payloads in FrameReader().feed(raw)]
    assert groups == [("chunk", [b"0", b"1"]), ("metadata", [b"2"]), ("chunk", [b"3"])]


@given(st.lists(st.tuples(names, payloads), max_size=6), st.data())
def test_frames_cut_anywhere_are_botocore_s(told: list[tuple[str, bytes]], draws: st.DataObject) -> None:
    """translation.md 5, item 26: nothing is read before it is there."""
    raw = b"".join(frame({":event-type": name, ":message-type": "event"}, payload) for name, payload in told)
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    reader = FrameReader()
    frames = [each for a, b in pairwise([0, *cuts, len(raw)]) for each in read_by(reader, raw[a:b])]
    assert [(head.name, payload) for head, payload in frames] == by_botocore(raw) == told
    assert reader.is_between_frames


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_is_found_wherever_it_is(place: int, change: int) -> None:
    raw = bytearray(event("contentBlockDelta", contentBlockIndex=0, delta={"text": "hello"}))
    raw[place % len(raw)] ^= change
    with pytest.raises(BrokenFrame):
        FrameReader().feed(bytes(raw))
    with pytest.raises(ChecksumMismatch):
        by_botocore(bytes(raw))


def test_exceptions_and_errors() -> None:
    error = frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "oops"}, b"")
    first, second = read_by(FrameReader(), exception("throttlingException", "slow down") + error)
    assert first[0] == ("exception", "throttlingException", "")
    assert json.loads(first[1]) == {"message": "slow down"}
    assert told_by(second) == ("error", "InternalError", "oops", b"")


def test_headers_of_other_types_are_passed_over() -> None:
    headers = b"".join(
        bytes([len(name)]) + name + bytes([kind]) + value
        for name, kind, value in [
            (b"yes", 0, b""),
            (b"no", 1, b""),
            (b"byte", 2, b"\x01"),
            (b"short", 3, b"\x00\x01"),
            (b"int", 4, b"\x00" * 4),
            (b"long", 5, b"\x00" * 8),
            (b"bytes", 6, b"\x00\x03abc"),
            (b"time", 8, b"\x00" * 8),
            (b"uuid", 9, b"\x00" * 16),
            (b":event-type", 7, b"\x00\x05chunk"),
        ]
    )
    lengths = pack("!II", 16 + len(headers) + 2, len(headers))
    start = lengths + pack("!I", crc32(lengths)) + headers + b"{}"
    raw = start + pack("!I", crc32(start))
    (read,) = read_by(FrameReader(), raw)
    assert told_by(read) == ("event", "chunk", "", b"{}")
    assert by_botocore(raw) == [("chunk", b"{}")]


@pytest.mark.parametrize("lengths", [(8, 0), (15, 0), (100, 200), (2**31, 0), (2**20, 2**19)])
def test_impossible_lengths(lengths: tuple[int, int]) -> None:
    head = pack("!II", *lengths)
    with pytest.raises(BrokenFrame, match="length"):
        FrameReader().feed(head + pack("!I", crc32(head)))


def test_headers_that_end_too_early() -> None:
    for headers in (b"\x0b:event-type\x07\x00\x05", b"\x05ab", b"\x01a", b"\x01a\x07"):
        lengths = pack("!II", 16 + len(headers), len(headers))
        start = lengths + pack("!I", crc32(lengths)) + headers
        try:
            (read,) = read_by(FrameReader(), start + pack("!I", crc32(start)))
        except BrokenFrame:
            continue
        assert read[0].name == ""
