"""Why requests took their routes, read back (types.Explanation says what is stored)."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from credits.models import Explanation

KEPT_LONGER = timedelta(days=62)
"""Usage records are deleted by whole months, up to two after they are due."""


def explained(why: Any) -> dict[str, Any]:
    """The explanation that the `why` of a usage record stands for; without rules when there is none."""
    return by_why([why]).get(why, {"rules": []}) if isinstance(why, str) else {"rules": list(why or ())}


def by_why(whys: Iterable[Any]) -> Mapping[str, dict[str, Any]]:
    """The explanations of many usage records, by their refs."""
    refs = {why for why in whys if isinstance(why, str)}
    rows = Explanation.objects.filter(pk__in=refs).values_list("pk", "content")
    return {ref: json.loads(content) for ref, content in rows}


def forget_before(day: date) -> int:
    """Delete what no usage record refers to any more, once those before `day` are deleted; how many."""
    return Explanation.objects.filter(used_on__lt=day - KEPT_LONGER).delete()[0]
