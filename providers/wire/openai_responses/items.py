"""The conversation as input items of the Responses API, in the order in which it happened.

A call's result follows it at once, before anything else that the user's turn holds. Reasoning
stands right before the message or the call that it led to, or not at all: the API refuses it
alone.
"""

from typing import Any

from providers.types import Model, Target
from providers.wire.openai_chat.history import PARAGRAPH, Block, Turn, content_of
from providers.wire.openai_chat.messages import INTERRUPTED, NO_CONTENT, NO_OUTPUT, MessageWriter, arguments_of
from providers.wire.openai_chat.quirks import Quirks
from providers.wire.openai_chat.server_blocks import text_of_server_block
from providers.wire.openai_chat.tools import ToolIds, wire_name
from providers.wire.openai_responses.quirks import ResponsesQuirks
from providers.wire.openai_responses.reasoning import opened, reasoning_item

Item = dict[str, Any]
Part = dict[str, Any]


def input_text(text: str) -> Part:
    return {"type": "input_text", "text": text}


class ItemWriter:
    """Writes one conversation."""

    def __init__(self, *, target: Target, model: Model, quirks: Quirks, own: ResponsesQuirks) -> None:
        self._target = target
        self._sees = model.vision
        self._quirks = quirks
        self._own = own
        self._chat = MessageWriter(target=target, model=model, quirks=quirks, thinking=False)
        self._ids = ToolIds(quirks)
        self._items: list[Item] = []
        self._user: list[Part] = []
        self._calls: dict[str, str] = {}
        self._said = ""
        """The type of the block that was last written into a message."""

    def write(self, turns: list[Turn]) -> list[Item]:
        for turn in turns:
            if turn.role == "assistant":
                self._assistant(turn)
            elif turn.role == "user":
                self._user_turn(turn)
            else:
                self._system(turn)
        self._answer_calls({})
        self._flush_user()
        if all(item.get("role") == "developer" for item in self._items):
            self._user.append(input_text(NO_CONTENT))
            self._flush_user()
        return self._items

    # -- the assistant's turns

    def _assistant(self, turn: Turn) -> None:
        self._answer_calls({})
        self._flush_user()
        start = len(self._items)
        message: Item | None = None
        phase = ""
        for block in turn.blocks:
            if block.type in {"thinking", "redacted_thinking"}:
                envelope = opened(block.signature or block.data, self._target)
                if envelope is None:
                    continue
                phase = envelope.phase
                item = reasoning_item(envelope, block.thinking, encrypts=self._own.encrypts)
                if item is not None:
                    self._items.append(item)
                message = None
            elif block.type == "tool_use":
                self._call(block)
                message, phase = None, ""
            else:
                message = self._say(block, message, phase)
        while len(self._items) > start and self._items[-1]["type"] == "reasoning":
            self._items.pop()
        if len(self._items) == start:
            self._items.append(_message(NO_CONTENT, ""))

    def _say(self, block: Block, message: Item | None, phase: str) -> Item | None:
        """Text goes into one message, as long as nothing else comes in between: text blocks side by
        side are one text cut by citations, others are paragraphs."""
        text = block.text if block.type == "text" else text_of_server_block(block)
        if not text.strip():
            return message
        if message is None:
            message = _message(text, phase)
            self._items.append(message)
        else:
            message["content"] += text if block.type == "text" and self._said == "text" else PARAGRAPH + text
        self._said = block.type
        return message

    def _call(self, block: Block) -> None:
        if block.id in self._calls:
            return
        self._calls[block.id] = call_id = self._ids.of(block)
        name = wire_name(block.name)
        self._items.append(
            {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments_of(block)}
        )

    # -- the user's turns

    def _user_turn(self, turn: Turn) -> None:
        results = {block.tool_use_id: block for block in turn.blocks if block.type == "tool_result"}
        self._answer_calls(results)
        parts = [part for block in turn.blocks if block.type != "tool_result" for part in self._parts(block)]
        if parts or not results:
            self._user += parts or [input_text(NO_CONTENT)]

    def _answer_calls(self, results: dict[str, Block]) -> None:
        """Outputs for all calls that wait; results that answer none of them are dropped."""
        for call_id, wire_id in self._calls.items():
            block = results.get(call_id)
            output = INTERRUPTED if block is None else self._output(block)
            self._items.append({"type": "function_call_output", "call_id": wire_id, "output": output})
        self._calls = {}

    def _output(self, block: Block) -> str | list[Part]:
        parts: list[Part] = []
        loaded: list[str] = []
        for inner in content_of(block):
            if inner.type == "tool_reference":
                loaded.append(wire_name(inner.tool_name))
            else:
                parts += self._parts(inner)
        if loaded:
            parts.append(input_text(f"Loaded tools: {', '.join(loaded)}. You can call them now."))
        if any(part["type"] != "input_text" for part in parts):
            return [input_text("Error:"), *parts] if block.is_error else parts
        text = "\n".join(part["text"] for part in parts) or NO_OUTPUT
        return f"Error: {text}" if block.is_error else text

    def _parts(self, block: Block) -> list[Part]:
        if block.type == "document" and block.where.type == "url" and block.where.url and self._reads_files:
            return [{"type": "input_file", "file_url": block.where.url}]
        return [_input_part(part) for part in self._chat.parts(block)]

    @property
    def _reads_files(self) -> bool:
        return self._quirks.files and self._sees

    def _system(self, turn: Turn) -> None:
        self._answer_calls({})
        if self._quirks.system_in_place:
            self._flush_user()
            self._items.append({"type": "message", "role": "developer", "content": [input_text(turn.text)]})
        else:
            self._user.append(input_text(f"<system-reminder>\n{turn.text}\n</system-reminder>"))

    def _flush_user(self) -> None:
        if self._user:
            self._items.append({"type": "message", "role": "user", "content": self._user})
            self._user = []


def _message(text: str, phase: str) -> Item:
    """A message of the assistant's. Without an id it is a plain text: its parts would need one."""
    message: Item = {"type": "message", "role": "assistant", "content": text}
    return message | {"phase": phase} if phase else message


def _input_part(part: Part) -> Part:
    """A part of a chat message as an input part."""
    match part["type"]:
        case "image_url":
            return {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
        case "file":
            return {"type": "input_file", **part["file"]}
        case _:
            return input_text(part["text"])
