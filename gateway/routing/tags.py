"""Subagent tags: `<CCM-SUBAGENT-MODEL>name</CCM-SUBAGENT-MODEL>`, and the CCR spelling.

A tag chooses the model and is taken out of the prompt. It counts in system blocks, and in
the first user message of a request that is proven to be a subagent's. Anywhere else (tool
results, assistant text, other user text, the client's reminders with file contents) it is
only text: a file must not be able to choose a model.
"""

import re

import msgspec
from msgspec import Raw

from providers.wire.request import MessagesRequest

_MARK = "-SUBAGENT-MODEL"
_HINT = _MARK.encode()
_TAG = re.compile(r"<(CC[MR]-SUBAGENT-MODEL)>([^<\n]{0,256})</\1>")
_REMINDER = "<system-reminder>"
_LAYERS = 10

_raw_list = msgspec.json.Decoder(list[Raw])
_raw_fields = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)


def take_tags(request: MessagesRequest, *, is_subagent: bool) -> tuple[str | None, MessagesRequest]:
    """The model named by the first tag (None: no tag), and the request without its tags.

    The edit depends on nothing but the request's own text, so each turn of a conversation
    gets the same one. What holds no tag keeps its bytes."""
    name = None
    if request.system_says(_MARK):
        name, edited = _edit_content(request.fields["system"])
        if edited is not None:
            request = request.with_fields(system=edited)
    if is_subagent and request.mentions(_HINT, "messages"):
        named, messages = _edit_first_user_message(request)
        name = named if name is None else name
        if messages is not None:
            request = request.with_fields(messages=messages)
    return name, request


def without_tags(text: str) -> str:
    """`text` without its tags. Taking one out may join the halves of another, hence the layers;
    nobody's honest text has ten."""
    for _ in range(_LAYERS):
        shorter = _TAG.sub("", text)
        if shorter == text:
            break
        text = shorter
    return text


def _edit_first_user_message(request: MessagesRequest) -> tuple[str | None, Raw | None]:
    first = next((n for n, message in enumerate(request.messages) if message.role == "user"), None)
    if first is None:
        return None, None
    messages = _raw_list.decode(request.fields["messages"])
    fields = _raw_fields.decode(messages[first])
    name, content = _edit_content(fields["content"], skip_reminders=True)
    if content is None:
        return name, None
    messages[first] = Raw(msgspec.json.encode({**fields, "content": content}))
    return name, Raw(msgspec.json.encode(messages))


def _edit_content(content: Raw, *, skip_reminders: bool = False) -> tuple[str | None, Raw | None]:
    """The first tag's name in a string or a list of blocks, and the content without tags (None: unchanged)."""
    if bytes(content).lstrip().startswith(b'"'):
        name, text = _edit_text(_text.decode(content), skip_reminders=skip_reminders)
        return name, None if text is None else Raw(msgspec.json.encode(text))
    first, changed, blocks = None, False, []
    for block in _raw_list.decode(content) if bytes(content).strip() != b"null" else []:
        name, edited = _edit_block(block, skip_reminders=skip_reminders)
        first = name if first is None else first
        changed = changed or edited is not None
        blocks.append(block if edited is None else edited)
    return first, Raw(msgspec.json.encode(blocks)) if changed else None


def _edit_block(block: Raw, *, skip_reminders: bool) -> tuple[str | None, Raw | None]:
    if _HINT not in bytes(block):
        return None, None
    fields = _raw_fields.decode(block)
    if "text" not in fields or _text.decode(fields["type"]) != "text":
        return None, None
    name, text = _edit_text(_text.decode(fields["text"]), skip_reminders=skip_reminders)
    if text is None:
        return name, None
    return name, Raw(msgspec.json.encode({**fields, "text": text}))


def _edit_text(text: str, *, skip_reminders: bool) -> tuple[str | None, str | None]:
    tag = _TAG.search(text)
    if tag is None or (skip_reminders and text.lstrip().startswith(_REMINDER)):
        return None, None
    return tag[2].strip(), without_tags(text)
