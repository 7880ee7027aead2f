"""What a request tells about itself: who sent it, which class it is of, what it holds.

Claude Code names a request's class in a header when CLAUDE_CODE_GATEWAY_HINT_HEADERS=1 is
set; else the shape tells (reference: the client's captured requests). Only requests that
are the client's are judged by shape, so that nobody else's prompt is taken for a helper's.
"""

import re
from collections.abc import Mapping
from typing import get_args

import msgspec

from gateway.routing import plan_mode
from gateway.routing.types import RequestClass, Signals
from providers.wire.request import Block, MessagesRequest

_CLASSES: dict[str, RequestClass] = {name: name for name in get_args(RequestClass) if name}
MAX_ID = 128
MAX_WORD = 40
_parts = msgspec.json.Decoder(list[Block])

_CLASSIFIER = "You are a security monitor for autonomous AI coding agents."
_BILLING = "x-anthropic-billing-header:"
_IDENTITIES = ("You are Claude Code, Anthropic's official CLI", "You are a Claude agent, built on Anthropic's")
_IS_SUBAGENT = re.compile(r'"?\bcc_is_subagent"?\s*[=:]\s*(true|false)\b')
_TITLE = "Generate a concise, sentence-case title"
_HELPER_TEXTS = {"\nWeb page content:\n---": "WebFetch summary", "<conversation>\n": "rename"}
_COMPACTION = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."
_SIDE_REQUESTS = (
    "[SUGGESTION MODE:",
    "<system-reminder>This is a side question from the user.",
    "The user stepped away and is coming back.",
    "Describe your most recent action in 3-5 words",
)


class Sender(msgspec.Struct, frozen=True):
    """Who sent a request, and for what.

    `helper`: which of the client's helpers without tools it is, "" for none. `main_shaped`:
    it carries the conversation and its tools, as the main loop does. `is_subagent`: it is
    proven to be part of a subagent's conversation.
    """

    session_id: str
    agent_id: str
    parent_agent_id: str
    agent_type: str
    request_class: RequestClass
    is_classifier: bool
    helper: str
    main_shaped: bool
    is_subagent: bool


def sender_of(request: MessagesRequest, headers: Mapping[str, str]) -> Sender:
    """`headers` have lower-case names. Raises InvalidRequest when a field it reads is malformed."""
    system = request.system_texts
    agent_id = headers.get("x-claude-code-agent-id", "")[:MAX_ID]
    from_client = _is_claude_code(system, headers)
    is_classifier = not request.tools and any(text.startswith(_CLASSIFIER) for text in system)
    helper = _helper(request, system) if from_client and not request.tools and not is_classifier else ""
    main_shaped = _is_main_shaped(request)
    hinted: RequestClass = _CLASSES.get(headers.get("x-claude-code-request-class", ""), "")
    belongs_to_agent = bool(agent_id) or _is_billed_to_subagent(system)
    if hinted:
        # A subagent's compaction is a turn of the subagent's conversation: it needs the same edit.
        # Other helpers hold texts of strangers (web pages, commands) where its first message was.
        is_subagent = hinted in {"subagent", "workflow"} or (hinted == "compaction" and belongs_to_agent)
    else:
        is_subagent = belongs_to_agent and not helper and not is_classifier and not _is_side_tool(request)
    return Sender(
        session_id=session_id(request, headers),
        agent_id=agent_id,
        parent_agent_id=headers.get("x-claude-code-parent-agent-id", "")[:MAX_ID],
        agent_type=headers.get("x-claude-code-agent-type", "")[:MAX_ID],
        request_class=hinted
        or _class_by_shape(
            request,
            is_auxiliary=bool(helper) or is_classifier or (from_client and request.toolset.searches_web),
            is_subagent=is_subagent,
            from_client=from_client,
        ),
        is_classifier=is_classifier,
        helper=helper,
        main_shaped=main_shaped,
        is_subagent=is_subagent,
    )


