"""What Anthropic's `usage` objects tell, merged into the four token classes."""

from typing import Annotated

import msgspec
from msgspec import Raw

from providers.types import Usage

NO_USAGE = Raw(b"null")
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]


class CacheCreation(msgspec.Struct):
    ephemeral_5m_input_tokens: Count | None = None
    ephemeral_1h_input_tokens: Count | None = None


class ServerToolUse(msgspec.Struct):
    web_search_requests: Count | None = None


class OutputDetails(msgspec.Struct):
    thinking_tokens: Count | None = None


class Iteration(msgspec.Struct):
    type: str = ""
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0


class WireUsage(msgspec.Struct):
    """`usage` as it stands in message_start, message_delta and whole Messages."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    output_tokens_details: OutputDetails | None = None
    iterations: list[Iteration] | None = None


_usage = msgspec.json.Decoder(WireUsage | None)


def update_usage(usage: Usage, raw: Raw) -> None:
    """Take over what the `usage` object `raw` tells; one that makes no sense tells nothing.

    A later event's zero never replaces an earlier number of input tokens, as in the official
    client: some servers repeat them as zeros."""
    try:
        told = _usage.decode(raw)
    except msgspec.ValidationError:
        return
    if told is None:
        return
    _include_compactions(told)
    usage.input_tokens = told.input_tokens or _kept(usage.input_tokens, told.input_tokens)
    cache_read = told.cache_read_input_tokens
    usage.cache_read_tokens = cache_read or _kept(usage.cache_read_tokens, cache_read)
    _update_cache_writes(usage, told)
    usage.output_tokens = _kept(told.output_tokens, usage.output_tokens)
    if told.output_tokens_details is not None:
        usage.reasoning_tokens = _kept(told.output_tokens_details.thinking_tokens, usage.reasoning_tokens)
    if told.server_tool_use is not None:
        usage.web_searches = told.server_tool_use.web_search_requests or usage.web_searches


def _kept(known: int | None, otherwise: int | None) -> int | None:
    return otherwise if known is None else known


def _include_compactions(told: WireUsage) -> None:
    """Anthropic's totals leave out what it took to compact the conversation on the server,
    although that is charged."""
    for iteration in told.iterations or ():
        if iteration.type == "compaction":
            told.input_tokens = (told.input_tokens or 0) + iteration.input_tokens
            told.output_tokens = (told.output_tokens or 0) + iteration.output_tokens
            told.cache_read_input_tokens = (told.cache_read_input_tokens or 0) + iteration.cache_read_input_tokens
            told.cache_creation_input_tokens = (
                told.cache_creation_input_tokens or 0
            ) + iteration.cache_creation_input_tokens


def _update_cache_writes(usage: Usage, told: WireUsage) -> None:
    """The two classes do not overlap: the total is split into one hour and the rest."""
    split = told.cache_creation or CacheCreation()
    hour = split.ephemeral_1h_input_tokens
    total = told.cache_creation_input_tokens
    if total is None and split.ephemeral_5m_input_tokens is not None:
        total = split.ephemeral_5m_input_tokens + (hour or 0)
    if total is None or (total == 0 and usage.cache_write_tokens is not None):
        return
    if hour is None and usage.cache_write_1h_tokens is not None:
        # message_delta repeats the total without the split that message_start gave.
        hour = min(usage.cache_write_1h_tokens, total)
    usage.cache_write_tokens = max(0, total - (hour or 0))
    usage.cache_write_1h_tokens = hour
