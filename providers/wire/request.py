"""A parsed `/v1/messages` body that keeps the client's bytes.

The list of fields is open: what we do not know survives, byte for byte, until a wire
that cannot carry it drops it (architecture 3.3). Known fields are decoded on first use.
"""

import contextlib
import functools
import re
import threading
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from providers.errors import InvalidRequest
from providers.wire import bounds
from providers.wire.toolset import NO_TOOLS, Tool, Toolset, toolset_of

ROLES = Literal["user", "assistant", "system"]
MOST_KEY = 64
"""Characters of a field's name that is remembered."""
THINKING_BLOCKS = frozenset({"thinking", "redacted_thinking"})
MEDIA_BLOCKS = frozenset({"image", "document"})
MOST_LEVELS = 4
"""Of blocks inside blocks that are decoded: an image in a document in the result of a tool is three deep."""


class Block(msgspec.Struct):
    """A content block, as far as routing looks into it. `content` is a tool_result's, undecoded."""

    type: str
    text: str = ""
    content: Raw | UnsetType = UNSET


class Message(msgspec.Struct):
    role: ROLES
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        return [Block(type="text", text=self.content)] if isinstance(self.content, str) else self.content


class _Inner(msgspec.Struct):
    """A block inside a block."""

    type: str = ""
    content: Raw | UnsetType = UNSET


class Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: Raw | UnsetType = UNSET


class Metadata(msgspec.Struct):
    user_id: str | None = None


_fields = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_max_tokens = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool | None)
_messages = msgspec.json.Decoder(list[Message])
_system = msgspec.json.Decoder(str | list[Block] | None)
_inner = msgspec.json.Decoder(_Inner | list[_Inner])
_TYPE = re.compile(rb'"type"\s*:\s*"([^"]{0,64})"')
_thinking = msgspec.json.Decoder(Thinking | None)
_output_config = msgspec.json.Decoder(OutputConfig | None)
_metadata = msgspec.json.Decoder(Metadata | None)
_anything = msgspec.json.Decoder()


