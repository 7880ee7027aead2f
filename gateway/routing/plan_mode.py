"""Whether the client is in plan mode: the latest of its own on and off markers wins.

The markers are texts that Claude Code puts into the conversation: in `role: "system"`
messages, in `<system-reminder>` blocks, at the end of a tool's result, and as the results
of EnterPlanMode and ExitPlanMode. They stand once, where the mode changed, and stay in the
history. Only these places count, so that a file about plan mode does not switch it on.
"""

import re
from collections.abc import Iterator

import msgspec
from msgspec import UNSET, Raw, UnsetType

from providers.wire.request import MessagesRequest

_ON_HINTS = (b"lan mode", b"-entering Plan Mode")  # of the whole conversation, so few
_MARKER = re.compile(
    r"(?:\A|\n\n|<system-reminder>\n)"
    r"(?:(?P<on>Plan mode is active\. The user indicated|Plan mode still active \(see full|## Re-entering Plan Mode)"
    r"|## Exited Plan Mode)"
)
_REMINDER = "<system-reminder>\n"
_REMINDER_END = "</system-reminder>"
_ENTERED = "Entered plan mode. You should now focus"
_LEFT = ("User has approved your plan.", "User has approved exiting plan mode.")


class _Part(msgspec.Struct):
    text: str | None = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    name: str | None = None
    id: str | None = None
    tool_use_id: str | None = None
    content: Raw | UnsetType = UNSET


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


_messages = msgspec.json.Decoder(list[_Message])
_result = msgspec.json.Decoder(str | list[_Part] | None)


def is_on(request: MessagesRequest) -> bool:
    """Whether the conversation is in plan mode after its last message."""
    if not any(request.mentions(hint, "messages") for hint in _ON_HINTS):
        return False
    raw = bytes(request.fields["messages"])
    on = False
    try:
        for change in _changes(_messages.decode(raw)):
            on = change
    except (msgspec.ValidationError, RecursionError):  # not a conversation of this client
        return False
    return on


def _changes(messages: list[_Message]) -> Iterator[bool]:
    """Each switching on (True) and off (False), in the order of the conversation."""
    tools: dict[str | None, str | None] = {}
    for message in messages:
        blocks = [_Block("text", message.content)] if isinstance(message.content, str) else message.content
        for block in blocks:
            if message.role == "assistant":
                tools[block.id] = block.name
            elif block.type == "tool_result":
                yield from _in_result(block, tools.get(block.tool_use_id))
            elif message.role == "system" or block.text.startswith(_REMINDER):
                yield from _in_text(block.text)


def _in_text(text: str) -> Iterator[bool]:
    for marker in _MARKER.finditer(text):
        yield marker["on"] is not None


def _in_result(block: _Block, tool: str | None) -> Iterator[bool]:
    content = _result.decode(block.content) if isinstance(block.content, Raw) else None
    texts = [part.text or "" for part in content] if isinstance(content, list) else [content or ""]
    for text in texts:
        if tool == "EnterPlanMode" and text.startswith(_ENTERED):
            yield True
        elif tool == "ExitPlanMode" and text.startswith(_LEFT):
            yield False
        yield from _in_text(_reminders_at_end(text))


def _reminders_at_end(text: str) -> str:
    """The reminders that the client appended to a tool's result: those that end it."""
    end = start = len(text.rstrip())
    while text.endswith(_REMINDER_END, 0, start):
        before = text.rfind("\n" + _REMINDER, 0, start)
        if before < 0:
            break
        start = len(text[:before].rstrip())
    return text[start:end].lstrip() if start < end else ""
