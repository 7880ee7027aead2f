"""The tiers of a price snapshot as one text column: the same tiers are always the same text, so that
each content is stored once. Pure."""

import json

from credits.types import PriceTier


def written(tiers: tuple[PriceTier, ...]) -> str:
    """ "" for none: what nearly every price has."""
    if not tiers:
        return ""
    rows = [
        [tier.above, tier.input, tier.output, tier.cache_read, tier.cache_write, tier.cache_write_1h] for tier in tiers
    ]
    return json.dumps(rows, separators=(",", ":"))


def read(text: str) -> tuple[PriceTier, ...]:
    return tuple(PriceTier(*row) for row in json.loads(text)) if text else ()
