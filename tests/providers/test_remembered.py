"""What is encoded once is what would have been encoded each time."""

from collections.abc import Sequence
from typing import Any

import msgspec

from providers.wire.remembered import LARGEST, MOST, encoded
from providers.wire.toolset import Toolset


def function(name: str, size: int = 1) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "d" * size}}


def names(functions: Sequence[dict[str, Any]]) -> list[str]:
    return [each["function"]["name"] for each in functions]


def test_the_same_functions_are_encoded_once() -> None:
    one, other = function("a"), function("b")
    first = encoded([one, other])
    assert msgspec.json.decode(first) == [one, other]
    assert encoded([one, other]) is first
    assert msgspec.json.decode(encoded([other, one])) == [other, one]
    assert msgspec.json.decode(encoded([one])) == [one]
    assert msgspec.json.decode(encoded([one, other], names)) == ["a", "b"]


def test_functions_that_are_gone_are_not_mistaken_for_new_ones() -> None:
    """Python gives an object's identity to another one once it is freed."""
    for number in range(4 * MOST):
        assert msgspec.json.decode(encoded([function(str(number))], names)) == [str(number)]


def test_what_is_large_is_encoded_each_time() -> None:
    large = [function("a", LARGEST)]
    assert encoded(large) is not encoded(large)
    assert msgspec.json.decode(encoded(large)) == large


def test_what_is_made_of_a_toolset_is_made_once() -> None:
    made: list[Toolset] = []

    def count(toolset: Toolset) -> int:
        made.append(toolset)
        return len(toolset.tools)

    one, other = Toolset(b'[{"name":"a"}]'), Toolset(b"[]")
    assert [one.once(count), one.once(count), other.once(count)] == [1, 1, 0]
    assert made == [one, other]
