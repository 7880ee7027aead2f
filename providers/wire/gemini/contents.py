"""The conversation as Google's contents: roles alternate and the user begins; the answers to all
calls of a model's turn stand together, right behind it, in the order of the calls."""

from typing import Any

import msgspec

from providers.families import Family
from providers.types import Model, Target
from providers.wire.gemini.media import MediaWriter, Part, text_part
from providers.wire.gemini.thinking import DUMMY_SIGNATURE, carried, unpacked
from providers.wire.gemini.tools import function_name
from providers.wire.openai_chat.history import Block, Turn, content_of
from providers.wire.openai_chat.messages import ATTACHMENTS, INTERRUPTED, NO_CONTENT, NO_OUTPUT
from providers.wire.openai_chat.server_blocks import text_of_server_block


class ContentWriter:
    """Writes one conversation."""

    def __init__(self, *, target: Target, model: Model, family: Family) -> None:
        self._target = target
        self._model = model
        self._family = family
        self._media = MediaWriter(target=target, family=family, sees=model.vision)
        self._contents: list[dict[str, Any]] = []
        self._user: list[Part] = []
        self._calls: dict[str, str] = {}
        """The names of the functions called and not answered yet, by the calls' ids."""

    def write(self, turns: list[Turn]) -> list[dict[str, Any]]:
        for turn in turns:
            if turn.role == "assistant":
                self._model_turn(turn)
            elif turn.role == "user":
                self._user_turn(turn)
            else:
                self._system_turn(turn)
        self._answer_calls({})
        if not self._contents and not self._user:
            self._user.append(text_part(NO_CONTENT))
        self._flush_user()
        return self._contents

    # -- the model's turns

    def _model_turn(self, turn: Turn) -> None:
        self._answer_calls({})
        if not self._contents and not self._user:
            self._user.append(text_part(NO_CONTENT))
        self._flush_user()
        parts = _Signed(signs_calls=self._family.signed_calls)
        for block in turn.blocks:
            match block.type:
                case "thinking":
                    parts.carry(carried(block.signature, target=self._target, model=self._model))
                case "tool_use":
                    if block.id not in self._calls:
                        self._calls[block.id] = function_name(block.name)
                        parts.call({"id": block.id, "name": self._calls[block.id], "args": _args(block)})
                case "text":
                    parts.text(block.text)
                case _:
                    parts.text(text_of_server_block(block))
        self._contents.append({"role": "model", "parts": parts.all or [text_part(NO_CONTENT)]})

    # -- the user's turns

    def _user_turn(self, turn: Turn) -> None:
        results = {block.tool_use_id: block for block in turn.blocks if block.type == "tool_result"}
        self._answer_calls(results)
        parts = [part for block in turn.blocks if block.type != "tool_result" for part in self._media.parts(block)]
        if parts or not results:
            self._user += parts or [text_part(NO_CONTENT)]

    def _system_turn(self, turn: Turn) -> None:
        self._answer_calls({})
        self._user.append(text_part(f"<system-reminder>\n{turn.text}\n</system-reminder>"))

    def _answer_calls(self, results: dict[str, Block]) -> None:
        """Answers for all calls that wait; results that answer none of them are dropped."""
        attached: list[Part] = []
        for call_id, name in self._calls.items():
            block = results.get(call_id)
            texts, media = ([INTERRUPTED], []) if block is None else self._result(block)
            said = "\n".join(texts) or NO_OUTPUT
            # A text, never JSON: a "$ref" in it would be read as a reference to a part.
            response = {"error" if block is None or block.is_error else "output": said}
            answer: Part = {"id": call_id, "name": name, "response": response}
            if media and self._family.media_in_results:
                answer["parts"] = media
            elif media:
                attached += [text_part(f"[result of the tool call {call_id}]"), *media]
            self._user.append({"functionResponse": answer})
        self._calls = {}
        if attached:
            self._user += [text_part(ATTACHMENTS), *attached]

    def _result(self, block: Block) -> tuple[list[str], list[Part]]:
        """A result's texts, and its images and files."""
        texts: list[str] = []
        media: list[Part] = []
        loaded: list[str] = []
        for inner in content_of(block):
            if inner.type == "tool_reference":
                loaded.append(function_name(inner.tool_name))
                continue
            for part in self._media.parts(inner):
                if "text" in part:
                    texts.append(part["text"])
                else:
                    media.append(part)
                    texts.append(f"[{inner.type} attached]")
        if loaded:
            texts.append(f"Loaded tools: {', '.join(loaded)}. You can call them now.")
        return texts, media

    def _flush_user(self) -> None:
        if self._user:
            self._contents.append({"role": "user", "parts": self._user})
            self._user = []


class _Signed:
    """The parts of one model turn, each with the signature that came with it."""

    def __init__(self, *, signs_calls: bool) -> None:
        self.all: list[Part] = []
        self._needs_signature = signs_calls
        """No call yet: the first one of a turn needs a signature, and later ones have their own or none."""
        self._call_signature = ""
        self._text_signature = ""

    def carry(self, what: tuple[str, str] | None) -> None:
        match what:
            case ("call", payload):
                self._call_signature = payload
            case ("text", payload):
                self._text_signature = payload
            case ("part", payload) if part := unpacked(payload):
                self.all.append(part)

    def text(self, text: str) -> None:
        if text.strip():
            self.all.append(self._signed_text(text))

    def call(self, call: dict[str, Any]) -> None:
        if self._text_signature:
            # It came at the end of the text, as an empty part.
            self.all.append(self._signed_text(""))
        part: Part = {"functionCall": call}
        signature, self._call_signature = self._call_signature, ""
        if signature or self._needs_signature:
            part["thoughtSignature"] = signature or DUMMY_SIGNATURE
        self._needs_signature = False
        self.all.append(part)

    def _signed_text(self, text: str) -> Part:
        signature, self._text_signature = self._text_signature, ""
        return text_part(text) | ({"thoughtSignature": signature} if signature else {})


def _args(call: Block) -> Any:
    """The call's input, byte for byte where it is an object, as Google demands."""
    raw = bytes(call.input).strip()
    if raw.startswith(b"{"):
        return msgspec.Raw(raw)
    return {} if raw in (b"", b"null") else {"input": msgspec.Raw(raw)}
