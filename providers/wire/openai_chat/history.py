"""The conversation of a MessagesRequest with every block's content, as turns that Chat
Completions can take: same roles merged, tool results right behind their calls."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.wire.request import MessagesRequest

BILLING_HEADER = "x-anthropic-billing-header"
PARAGRAPH = "\n\n"


class Source(msgspec.Struct):
    """Where an image or a document is. `data` is base64, or the text itself."""

    type: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: Any = None


class Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: Raw = Raw()
    tool_use_id: str = ""
    content: Raw = Raw()
    is_error: bool | None = None
    source: Any = None
    thinking: str = ""
    signature: str | None = None
    data: str = ""
    title: str | None = None
    tool_name: str = ""
    citations: Any = None
    cache_control: Any = None

    @property
    def where(self) -> Source:
        """`source`; an image or a document whose source is none of ours has an empty one."""
        try:
            return msgspec.convert(self.source, Source)
        except msgspec.ValidationError:
            return Source()


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


@dataclass(slots=True)
class Turn:
    role: str
    blocks: list[Block]

    @property
    def text(self) -> str:
        """The texts of the turn as paragraphs."""
        return PARAGRAPH.join(block.text for block in self.blocks if block.type == "text" and block.text.strip())

    @property
    def calls(self) -> list[Block]:
        return [block for block in self.blocks if block.type == "tool_use"] if self.role == "assistant" else []


_messages = msgspec.json.Decoder(list[_Message])
_content = msgspec.json.Decoder(str | list[Block] | None)


def as_blocks(content: str | list[Block] | None) -> list[Block]:
    if isinstance(content, str):
        return [Block(type="text", text=content)]
    return content or []


def content_of(block: Block) -> list[Block]:
    """What a tool_result (or a document of blocks) holds. Raises InvalidRequest."""
    if not bytes(block.content):
        return []
    try:
        return as_blocks(_content.decode(block.content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"messages: the content of a {block.type} cannot be read: {error}.") from None


def system_text(request: MessagesRequest) -> str:
    """The system prompt. The client's billing header goes: it differs between sessions, stands
    first, and so would defeat every provider's prompt cache."""
    texts = (without_billing_header(text) for text in request.system_texts)
    return PARAGRAPH.join(text for text in texts if text.strip())


def without_billing_header(text: str) -> str:
    if not text.lstrip().startswith(BILLING_HEADER):
        return text
    return text.lstrip().partition("\n")[2]


def turns_of(request: MessagesRequest) -> list[Turn]:
    """The conversation's turns. Raises InvalidRequest when a block has fields of a wrong type.

    The turns of a request are the first turns of any request that continues it, so that a
    provider's prompt cache holds (translation.md 1.1)."""
    try:
        messages = _messages.decode(request.fields["messages"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"messages: {error}.") from None
    return _results_behind_calls(_merged([Turn(m.role, as_blocks(m.content)) for m in messages]))


def _merged(turns: list[Turn]) -> list[Turn]:
    """Neighbours of one role as one turn; system turns that say nothing part no neighbours."""
    merged: list[Turn] = []
    for turn in turns:
        if turn.role == "system" and not turn.text:
            continue
        if merged and merged[-1].role == turn.role != "system":
            merged[-1] = Turn(turn.role, merged[-1].blocks + turn.blocks)
        else:
            merged.append(turn)
    return merged


def _results_behind_calls(turns: list[Turn]) -> list[Turn]:
    """System turns that stand between calls and their results move behind the results."""
    ordered: list[Turn] = []
    held: list[Turn] = []
    for turn in turns:
        if turn.role == "system" and (held or (ordered and ordered[-1].calls)):
            held.append(turn)
        elif turn.role == "user":
            ordered += [turn, *held]
            held = []
        else:
            ordered += [*held, turn]
            held = []
    return ordered + held
