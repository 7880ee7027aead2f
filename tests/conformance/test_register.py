"""Each of the 115 known bugs of other gateways has its test here, a test elsewhere, or a reason."""

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.register import POINTERS, REASONS

ITEMS = range(1, 116)
HERE = Path(__file__).parent
NUMBERED = re.compile(r"test_((?:b?\d{3}_)+)")


@functools.cache
def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


def items_here() -> set[int]:
    names = {name for file in HERE.glob("test_known_bugs_*.py") for name in names_in(file)}
    found = [NUMBERED.match(name) for name in names]
    assert all(found), [name for name, match in zip(names, found, strict=True) if match is None]
    return {int(number) for match in found if match for number in re.findall(r"\d{3}", match[1])}


def test_every_item_is_covered_exactly_once() -> None:
    ways = Counter([*items_here(), *POINTERS, *REASONS])
    assert sorted(set(ITEMS) - set(ways)) == [], "items without a test or a reason"
    assert sorted(set(ways) - set(ITEMS)) == [], "items that there are not"
    assert sorted(item for item, count in ways.items() if count > 1) == [], "items that are covered twice"


@pytest.mark.parametrize("item", POINTERS)
def test_what_the_register_points_at_exists(project: Path, item: int) -> None:
    for node in POINTERS[item]:
        file, _, name = node.partition("::")
        assert name in names_in(project / file), node


def test_the_register_s_reasons_are_sentences() -> None:
    assert all(reason.endswith(".") and len(reason) > 40 for reason in REASONS.values())
