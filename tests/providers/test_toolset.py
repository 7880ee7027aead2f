"""Tools that many requests declare alike are read once, and never taken for others."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wire.toolset import LARGEST_KEPT_BYTES, Kept, Toolset

names = st.text(max_size=6)
toolsets = st.lists(st.fixed_dictionaries({"name": names}, optional={"type": st.none() | names}), max_size=4)


def raw(*tools: dict[str, object]) -> bytes:
    return msgspec.json.encode(tools)


@given(asked=st.lists(toolsets, max_size=12))
def test_what_is_remembered_is_what_was_declared(asked: list[list[dict[str, str | None]]]) -> None:
    """Also among toolsets of one length, and when old ones have to go."""
    kept = Kept(most_bytes=60)
    for tools in asked:
        known = kept.of(msgspec.json.encode(tools))
        assert [(tool.name, tool.type) for tool in known.tools] == [(tool["name"], tool.get("type")) for tool in tools]


def test_the_same_are_read_once_and_others_of_their_length_are_not_them() -> None:
    kept = Kept()
    first, other = raw({"name": "aa"}), raw({"name": "bb"})
    assert kept.of(first) is kept.of(bytes(bytearray(first)))
    assert [tool.name for tool in kept.of(other).tools] == ["bb"]
    assert [tool.name for tool in kept.of(first).tools] == ["aa"]


def test_only_so_much_is_remembered() -> None:
    kept = Kept(most_bytes=1000)
    filling = [raw({"name": "n" * length}) for length in range(300, 600, 10)]
    first = kept.of(filling[0])
    for each in filling:
        kept.of(each)
    assert kept.of(filling[0]) is not first
    assert kept.of(filling[-1]) is kept.of(filling[-1])
    large = raw({"name": "n" * LARGEST_KEPT_BYTES})
    assert Kept().of(large).tools[0].name == "n" * LARGEST_KEPT_BYTES


@pytest.mark.parametrize(
    ("tools", "searches"),
    [
        ([{"type": "web_search_20250305", "name": "web_search"}], True),
        ([{"name": "web_search"}], False),
        ([{"type": None, "name": "a"}, {"type": "web_search_20991231"}], True),
        ([], False),
    ],
)
def test_a_web_search_is_known_by_its_type(tools: list[dict[str, object]], searches: bool) -> None:
    assert Toolset(raw(*tools)).searches_web is searches


def test_marks_are_told_right_each_time() -> None:
    toolset = Toolset(raw({"name": "a", "defer_loading": True}))
    for _ in range(2):
        assert toolset.has(b'"defer_loading"')
        assert not toolset.has(b'"custom"')


@pytest.mark.parametrize("wrong", [b"{}", b"[1]", b'[{"name":1}]', b'"x"'])
def test_what_is_no_list_of_tools_is_not_remembered(wrong: bytes) -> None:
    kept = Kept()
    for _ in range(2):
        with pytest.raises(msgspec.ValidationError):
            kept.of(wrong)
