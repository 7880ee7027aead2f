"""Bedrock's citations as Anthropic's."""

from typing import Any


def anthropic_citation(told: dict[str, Any]) -> dict[str, Any] | None:
    """None for a citation that says no place, which Anthropic's clients cannot hold."""
    location = told.get("location")
    if not isinstance(location, dict):
        return None
    title, source = told.get("title"), told.get("source")
    parts = told.get("sourceContent")
    texts = [str(part.get("text") or "") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    cited = {"cited_text": "".join(texts)}
    for name, place in location.items():
        if not isinstance(place, dict):
            continue
        start, end = place.get("start", 0), place.get("end", 0)
        document = {"document_index": place.get("documentIndex", 0), "document_title": title}
        match name:
            case "documentChar":
                span = {"start_char_index": start, "end_char_index": end}
                return {"type": "char_location", **cited, **document, **span}
            case "documentPage":
                span = {"start_page_number": start, "end_page_number": end}
                return {"type": "page_location", **cited, **document, **span}
            case "documentChunk":
                span = {"start_block_index": start, "end_block_index": end}
                return {"type": "content_block_location", **cited, **document, **span}
            case "searchResultLocation":
                span = {"start_block_index": start, "end_block_index": end}
                found = {"search_result_index": place.get("searchResultIndex", 0), "source": source or ""}
                return {"type": "search_result_location", **cited, **found, "title": title, **span}
            case "web":
                web = {"url": place.get("url") or "", "title": title, "encrypted_index": ""}
                return {"type": "web_search_result_location", **cited, **web}
    return None
