"""What other wires have put into a conversation, on its way to a server of Anthropic's.

Anthropic takes back its own signed thinking and its own search results only, and answers 400 to
anything else. CCM marks what it signs for other providers (`ccm1:…`) and its own searches.
"""

import re
from typing import Any

from providers.wire.request import THINKING_BLOCKS, MessagesRequest
from providers.wire.searches import with_foreign_searches_as_text

SIGNED = "ccm1:"
_MARK = SIGNED.encode()
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')


def without_foreign_blocks(request: MessagesRequest, *, unsigned: bool = False) -> dict[str, Any]:
    """The fields of `request` that have to change so that Anthropic takes it; {} for nearly all
    requests. Thinking of other providers goes; searches of theirs become text. `unsigned`: thinking
    that nobody has signed goes too; some servers of Anthropic's format write it, and want it back."""
    edited = with_foreign_searches_as_text(request)
    unchanged: dict[str, Any] = {} if edited is request else {"messages": edited.fields["messages"]}
    if THINKING_BLOCKS.isdisjoint(request.block_types):
        return unchanged
    if not edited.mentions(_MARK, "messages") and not (unsigned and _UNSIGNED.search(edited.raw("messages"))):
        return unchanged
    messages = edited.value("messages")
    changed: list[Any] = []
    lost_before_call = False
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            lost_before_call = lost_before_call and message.get("role") != "user"
            changed.append(message)
            continue
        kept = [block for each in content if (block := _native(each, unsigned=unsigned)) is not None]
        if message.get("role") == "user" and not any(_type(block) == "tool_result" for block in kept):
            lost_before_call = False
        elif len(kept) < len(content) and any(_type(block) == "tool_use" for block in kept):
            lost_before_call = True
        if kept:
            changed.append({**message, "content": kept})
    fields: dict[str, Any] = {"messages": changed}
    if lost_before_call and request.thinking is not None and request.thinking.type == "enabled":
        # Thinking must come before a call of the present turn, and that call's is another provider's.
        fields["thinking"] = {"type": "disabled"}
    return fields if changed != messages else unchanged


def _type(block: Any) -> str:
    return str(block.get("type")) if isinstance(block, dict) else ""


def _native(block: Any, *, unsigned: bool) -> Any:
    """`block` as Anthropic takes it, None to leave it out."""
    kind = _type(block)
    if kind == "thinking":
        signature = str(block.get("signature") or "")
        return None if signature.startswith(SIGNED) or (unsigned and not signature) else block
    if kind == "redacted_thinking" and str(block.get("data") or "").startswith(SIGNED):
        return None
    if kind == "text" and any(_is_foreign_citation(each) for each in block.get("citations") or []):
        return {key: value for key, value in block.items() if key != "citations"}
    return block


def _is_foreign_citation(citation: Any) -> bool:
    return (
        isinstance(citation, dict)
        and citation.get("type") == "web_search_result_location"
        and not citation.get("encrypted_index")
    )
