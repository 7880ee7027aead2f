"""Framing of server-sent events, however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.wire.sse import MAX_EVENT_BYTES, SHORT_EVENT, EventTooLarge, SseParser, end_of_event, render

STREAM = (
    b": a comment\n\n"
    b'event: one\ndata: {"a":1}\n\n'
    b"data:no space\n\n"
    b"data: first\ndata: second\nid: 7\n\n"
    b"event: empty\n\n"
    b"\n\n" + "data: Grüße 🎉\n\n".encode()
)
EVENTS = [
    ("one", b'{"a":1}'),
    ("", b"no space"),
    ("", b"first\nsecond"),
    ("empty", b""),
    ("", "Grüße 🎉".encode()),
]


def test_events() -> None:
    assert SseParser().feed(STREAM) == EVENTS


@given(
    parts=st.lists(
        st.sampled_from([b"\n", b"\n\n", b"data: x", b"x" * (SHORT_EVENT - 3), b"x" * 3 * SHORT_EVENT]), max_size=8
    ),
    start=st.integers(0, 4),
)
def test_an_event_ends_with_its_first_blank_line_however_long_it_is(parts: list[bytes], start: int) -> None:
    events = b"".join(parts)
    found = events.find(b"\n\n", start)
    assert end_of_event(events, start) == (found + 2 if found >= 0 else -1)


@settings(max_examples=100, deadline=None)
@given(ends=st.lists(st.integers(2, 5), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_however_many_blank_lines_every_event_has_one(ends: list[int], cuts: list[int]) -> None:
    stream = b"".join(b"data: %d" % number + b"\n" * lines for number, lines in enumerate(ends))
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = SseParser()
    wholes = [parser.whole(stream[start:end]) for start, end in pairwise(at)]
    assert not any(whole.endswith(b"\n\n\n") for whole in wholes)
    assert all(whole.endswith(b"\n\n") for whole in wholes if whole)
    told = b"".join(wholes).split(b"\n\n")
    assert [part.strip(b"\n") for part in told if part.strip(b"\n")] == [b"data: %d" % n for n in range(len(ends))]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@settings(max_examples=100, deadline=None)
@given(cuts=st.lists(st.integers(0, len(STREAM) + 20), max_size=10))
def test_cuts_and_line_ends_change_nothing(line_end: bytes, cuts: list[int]) -> None:
    stream = STREAM.replace(b"\n", line_end)
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = SseParser()
    events = [event for start, end in pairwise(at) for event in parser.feed(stream[start:end])]
    assert events + parser.rest() == EVENTS


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_bytes_one_by_one(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    parser = SseParser()
    events = [event for at in range(len(stream)) for event in parser.feed(stream[at : at + 1])]
    assert events + parser.rest() == EVENTS


def test_the_rest_is_the_event_whose_blank_line_never_came() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n\ndata: b\n") == [("", b"a")]
    assert parser.rest() == [("", b"b")]
    assert parser.rest() == []


def test_an_endless_event_is_refused() -> None:
    parser = SseParser()
    parser.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6))
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


@given(name=st.from_regex(r"[a-z_]{1,20}", fullmatch=True), data=st.from_regex(rb"[^\r\n]{0,50}", fullmatch=True))
def test_what_is_rendered_parses_back(name: str, data: bytes) -> None:
    assert SseParser().feed(render(name, data)) == [(name, data)]
