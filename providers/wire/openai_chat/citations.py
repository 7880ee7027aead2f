"""The pages that an answer cites, in the places where Chat Completions servers tell them, as Anthropic's
citations (translation.md 4.2)."""

from typing import Any

from providers.wire.openai_chat.chunks import Chunk

MAX_CITED = 150
Citation = dict[str, Any]


def of_annotations(annotations: list[dict[str, Any]]) -> list[Citation]:
    """Of OpenAI's `url_citation` annotations. What stands at the address is OpenRouter's addition."""
    told = [note.get("url_citation") or note for note in annotations if note.get("type") == "url_citation"]
    return [_citation(note, cited=str(note.get("content") or "")) for note in told if isinstance(note, dict)]


def of_chunk(chunk: Chunk) -> list[Citation]:
    """Of an answer that lists addresses beside its choices; what it found names their titles."""
    found = [result for result in chunk.search_results or () if isinstance(result, dict)]
    titles = {result.get("url"): result.get("title") for result in found}
    urls = chunk.citations or [result.get("url") for result in found]
    return [_citation({"url": url, "title": titles.get(url)}) for url in urls if isinstance(url, str) and url]


def _citation(told: dict[str, Any], cited: str = "") -> Citation:
    return {
        "type": "web_search_result_location",
        "url": str(told.get("url") or ""),
        "title": told["title"] if isinstance(told.get("title"), str) else None,
        "encrypted_index": "",
        "cited_text": cited[:MAX_CITED],
    }
