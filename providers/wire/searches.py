"""Web searches in answers and conversations that Anthropic's servers did not make: ours, and
those of other providers.

Ours carry what was found in `encrypted_content`, which clients send back verbatim: so the next
request holds all that the model has read. Anthropic's servers take neither ours nor an empty
one: to them such a search becomes a text (translation.md 4.1, 4.3).
"""

import base64
import binascii
import gzip
import secrets
import zlib
from typing import Any, Protocol, runtime_checkable

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.types import Model, Target
from providers.wire.request import MessagesRequest
from providers.wire.toolset import WEB_SEARCH

ID_PREFIX = "srvtoolu_ccm"
_SEARCH_BLOCKS = frozenset({"server_tool_use", "web_search_tool_result"})
TAG = "ccm1."
MAX_PACKED = 64 * 1024
MAX_TEXT_BYTES = 32 * 1024

_blocks = msgspec.json.Decoder(str | list[Raw])
_fields = msgspec.json.Decoder(dict[str, Raw])


class _Block(msgspec.Struct):
    type: str = ""
    id: Any = ""
    tool_use_id: Any = ""
    input: Any = None
    content: Any = None
    citations: Any = None


_block = msgspec.json.Decoder(_Block)


@runtime_checkable
class SearchingWire(Protocol):
    """A wire over which some providers search the web themselves."""

    def searches(self, request: MessagesRequest, *, target: Target, model: Model) -> bool:
        """Whether `target` answers `request`, which holds Anthropic's web search tool, with searches of its own."""
        ...


def is_web_search(tool_type: str | None) -> bool:
    """Whether a tool is the server-side web search. The type tells, the name does not."""
    return (tool_type or "").startswith(WEB_SEARCH)


def new_search_id() -> str:
    return ID_PREFIX + secrets.token_hex(10)


def pack(text: str) -> str:
    """`text` as the `encrypted_content` of a result of ours."""
    data = gzip.compress(text.encode()[:MAX_TEXT_BYTES], mtime=0)
    return TAG + base64.b64encode(data).decode()


def unpack(content: object) -> str | None:
    """The text in the `encrypted_content` of a result of ours; None for anybody else's. Never
    more than MAX_TEXT_BYTES, whatever the client has made of it."""
    if not isinstance(content, str) or not content.startswith(TAG) or len(content) > MAX_PACKED:
        return None
    try:
        data = base64.b64decode(content[len(TAG) :], validate=True)
        text = zlib.decompressobj(wbits=31).decompress(data, MAX_TEXT_BYTES)
    except (binascii.Error, zlib.error, ValueError):
        return None
    return text.decode("utf-8", "ignore")


def text_of_results(content: Any) -> str:
    """What another model can use of a `web_search_tool_result`: titles, addresses, and what ours hold."""
    if isinstance(content, dict) and content.get("error_code"):
        return f"The web search failed: {content['error_code']}."
    items = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    return "\n".join(_text_of_result(item) for item in items if item.get("url"))


def _text_of_result(item: dict[str, Any]) -> str:
    lines = [f"{item.get('title') or ''} {item['url']}".strip(), unpack(item.get("encrypted_content")) or ""]
    return "\n".join(line for line in lines if line)


def with_foreign_searches_as_text(request: MessagesRequest) -> MessagesRequest:
    """`request` as Anthropic's servers take it: every search that is not theirs is a text. The
    same request when it holds none; other blocks stay byte for byte."""
    if _SEARCH_BLOCKS.isdisjoint(request.block_types):
        return request
    try:
        messages = msgspec.json.decode(request.fields["messages"], type=list[dict[str, Raw]])
        changed = [_without_foreign_searches(message) for message in messages]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"messages: {error}.") from None
    if not any(changed):
        return request
    edited = [change or message for change, message in zip(changed, messages, strict=True)]
    return request.with_fields(messages=Raw(msgspec.json.encode(edited)))


def _without_foreign_searches(message: dict[str, Raw]) -> dict[str, Raw] | None:
    """`message` with its foreign searches as texts; None when it has none."""
    raw = message.get("content", Raw(b'""'))
    content = _blocks.decode(raw)
    if isinstance(content, str):
        return None
    blocks = [_block.decode(block) for block in content]
    results = {str(block.tool_use_id): block for block in blocks if block.type == "web_search_tool_result"}
    asked = {str(block.id): block.input for block in blocks if block.type == "server_tool_use"}
    foreign = {id_ for id_ in (*asked, *results) if id_.startswith(ID_PREFIX)}
    foreign |= {id_ for id_, block in results.items() if _is_foreign(block.content)}
    if not foreign:
        return None
    kept: list[Raw] = []
    for raw_block, block in zip(content, blocks, strict=True):
        if block.type == "server_tool_use" and block.id in foreign:
            if block.id not in results:
                kept.append(_text(_searched(block.input)))
        elif block.type == "web_search_tool_result" and block.tool_use_id in foreign:
            told = text_of_results(block.content) or "Nothing was found."
            kept.append(_text(f"{_searched(asked.get(block.tool_use_id))}\n{told}"))
        elif block.type == "text" and isinstance(block.citations, list):
            kept.append(_without_foreign_citations(raw_block, block.citations))
        else:
            kept.append(raw_block)
    return message | {"content": Raw(msgspec.json.encode(kept))}


def _is_foreign(content: Any) -> bool:
    if not isinstance(content, list):
        return False
    sealed = [item.get("encrypted_content") for item in content if isinstance(item, dict)]
    return any(not seal or (isinstance(seal, str) and seal.startswith(TAG)) for seal in sealed)


def _searched(asked: Any) -> str:
    query = asked.get("query") if isinstance(asked, dict) else None
    return f"[Searched the web for {query!r}]" if query else "[Searched the web]"


def _without_foreign_citations(raw: Raw, citations: list[Any]) -> Raw:
    own = [
        citation
        for citation in citations
        if not isinstance(citation, dict)
        or citation.get("type") != "web_search_result_location"
        or citation.get("encrypted_index")
    ]
    if len(own) == len(citations):
        return raw
    fields = _fields.decode(raw)
    del fields["citations"]
    if own:
        fields["citations"] = Raw(msgspec.json.encode(own))
    return Raw(msgspec.json.encode(fields))


def _text(text: str) -> Raw:
    return Raw(msgspec.json.encode({"type": "text", "text": text}))
