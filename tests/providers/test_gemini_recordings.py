"""Real recorded traffic of Google's, replayed: what was said is read a second time here, naively, and must
all be in our blocks; and what others have sent there is what we would send."""

import json
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.types import Usage
from tests.fakes.google_rules import check_body
from tests.providers.gemini_support import (
    OLDER,
    SEARCH,
    contents_of,
    decoded,
    encoded,
    feed,
    problem_of_events,
    target,
)
from tests.providers.openai_chat_support import request, result

STREAMS = {
    "google-reasoning-gemini3": ("end_turn", Usage(9, 0, 0, None, 325, 302), ("text",), []),
    "google-tool-call-gemini3": (
        "tool_use",
        Usage(29, 0, 0, None, 819, 804),
        ("thinking", "tool_use"),
        [("weather", {"location": "San Francisco"})],
    ),
    "google-stream-tool-call-array-arguments-missing-terminal-function-call": (
        "tool_use",
        Usage(54, 0, 0, None, 195, 121),
        ("thinking", "tool_use"),
        [
            (
                "writeItems",
                {
                    "operations": [
                        {"action": "add", "description": "Fresh red apple", "itemid": "apple_001", "price": 0.5},
                        {"action": "add", "description": "Ripe yellow banana", "itemid": "banana_001", "price": 0.3},
                    ]
                },
            )
        ],
    ),
}  # fmt: skip


def raw_stream(recordings: Path, name: str) -> bytes:
    lines = (recordings / "vercel__ai/google" / f"{name}.chunks.txt").read_bytes().splitlines()
    return b"".join(b"data: " + line + b"\r\n\r\n" for line in lines if line.strip())


def parts_of(raw: bytes) -> list[dict[str, Any]]:
    chunks = [json.loads(event[6:]) for event in raw.split(b"\r\n\r\n") if event]
    return [p for c in chunks for candidate in c["candidates"] for p in candidate.get("content", {}).get("parts", [])]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_a_recorded_stream(recordings: Path, name: str, size: int) -> None:
    raw = raw_stream(recordings, name)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)] if size else [raw]
    answer = feed(pieces)
    stop_reason, usage, blocks, tools = STREAMS[name]
    assert answer.decoder.failure is None
    assert problem_of_events(answer.events) is None
    assert tuple(kind for kind, _ in groupby(block["type"] for block in answer.content)) == blocks
    assert [(b["name"], b["input"]) for b in answer.content if b["type"] == "tool_use"] == tools
    said = "".join(part.get("text", "") for part in parts_of(raw) if not part.get("thought"))
    assert "".join(block["text"] for block in answer.content if block["type"] == "text") == said
    assert answer.decoder.usage == usage
    assert answer.decoder.stop_reason == stop_reason


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


def test_recorded_whole_answers(recordings: Path) -> None:
    assert len(exchanges(recordings)) >= 6
    for name, asked, told in exchanges(recordings):
        searched = any("googleSearch" in tool or "google_search" in tool for tool in asked.get("tools", []))
        ours = request(tools=[SEARCH]) if searched else request(thinking={"type": "adaptive"})
        message, answer = decoded(told, to=target(OLDER), asked=ours)
        content = message["content"]
        (candidate,) = told["candidates"]
        parts = candidate["content"]["parts"]
        calls = [(p["functionCall"]["name"], p["functionCall"]["args"]) for p in parts if "functionCall" in p]
        assert [(b["name"], b["input"]) for b in content if b["type"] == "tool_use"] == calls, name
        said = "".join(part.get("text", "") for part in parts)
        assert "".join(b["text"] for b in content if b["type"] == "text") == said, name
        usage, counts = answer.usage, told["usageMetadata"]
        total = (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.output_tokens or 0)
        assert total == counts["totalTokenCount"], name
        assert answer.stop_reason == ("tool_use" if calls else "end_turn"), name


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


def test_what_we_send_is_what_google_was_seen_to_take(recordings: Path) -> None:
    """The same tools and choice, as a client of ours says them, become the recorded fields."""
    compared = 0
    for name, recorded, _ in exchanges(recordings):
        declared = [f for tool in recorded.get("tools", []) for f in tool.get("functionDeclarations", [])]
        calling = recorded.get("toolConfig", {}).get("functionCallingConfig", {})
        if len(recorded["contents"]) > 1 or not declared or len(calling.get("allowedFunctionNames", [])) > 1:
            continue
        tools = [
            {"name": f["name"], "description": f["description"], "input_schema": f["parameters_json_schema"]}
            for f in declared
        ]
        only = calling.get("allowedFunctionNames", [""])[0]
        kinds = {"ANY": "tool" if only else "any", "NONE": "none"}
        choice = {"type": kinds.get(calling.get("mode"), "auto")} | ({"name": only} if only else {})
        body = encoded(request(("user", recorded["contents"][0]["parts"][0]["text"]), tools=tools, tool_choice=choice))
        assert body["contents"] == [{"role": "user", "parts": recorded["contents"][0]["parts"]}], name
        sent = body["tools"][0]["functionDeclarations"]
        assert [f["parametersJsonSchema"] for f in sent] == [f["parameters_json_schema"] for f in declared], name
        if choice["type"] != "auto":
            assert body["toolConfig"]["functionCallingConfig"] == calling, name
        compared += 1
    assert compared >= 2


def test_the_rules_of_our_fake_allow_what_google_was_seen_to_take(recordings: Path) -> None:
    for _, recorded, _ in exchanges(recordings):
        body = json.loads(json.dumps(recorded).replace("parameters_json_schema", "parametersJsonSchema"))
        body["generationConfig"].pop("responseModalities", None)
        body = json.loads(json.dumps(body).replace('"google_search"', '"googleSearch"'))
        check_body(body, OLDER, vertex=False)
