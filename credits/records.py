"""How a hold and a usage record are written: plain values in the order of their columns."""

import functools
import json
from typing import Any

import msgspec

from credits.types import MeterReading, PriceSnapshot, RequestFacts, UsageSource

INSERT_HOLD = (
    "INSERT INTO credits_hold (id, wallet_id, api_key_id, amount, captured, state, price_snapshot_id, model, "
    "input_tokens, max_tokens, fingerprint, context, checkpoint, owner, lease_until, created_at, updated_at) "
    "VALUES (%s, %s, %s, %s, 0, %s, %s, %s, %s, %s, %s, %s, NULL, %s, %s, %s, %s)"
)
USAGE_COLUMNS = (
    "request_id", "organization_id", "api_key_id", "created_at", "model", "requested_model", "route", "why", "provider",
    "actual_model", "attempts", "status", "error_code", "stop_reason", "streamed", "first_token_ms", "total_ms",
    "session_id", "agent_id", "parent_agent_id", "request_class", "client", "input_tokens", "cache_read_tokens",
    "cache_write_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "web_searches", "usage_source",
    "price_snapshot_id", "charge", "cost", "margin",
)  # fmt: skip
INSERT_USAGE = (
    f"INSERT INTO credits_usagerecord ({', '.join(USAGE_COLUMNS)}) VALUES ({', '.join(['%s'] * len(USAGE_COLUMNS))})"
)
LEARN_EXPLANATION = (
    "INSERT INTO credits_explanation (ref, content, used_on) VALUES (%s, %s, %s) ON CONFLICT (ref) DO UPDATE "
    "SET used_on = excluded.used_on WHERE credits_explanation.used_on < excluded.used_on"
)
READING_COLUMNS = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens", "web_searches",
)  # fmt: skip

_encode = msgspec.json.Encoder().encode


def text(value: str, length: int) -> str:
    """`value` as both databases store it: cut to `length`, without NUL and lone surrogates."""
    if value.isascii():
        return value[:length].replace("\0", "�")
    return value[:length].replace("\0", "�").encode("utf-8", "replace").decode()


known_text = functools.lru_cache(maxsize=4096)(text)
"""`text` of what comes again and again: the names of models, providers and clients."""


def json_text(value: Any) -> str:
    """`value` as JSON that both databases store (PostgreSQL refuses an escaped NUL)."""
    try:
        encoded: str = _encode(value).decode()
    except UnicodeEncodeError:
        clean = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")
        encoded = _encode(json.loads(clean)).decode()
    return encoded.replace("\\u0000", "\\ufffd") if "\\u0000" in encoded else encoded


def usage_values(
    hold: tuple[str, int, int, str, int],
    facts: RequestFacts,
    reading: MeterReading,
    *,
    charge: int,
    cost: int,
    stored_now: Any,
) -> tuple[Any, ...]:
    """The values of USAGE_COLUMNS; `hold` is (request id, organisation, API key, model, price snapshot)."""
    request_id, organization_id, api_key_id, model, price_id = hold
    short = known_text
    return (
        request_id,
        organization_id,
        api_key_id,
        stored_now,
        model,
        facts.requested_model and short(facts.requested_model, 200),
        facts.route and short(facts.route, 20),
        "[]" if facts.explanation is None else f'"{facts.explanation.ref}"',
        facts.provider and short(facts.provider, 120),
        facts.actual_model and short(facts.actual_model, 200),
        json_text(facts.attempts) if facts.attempts else "[]",
        facts.status,
        facts.error_code and short(facts.error_code, 60),
        facts.stop_reason and short(facts.stop_reason, 60),
        facts.streamed,
        facts.first_token_ms,
        facts.total_ms,
        facts.session_id and text(facts.session_id, 128),
        facts.agent_id and text(facts.agent_id, 128),
        facts.parent_agent_id and text(facts.parent_agent_id, 128),
        facts.request_class and short(facts.request_class, 60),
        facts.client and short(facts.client, 200),
        reading.input,
        reading.cache_read,
        reading.cache_write,
        reading.cache_write_1h,
        reading.output,
        reading.reasoning,
        reading.web_searches,
        reading.source._value_,
        price_id,
        charge,
        cost,
        charge - cost,
    )


def counts(reading: MeterReading) -> tuple[int, ...]:
    """The tokens of `reading` in the order of READING_COLUMNS."""
    return (
        reading.input,
        reading.cache_read,
        reading.cache_write,
        reading.cache_write_1h,
        reading.output,
        reading.reasoning,
        reading.web_searches,
    )


class Checkpoint(msgspec.Struct):
    """How far an answer had come, as stored with its hold."""

    reading: MeterReading
    facts: RequestFacts | None = None
    cost_price: PriceSnapshot | None = None
    price: PriceSnapshot | None = None
    """What the customer pays where that is not the hold's price."""

    @property
    def final(self) -> bool:
        """The answer had ended and its provider had told the usage; only its settlement was lost."""
        return self.reading.source is UsageSource.PROVIDER

    def stored(self) -> str:
        return json_text(self)


_decode_checkpoint = msgspec.json.Decoder(Checkpoint).decode


def read_checkpoint(stored: str | None) -> Checkpoint | None:
    return None if stored is None else _decode_checkpoint(stored)


def facts_of_context(context: dict[str, Any], *, status: int, error_code: str) -> RequestFacts:
    """What is known of a request that nobody settled: what its hold was made with."""
    names = ("requested_model", "route", "provider", "actual_model", "session_id", "agent_id", "parent_agent_id",
             "request_class", "client")  # fmt: skip
    known = {name: context[name] for name in names if isinstance(context.get(name), str)}
    return RequestFacts(**known, streamed=context.get("streamed") is True, status=status, error_code=error_code)
