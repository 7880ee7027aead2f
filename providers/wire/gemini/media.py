"""Images and documents as Google's parts: bytes inline, or an address that Google reads."""

import mimetypes
from typing import Any

import msgspec

from providers.errors import InvalidRequest
from providers.families import Family
from providers.types import Target
from providers.wire.openai_chat.history import Block, Source
from providers.wire.openai_chat.messages import FILE_OMITTED, IMAGE_OMITTED
from providers.wire.openai_chat.server_blocks import text_of_server_block

Part = dict[str, Any]

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
PDF = "application/pdf"
OWN_ADDRESSES = (
    "gs://",
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/",
    "https://youtu.be/",
)
"""Places that every Gemini model reads from."""


def reads(url: str, *, family: Family, target: Target) -> bool:
    """Whether Google reads `url` itself."""
    return family.fetches_urls or target.kind == "vertex" or url.startswith(OWN_ADDRESSES)


class MediaWriter:
    """Writes the blocks of a user's turn, and of tool results. `sees` is the operator's word on
    whether the model does."""

    def __init__(self, *, target: Target, family: Family, sees: bool) -> None:
        self._family = family
        self._target = target
        self._sees = sees

    def parts(self, block: Block) -> list[Part]:
        """Raises InvalidRequest for what this model cannot be given in any form."""
        match block.type:
            case "text":
                return [text_part(block.text)] if block.text.strip() else []
            case "image":
                return [self._image(block.where)]
            case "document":
                return self._document(block)
            case _:
                text = text_of_server_block(block)
                return [text_part(text)] if text else []

    def _image(self, where: Source) -> Part:
        if not self._sees:
            return text_part(IMAGE_OMITTED)
        if where.type == "base64" and where.data:
            if where.media_type not in IMAGES:
                return text_part(f"[image omitted: this model cannot read {where.media_type or 'its format'}]")
            return inline_part(where.media_type, where.data)
        if where.type == "url" and where.url:
            return self._file(where.url, "image/jpeg", "an image")
        return text_part("[image omitted: it lies on another provider's server]")

    def _document(self, block: Block) -> list[Part]:
        where = block.where
        title = block.title or "document"
        if where.type == "text" and where.data.strip():
            return [text_part(f'<document title="{title}">\n{where.data}\n</document>')]
        if where.type == "content":
            return [part for inner in _inner(where.content) for part in self.parts(inner)]
        if not self._sees:
            return [text_part(FILE_OMITTED)]
        if where.type == "base64" and where.data:
            return [inline_part(where.media_type or PDF, where.data)]
        if where.type == "url" and where.url:
            return [self._file(where.url, PDF, "a document")]
        return [text_part("[document omitted: it lies on another provider's server]")]

    def _file(self, url: str, default: str, what: str) -> Part:
        if not reads(url, family=self._family, target=self._target):
            raise InvalidRequest(
                f"messages: this model cannot fetch {what} from an address. Send it as base64, or use another model."
            )
        guessed = mimetypes.guess_type(url.partition("?")[0])[0]
        return {"fileData": {"mimeType": guessed or default, "fileUri": url}}


def _inner(content: Any) -> list[Block]:
    """The blocks inside a document of blocks."""
    if isinstance(content, str):
        return [Block(type="text", text=content)]
    try:
        return msgspec.json.decode(msgspec.json.encode(content or []), type=list[Block])
    except (msgspec.DecodeError, RecursionError):
        return []


def text_part(text: str) -> Part:
    return {"text": text}


def inline_part(media_type: str, data: str) -> Part:
    return {"inlineData": {"mimeType": media_type, "data": data}}
