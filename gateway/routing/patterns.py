"""Regular expressions that tenants write, run where nobody's pattern may stall the process.

Python's engine backtracks and holds the GIL, and it has no time limit. So a pattern is
admitted only if the number of ways to walk it over a name, counted on its syntax tree, is
bounded: at most `MAX_WALKS`. That refuses `(a+)+`, `(a|a)*` and `a?a?a?…` alike, where a search
for nested quantifiers would let the last two pass, and it admits what routing needs:
`^(claude-|gpt-)`, `(?i)claude.*haiku`, `mini$`.
"""

import importlib
import re
import warnings
from functools import lru_cache
from typing import Any

MAX_PATTERN = 200
MAX_NAME = 128
MAX_WALKS = (MAX_NAME + 1) ** 3  # two `.*` and a free start of the search

_parser: Any = importlib.import_module("re._parser")
_ONE_WAY = {"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT"}


class InvalidPattern(ValueError):
    """The pattern does not compile, or could take too long. The message says which, for its author."""


def check(pattern: str) -> None:
    """Raise InvalidPattern unless `pattern` may be run on model names."""
    if fault := _fault(pattern):
        raise InvalidPattern(fault)


@lru_cache(maxsize=1024)
def _fault(pattern: str) -> str:
    """What is wrong with `pattern`, "" when nothing is."""
    if not pattern:
        return "is empty"
    if len(pattern) > MAX_PATTERN:
        return f"has more than {MAX_PATTERN} characters"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # "[[a]" is to mean something else one day
            tree = _parser.parse(pattern)
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError, FutureWarning):
        return "is not a valid regular expression"
    if (MAX_NAME + 1) * _walks(tree) > MAX_WALKS:
        return "could take too long: use fewer repetitions and alternatives"
    return ""


def _walks(sequence: Any) -> int:
    """An upper bound of the ways to match a parsed sequence from one start; above MAX_WALKS: too many."""
    walks = 1
    for operation, argument in sequence:
        walks *= _walks_of(str(operation), argument)
        if walks > MAX_WALKS:
            return MAX_WALKS + 1
    return walks


def _walks_of(operation: str, argument: Any) -> int:
    if operation in _ONE_WAY:
        return 1
    if operation == "SUBPATTERN":
        return _walks(argument[-1])
    if operation == "BRANCH":
        return sum(_walks(branch) for branch in argument[1])
    if operation in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        least, most, body = argument
        most = min(int(most), MAX_NAME)
        each = _walks(body)
        return max(1, most - int(least) + 1) if each == 1 else int(min(each ** min(most + 1, 64), MAX_WALKS + 1))
    return MAX_WALKS + 1  # back-references, look-arounds and what later Pythons add


@lru_cache(maxsize=4096)
def matches(pattern: str, name: str) -> bool:
    """Whether `pattern` is found in `name`, in any case: model names are compared without case
    everywhere. `pattern` must have passed `check`, and `name` has at most MAX_NAME characters."""
    return re.search(pattern, name, re.IGNORECASE) is not None