def _decode(decoder: "msgspec.json.Decoder[Any]", raw: Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{name}: {_reason(error, name)}") from None


def _reason(error: Exception, name: str) -> str:
    """msgspec's message with `$` replaced by the field's name: "Expected `int` … at messages[0]"."""
    if isinstance(error, RecursionError):
        return bounds.TOO_DEEP
    return str(error).replace("`$", f"`{name}") + "."


class _Counted:
    """A value that decides what a request costs. Decoded by a hook, so that it shows how often a body
    gives it: servers differ in which of two they take."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class _Name(_Counted):
    __slots__ = ()


class _Limit(_Counted):
    __slots__ = ()


class _Body(msgspec.Struct):
    """What is looked at in nearly every body, decoded in one pass; the Raw ones are asked whether they are there."""

    model: _Name
    messages: list[Message]
    max_tokens: _Limit
    stream: bool | None = None
    system: str | list[Block] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    tools: Raw | UnsetType = UNSET
    stop_sequences: Raw | UnsetType = UNSET
    temperature: Raw | UnsetType = UNSET
    top_p: Raw | UnsetType = UNSET
    top_k: Raw | UnsetType = UNSET
    mcp_servers: Raw | UnsetType = UNSET
    safeguards: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    context_management: Raw | UnsetType = UNSET
    diagnostics: Raw | UnsetType = UNSET
    inference_geo: Raw | UnsetType = UNSET
    thread: Raw | UnsetType = UNSET


DECODED = ("system", "thinking", "output_config", "metadata")
ASKED_FOR = frozenset({
    "tools", "stop_sequences", "temperature", "top_p", "top_k", "mcp_servers", "safeguards", "tool_choice",
    "context_management", "diagnostics", "inference_geo", "thread",
})  # fmt: skip
_MODEL_FIRST = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')


class _Reader(threading.local):
    """Decodes bodies that are as they should be; one a thread, since it counts."""

    def __init__(self) -> None:
        self._counted = 0
        self._decoder = msgspec.json.Decoder(_Body, dec_hook=self._count)

    def _count(self, kind: type[Any], value: Any) -> _Counted:
        if type(value) is not (str if kind is _Name else int):
            raise ValueError
        self._counted += 1
        return _Name(value) if kind is _Name else _Limit(value)

    def read(self, body: bytes) -> tuple[_Body, tuple[int, int] | None] | None:
        """The body, and where the model's name stands in it if it comes first. None for a body with any
        fault, or that gives the model or the limit twice."""
        self._counted = 0
        try:
            known = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        if self._counted != 2 or not known.messages or known.max_tokens.value < 1 or not known.model.value.strip():
            return None
        first = _MODEL_FIRST.match(body)
        return known, first.span(1) if first else None


_reader = _Reader()


class MessagesRequest:
    """One request. Immutable: `with_fields` makes an edited copy."""

    __slots__ = (
        "_block_types", "_body", "_decoded", "_fields", "_known", "_model_at", "_raw", "_toolset",
        "max_tokens", "messages", "model", "stream",
    )  # fmt: skip

    def __init__(self, fields: dict[str, Raw], *, counting: bool = False, body: bytes = b"") -> None:
        self._fields: dict[str, Raw] | None = fields
        self._body = body
        self._known: _Body | None = None
        self._model_at: tuple[int, int] | None = None
        self._decoded: dict[str, Any] = {}
        self._raw: dict[str, bytes] = {}
        self._toolset: Toolset | None = None
        self._block_types: frozenset[str] | None = None
        self.model: str = self._required("model", _string)
        if not self.model.strip():
            raise InvalidRequest("model: must name a model; GET /v1/models lists them.")
        self.messages: list[Message] = self._required("messages", _messages)
        if not self.messages:
            raise InvalidRequest("messages: at least one message is required.")
        self.max_tokens: int = 0 if counting else self._required("max_tokens", _max_tokens)
        if self.max_tokens < 0 or (self.max_tokens == 0 and not counting):
            raise InvalidRequest("max_tokens: must be at least 1.")
        self.stream: bool = bool(self._typed("stream", _flag))

    @classmethod
    def parse(cls, body: bytes, *, counting: bool = False) -> "MessagesRequest":
        """Parse a body; `counting` for count_tokens, which has no max_tokens.

        Raises InvalidRequest with the field's name and what is wrong with it."""
        read = None if counting else _reader.read(body)
        if read is not None:
            return cls._of(body, *read)
        try:  # field by field, so that what is wrong can be named
            fields = _fields.decode(body)
        except msgspec.ValidationError:
            raise InvalidRequest("The request body must be a JSON object.") from None
        except RecursionError:
            raise InvalidRequest(f"The request body {bounds.TOO_DEEP}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
        return cls(fields, counting=counting, body=body)

    @classmethod
    def _of(cls, body: bytes, known: _Body, model_at: tuple[int, int] | None) -> "MessagesRequest":
        request = object.__new__(cls)
        request._fields = None
        request._body = body
        request._known = known
        request._model_at = model_at
        request._raw = {}
        request._toolset = request._block_types = None
        request._decoded = {name: getattr(known, name) for name in DECODED}
        request._decoded["stream"] = known.stream
        request.model = known.model.value
        request.messages = known.messages
        request.max_tokens = known.max_tokens.value
        request.stream = bool(known.stream)
        return request

    @property
    def fields(self) -> dict[str, Raw]:
        """Every field, undecoded."""
        if self._fields is None:
            self._fields = _fields.decode(self._body)
        return self._fields

    def has(self, name: str) -> bool:
        """Whether the field is there, be it null."""
        return self._field(name) is not None

    def _field(self, name: str) -> Raw | None:
        if self._fields is None and self._known is not None and name in ASKED_FOR:
            raw: Raw | UnsetType = getattr(self._known, name)
            return None if raw is UNSET else raw
        return self.fields.get(name)

    def _required(self, name: str, decoder: "msgspec.json.Decoder[Any]") -> Any:
        raw = self._field(name)
        if raw is None:
            raise InvalidRequest(f"{name}: field required.")
        return _decode(decoder, raw, name)

    def _typed(self, name: str, decoder: "msgspec.json.Decoder[Any]") -> Any:
        if name not in self._decoded:
            raw = self._field(name)
            self._decoded[name] = None if raw is None else _decode(decoder, raw, name)
        return self._decoded[name]

    @property
    def system(self) -> str | list[Block] | None:
        system: str | list[Block] | None = self._typed("system", _system)
        return system

    @property
    def system_texts(self) -> list[str]:
        system = self.system
        if system is None:
            return []
        return [system] if isinstance(system, str) else [block.text for block in system]

    @property
    def toolset(self) -> Toolset:
        """The declared tools. Raises InvalidRequest for something else."""
        if self._toolset is None:
            raw = self._field("tools")
            try:
                self._toolset = NO_TOOLS if raw is None else toolset_of(bytes(raw))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                raise InvalidRequest(f"tools: {_reason(error, 'tools')}") from None
        return self._toolset

    @property
    def tools(self) -> list[Tool]:
        return self.toolset.tools

    @property
    def thinking(self) -> Thinking | None:
        thinking: Thinking | None = self._typed("thinking", _thinking)
        return thinking

    @property
    def output_config(self) -> OutputConfig:
        return self._typed("output_config", _output_config) or OutputConfig()

    @property
    def user_id(self) -> str:
        metadata: Metadata | None = self._typed("metadata", _metadata)
        return (metadata.user_id if metadata else None) or ""

    def value(self, name: str) -> Any:
        """The field `name` as plain Python data, None when it is absent."""
        raw = self._field(name)
        return None if raw is None else _decode(_anything, raw, name)

    def raw(self, name: str) -> bytes:
        """The field's own bytes; empty when it is absent. For cheap `in` checks before decoding."""
        if name == "tools":
            return self.toolset.raw if self.has("tools") else b""
        if name not in self._raw:
            raw = self._field(name)
            self._raw[name] = b"" if raw is None else bytes(raw)
        return self._raw[name]

    def drop_copies(self) -> None:
        """It is sent: what `raw` has copied need not be held as long as the answer takes. (It can be asked again.)"""
        self._raw.clear()

    def mentions(self, mark: bytes, name: str) -> bool:
        """Whether the field `name` holds these bytes."""
        if name == "tools":
            return self.toolset.has(mark)
        return mark in self.raw(name)

    @property
    def block_types(self) -> frozenset[str]:
        """The types of all content blocks of the conversation, of those in the results of tools too."""
        if self._block_types is None:
            types: set[str] = set()
            for message in self.messages:
                if type(message.content) is list:
                    for block in message.content:
                        types.add(block.type)
                        if block.content is not UNSET:
                            _add_types(block.content, types)
            self._block_types = frozenset(types)
        return self._block_types

    @property
    def has_media(self) -> bool:
        """Whether the conversation holds images or documents, also inside the results of tools."""
        return not MEDIA_BLOCKS.isdisjoint(self.block_types)

    def system_says(self, text: str) -> bool:
        """Whether `text` stands in the system prompt."""
        return any(text in each for each in self.system_texts)

    def check(self) -> None:
        """Decode every known field, so that a wrong one is refused now (InvalidRequest); refuse what
        is larger than any honest request (`bounds`)."""
        _ = (self.system, self.tools, self.thinking, self.output_config, self.user_id)
        bounds.check(self)

    def texts(self) -> Iterator[str]:
        """Every text of the conversation that a model reads, undecorated."""
        yield from self.system_texts
        for message in self.messages:
            for block in message.blocks:
                yield block.text

    def with_fields(self, **changed: Any) -> "MessagesRequest":
        """A copy with the fields in `changed` replaced (a Raw is taken as it is, any other
        value is encoded; None removes the field). The order of fields stays."""
        fields = dict(self.fields)
        for name, value in changed.items():
            if value is None:
                fields.pop(name, None)
            else:
                fields[name] = value if isinstance(value, Raw) else Raw(msgspec.json.encode(value))
        copy = object.__new__(MessagesRequest)
        copy._fields = fields
        copy._body = b""
        copy._known = copy._model_at = None
        copy._raw = {name: value for name, value in self._raw.items() if name not in changed}
        copy._toolset = None if "tools" in changed else self._toolset
        copy._block_types = None if "messages" in changed else self._block_types
        copy._decoded = {name: value for name, value in self._decoded.items() if name not in changed}
        copy.model = _decode(_string, fields["model"], "model") if "model" in changed else self.model
        copy.messages = _decode(_messages, fields["messages"], "messages") if "messages" in changed else self.messages
        copy.max_tokens = (
            _decode(_max_tokens, fields["max_tokens"], "max_tokens") if "max_tokens" in changed else self.max_tokens
        )
        copy.stream = bool(copy._typed("stream", _flag))
        return copy

    def without_thinking(self) -> "MessagesRequest":
        """The request without the thinking blocks of earlier turns."""
        messages = []
        for message in self.value("messages"):
            content = message.get("content")
            if message.get("role") == "assistant" and isinstance(content, list):
                content = [block for block in content if block.get("type") not in THINKING_BLOCKS]
            if content:
                messages.append({**message, "content": content})
        return self.with_fields(messages=messages)

    def encode_as(self, model: str) -> bytes:
        """`encode` with another model's name."""
        if self._model_at is None:
            return self.with_fields(model=model).encode()
        start, end = self._model_at
        whole = memoryview(self._body)
        return b"".join((whole[:start], msgspec.json.encode(model), whole[end:]))

    def encode(self) -> bytes:
        """The body again: unchanged fields byte for byte as the client sent them."""
        if self._known is not None:
            return self._body
        parts: list[bytes | Raw] = [b"{"]
        for name, value in self.fields.items():
            parts += (_key(name) if len(name) < MOST_KEY else _key.__wrapped__(name), value, b",")
        parts[-1] = b"}"
        return b"".join(parts)  # one copy: the encoder's growing buffer makes several


def _add_types(content: Raw, types: set[str], levels: int = MOST_LEVELS) -> None:
    """The types of the blocks in a block's `content`, at any depth; of a text there are none."""
    if memoryview(content)[0] == ord(b'"'):
        return
    inner: _Inner | list[_Inner] | None = None
    if levels:  # each reads again what the one around it has skipped
        with contextlib.suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            inner = _inner.decode(content)
    if inner is None:  # no blocks, or not only, or deeper than anything honest
        types.update(name.decode("utf-8", "replace") for name in _TYPE.findall(bytes(content)))
        return
    for block in inner if isinstance(inner, list) else (inner,):
        types.add(block.type)
        if block.content is not UNSET:
            _add_types(block.content, types, levels - 1)


@functools.lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return msgspec.json.encode(name) + b":"