def signals_of(
    request: MessagesRequest, sender: Sender, tag: str | None, *, look_for_plan_mode: bool = True
) -> Signals:
    """`tag` is the subagent tag's model. Raises InvalidRequest when a field it reads is malformed."""
    effort = request.output_config.effort
    return Signals(
        web_search=request.toolset.searches_web,
        image=has_new_image(request),
        tag=tag,
        subagent=sender.is_subagent,
        classifier=sender.is_classifier,
        helper=sender.helper,
        request_class=sender.request_class,
        main_shaped=sender.main_shaped,
        thinking=request.thinking.type[:MAX_WORD] if request.thinking else None,
        effort=None if effort is None else effort[:MAX_WORD],
        plan_agent=sender.agent_type.lower() == "plan",
        plan_mode=plan_mode.is_on(request) if look_for_plan_mode else None,
        little=request.max_tokens <= 1,
    )


def session_id(request: MessagesRequest, headers: Mapping[str, str]) -> str:
    """The client's session: its header, else what `metadata.user_id` holds, JSON or older text; "" for none."""
    named = headers.get("x-claude-code-session-id") or headers.get("x-claude-session-id")
    if named:
        return named[:MAX_ID]
    user_id = request.user_id
    if user_id.startswith("{"):
        try:
            value = msgspec.json.decode(user_id).get("session_id")
        except (msgspec.DecodeError, RecursionError):
            value = None
        return value[:MAX_ID] if isinstance(value, str) else ""
    return user_id.partition("_session_")[2][:MAX_ID]


def probe(request: MessagesRequest) -> bool:
    """Whether this is the client's `/model` validation, or its replacement for count_tokens: asked
    for one token of one message, not streamed. The gateway answers it itself."""
    return request.max_tokens == 1 and len(request.messages) == 1 and not request.stream


def has_new_image(request: MessagesRequest) -> bool:
    """Whether the newest user turn (all since the last answer) holds an image, also in a tool's result."""
    for message in reversed(request.messages):
        if message.role == "assistant":
            return False
        if message.role == "user" and any(
            block.type == "image" or _result_has_image(block) for block in message.blocks
        ):
            return True
    return False


def _result_has_image(block: Block) -> bool:
    if block.type != "tool_result" or not isinstance(block.content, msgspec.Raw):
        return False
    if b'"image"' not in bytes(block.content):
        return False
    try:
        return any(part.type == "image" for part in _parts.decode(block.content))
    except (msgspec.ValidationError, RecursionError):  # a string that quotes the word, or nothing we know
        return False


def _is_claude_code(system: list[str], headers: Mapping[str, str]) -> bool:
    if "x-claude-code-session-id" in headers or headers.get("user-agent", "").startswith("claude-cli/"):
        return True
    return any(text.startswith((_BILLING, *_IDENTITIES)) for text in system[:2])


def _is_billed_to_subagent(system: list[str]) -> bool:
    """The billing block is always the first one; a block that says both true and false proves nothing."""
    if not system or not system[0].startswith(_BILLING):
        return False
    return set(_IS_SUBAGENT.findall(system[0])) == {"true"}


def _helper(request: MessagesRequest, system: list[str]) -> str:
    """Which helper without tools this is, by the texts of the client."""
    if any(text.startswith(_TITLE) for text in system):
        return "title"
    blocks = request.messages[0].blocks
    text = blocks[0].text if blocks and len(request.messages) == 1 else ""
    return next((name for start, name in _HELPER_TEXTS.items() if text.startswith(start)), "")


def _is_side_tool(request: MessagesRequest) -> bool:
    """A server-side search, or a single tool that must be called: a question aside, not a conversation."""
    return request.toolset.searches_web or _is_forced(request)


def _is_forced(request: MessagesRequest) -> bool:
    if not request.has("tool_choice"):
        return False
    choice = request.value("tool_choice")
    return isinstance(choice, dict) and choice.get("type") == "tool"


def _is_main_shaped(request: MessagesRequest) -> bool:
    return bool(request.tools) and not _is_side_tool(request)


def _class_by_shape(
    request: MessagesRequest, *, is_auxiliary: bool, is_subagent: bool, from_client: bool
) -> RequestClass:
    if is_auxiliary:
        return "auxiliary"
    if not from_client:
        return "subagent" if is_subagent else ""
    if probe(request) or request.max_tokens == 0:
        return "auxiliary"
    texts = [block.text for block in request.messages[-1].blocks[-2:]]
    if texts and texts[-1].startswith(_COMPACTION):
        return "compaction"
    if any(text.startswith(_SIDE_REQUESTS) for text in texts):
        return "auxiliary"
    return "subagent" if is_subagent else "main"
