"""Real recorded traffic of Google's, replayed: what was said is read a second time here, naively, and must
all be in our blocks; and what others have sent there is what we would send."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.google_rules import check_body
from tests.providers.gemini_support import (
    OLDER,
    SEARCH,
    contents_of,
    decoded,
    feed,
    target,
)
from tests.providers.openai_chat_support import request, result


def raw_stream(recordings: Path, name: str) -> bytes:
    lines = (recordings / "vercel__ai/google" / f"{name}.chunks.txt").read_bytes().splitlines()
    return b"".join(b"data: " + line + b"\r\n\r\n" for line in lines if line.strip())


def parts_of(raw: bytes) -> list[dict[str, Any]]:
    chunks = [json.loads(event[6:]) for event in raw.split(b"\r\n\r\n") if event]
    return [p for c in chunks for candidate in c["candidates"] for p in candidate.get("content", {}).get("parts", [])]


def test_a_recorded_signature_goes_back_as_it_came(recordings: Path) -> None:
    raw = raw_stream(recordings, "google-tool-call-gemini3")
    content = [{**b, "id": "toolu_1"} if b["type"] == "tool_use" else b for b in feed([raw]).content]
    sent = contents_of(("user", "Weather?"), ("assistant", content), ("user", [result("toolu_1", "Sunny.")]))
    recorded = parts_of(raw)[0]
    (part,) = sent[1]["parts"]
    assert part["thoughtSignature"] == recorded["thoughtSignature"]
    assert part["functionCall"] == {"id": "toolu_1", **recorded["functionCall"]}


# -- pydantic-ai's cassettes: real pairs of request and answer


@cache
def exchanges(folder: Path) -> tuple[tuple[str, dict[str, Any], dict[str, Any]], ...]:
    """(file, request, answer) of every recorded generateContent."""
    found = []
    for path in sorted((folder / "pydantic__pydantic-ai").rglob("*google*.yaml")):
        for interaction in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["interactions"]:
            asked, answer = interaction["request"], interaction["response"]
            if ":generateContent" in asked["uri"] and answer["status"]["code"] == 200:
                found.append((path.name, asked["parsed_body"], answer["parsed_body"]))
    return tuple(found)


def test_a_recorded_search(recordings: Path) -> None:
    found = [each for each in exchanges(recordings) if "web_search" in each[0]]
    assert found
    for name, _, told in found:
        message, answer = decoded(told, to=target(OLDER), asked=request(tools=[SEARCH]))
        grounding = told["candidates"][0]["groundingMetadata"]
        queries = [b["input"]["query"] for b in message["content"] if b["type"] == "server_tool_use"]
        assert queries == grounding["webSearchQueries"], name
        results = [r for b in message["content"] if b["type"] == "web_search_tool_result" for r in b["content"]]
        assert [r["url"] for r in results] == [c["web"]["uri"] for c in grounding.get("groundingChunks", [])], name
        cited = {c["cited_text"] for b in message["content"] for c in b.get("citations", [])}
        segments = {s["segment"]["text"][:150] for s in grounding.get("groundingSupports", [])}
        assert cited == segments, name
        assert answer.usage.web_searches == 1


def test_the_rules_of_our_fake_allow_what_google_was_seen_to_take(recordings: Path) -> None:
    for _, recorded, _ in exchanges(recordings):
        body = json.loads(json.dumps(recorded).replace("parameters_json_schema", "parametersJsonSchema"))
        body["generationConfig"].pop("responseModalities", None)
        body = json.loads(json.dumps(body).replace('"google_search"', '"googleSearch"'))
        check_body(body, OLDER, vertex=False)
