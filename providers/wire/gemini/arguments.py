"""The input of a call that Vertex AI streams piece by piece, each at a JSON path."""

import re
from itertools import pairwise
from typing import Any

from providers.wire.gemini.chunks import PartialArg

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\[(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\]""")
MOST_ITEMS = 100_000
"""An index beyond this would fill the memory, and is no model's input."""

Step = str | int


class StreamedArguments:
    """The input as far as it has come."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}

    def add(self, told: PartialArg) -> None:
        """Put a piece in its place; pieces of one text add up. A path that makes no sense is left out."""
        steps = _steps(told.json_path)
        if not steps or not isinstance(steps[0], str):
            return
        place: Any = self.value
        for step, following in pairwise(steps):
            place = _inside(place, step, [] if isinstance(following, int) else {})
            if place is None:
                return
        _put(place, steps[-1], told)


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    position = 1 if path.startswith("$") else 0
    while position < len(path):
        found = _STEP.match(path, position)
        if found is None or (found[2] and int(found[2]) > MOST_ITEMS):
            return []
        quoted = found[3] if found[3] is not None else found[4]
        name = found[1] if found[1] is not None else re.sub(r"\\(.)", r"\1", quoted or "")
        steps.append(int(found[2]) if found[2] else name)
        position = found.end()
    return steps


def _inside(place: Any, step: Step, new: Any) -> Any:
    """What is at `step`, made if it is not there yet; None when `place` has no such step."""
    if isinstance(step, int):
        if not isinstance(place, list):
            return None
        while len(place) <= step:
            place.append(None)
        if place[step] is None:
            place[step] = new
        return place[step]
    return place.setdefault(step, new) if isinstance(place, dict) else None


def _put(place: Any, step: Step, told: PartialArg) -> None:
    known = _inside(place, step, None) if isinstance(step, int) else (place.get(step) if isinstance(place, dict) else 0)
    if isinstance(place, list) != isinstance(step, int) or not isinstance(place, list | dict):
        return
    if told.string_value is not None:
        value: Any = known + told.string_value if isinstance(known, str) else told.string_value
    elif told.bool_value is not None:
        value = told.bool_value
    elif told.number_value is not None:
        number = told.number_value
        value = int(number) if isinstance(number, float) and number.is_integer() else number
    elif told.null_value is not None or known is None:
        value = None
    else:
        return
    place[step] = value  # type: ignore[index]
