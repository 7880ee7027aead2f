"""Documents that the answer shall cite: to Cohere as `documents`, its citations back as Anthropic's.

Only documents and search results whose citations the client has enabled take this way. A text is
cut into passages, as Cohere wants it (it cites a passage as a whole), so that a citation still
names the place in the text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from providers.wire.openai_chat.history import Block, Turn, content_of
from providers.wire.openai_chat.server_blocks import texts_of

PASSAGE_CHARACTERS = 1200


@dataclass(frozen=True, slots=True)
class Source:
    """One passage. `citation` is what Anthropic's client gets when Cohere cites it."""

    id: str
    data: dict[str, str]
    citation: dict[str, Any]


def wants_citations(block: Block) -> bool:
    enabled = block.citations.get("enabled") if isinstance(block.citations, dict) else None
    if block.type == "search_result":
        return enabled is True
    return block.type == "document" and enabled is True and block.where.type in {"text", "content"}


def sources_of(turns: list[Turn]) -> list[Source]:
    """All passages of a conversation. Documents and search results are counted over the whole of
    it, as Anthropic does."""
    passages: list[tuple[dict[str, str], dict[str, Any]]] = []
    documents = results = 0
    for block in _blocks(turns):
        if block.type == "document":
            if wants_citations(block):
                passages += _of_document(block, documents)
            documents += 1
        elif block.type == "search_result":
            if wants_citations(block):
                passages += _of_search_result(block, results)
            results += 1
    return [Source(f"doc:{number}", data, citation) for number, (data, citation) in enumerate(passages)]


def _blocks(turns: list[Turn]) -> Iterator[Block]:
    for turn in turns:
        if turn.role == "user":
            for block in turn.blocks:
                yield from content_of(block) if block.type == "tool_result" else (block,)


def _of_document(block: Block, index: int) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    where = block.where
    named = {"document_index": index, "document_title": block.title}
    head = {"title": block.title} if block.title else {}
    if where.type == "text":
        for start, end in _passages(where.data):
            text = where.data[start:end]
            place = {"start_char_index": start, "end_char_index": end}
            yield {**head, "text": text}, {"type": "char_location", "cited_text": text, **named, **place}
        return
    for number, text in enumerate(texts_of(where.content)):
        if text.strip():
            place = {"start_block_index": number, "end_block_index": number + 1}
            yield {**head, "text": text}, {"type": "content_block_location", "cited_text": text, **named, **place}


def _of_search_result(block: Block, index: int) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    source = block.source if isinstance(block.source, str) else ""
    for number, inner in enumerate(content_of(block)):
        if inner.type == "text" and inner.text.strip():
            yield (
                {"title": block.title or "", "source": source, "text": inner.text},
                {
                    "type": "search_result_location",
                    "cited_text": inner.text,
                    "search_result_index": index,
                    "source": source,
                    "title": block.title,
                    "start_block_index": number,
                    "end_block_index": number + 1,
                },
            )


def _passages(text: str) -> Iterator[tuple[int, int]]:
    """The text's passages as (start, end): whole lines as far as they fit, none of them blank."""
    start = 0
    while start < len(text):
        end = min(start + PASSAGE_CHARACTERS, len(text))
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(". ", start, end))
            end = cut + 1 if cut > start else end
        if text[start:end].strip():
            yield start, end
        start = end
