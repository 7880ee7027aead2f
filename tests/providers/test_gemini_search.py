"""Google Search: asked for as Anthropic's web search, answered in its blocks."""

from typing import Any

import pytest

from providers.errors import InvalidRequest
from tests.providers.gemini_support import (
    NEWER,
    OLDER,
    SEARCH,
    STOP,
    USAGE,
    call,
    chunk,
    contents_of,
    decoded,
    encoded,
    response,
    says,
    stream,
    target,
    thought,
    whole,
)
from tests.providers.openai_chat_support import BASH, request, words

ASKED = request(("user", "Who won the 2024 Prix Göncourt?"), tools=[SEARCH], stream=True, thinking={"type": "adaptive"})
ANSWER = "Kämel won. He is a writer."
SITES = [
    ("https://g.example/1", "lemonde.fr"),
    ("https://g.example/2", "fr.wikipedia.org"),
    ("https://g.example/3", "bbc.com"),
]


def grounding(
    *supports: dict[str, Any], queries: Any = ("prix 2024", "göncourt"), sites: Any = SITES
) -> dict[str, Any]:
    return {
        "webSearchQueries": list(queries),
        "groundingChunks": [{"web": {"uri": uri, "title": title}} for uri, title in sites],
        "groundingSupports": list(supports),
        "searchEntryPoint": {"renderedContent": "<style></style>"},
    }


def support(text: str, *indices: int, start: int | None = None, **segment: Any) -> dict[str, Any]:
    start = ANSWER.encode().find(text.encode()) if start is None else start
    told = {"endIndex": start + len(text.encode()), "text": text, **segment} | ({"startIndex": start} if start else {})
    return {"segment": told, "groundingChunkIndices": list(indices), "confidenceScores": [0.9] * len(indices)}


def found(uri: str, title: str) -> dict[str, Any]:
    return {"type": "web_search_result", "url": uri, "title": title, "encrypted_content": "", "page_age": None}


def cites(place: int, text: str) -> dict[str, Any]:
    uri, title = SITES[place]
    return {
        "type": "web_search_result_location",
        "url": uri,
        "title": title,
        "encrypted_index": "",
        "cited_text": text,
    }


def answered(told: Any, *texts: str, asked: Any = ASKED, to: Any = None) -> Any:
    chunks = [chunk({"text": text}) for text in texts or (ANSWER[:5], ANSWER[5:])]
    streamed = whole(stream(*chunks, chunk(finish="STOP", groundingMetadata=told, usage=USAGE), asked=asked, to=to))
    message, _ = decoded(
        response({"text": "".join(texts) or ANSWER}, finish="STOP", groundingMetadata=told, usage=USAGE),
        asked=asked,
        to=to,
    )
    assert message == streamed.message
    return streamed


def test_a_search_is_asked_for() -> None:
    body = encoded(ASKED)
    assert body["tools"] == [{"googleSearch": {}}]
    assert "systemInstruction" not in body


def test_bug_101_searches_come_before_the_text_with_its_citations() -> None:
    streamed = answered(grounding(support("Kämel won.", 0, 2), support("He is a writer.", 1)))
    kinds = [block["type"] for block in streamed.content]
    pair = ["server_tool_use", "web_search_tool_result"]
    assert kinds == [*pair, *pair, "text", "text"]
    assert [b["input"] for b in streamed.content[:4:2]] == [{"query": "prix 2024"}, {"query": "göncourt"}]
    assert streamed.content[1]["content"] == [found(*SITES[0]), found(*SITES[1])]
    assert streamed.content[3]["content"] == [found(*SITES[2])]
    assert streamed.content[4] == {**words("Kämel won."), "citations": [cites(0, "Kämel won."), cites(2, "Kämel won.")]}
    assert streamed.content[5] == {**words(" He is a writer."), "citations": [cites(1, "He is a writer.")]}
    assert "".join(block["text"] for block in streamed.content[4:]) == ANSWER
    assert streamed.decoder.stop_reason == "end_turn", "never tool_use for a search of the server's"


def test_ids_of_searches_are_our_own_and_pair_up() -> None:
    streamed = answered(grounding())
    blocks = [e.content_block for e in streamed.events if e.type == "content_block_start"]
    assert blocks[0].id == blocks[1].tool_use_id
    assert blocks[0].id.startswith("srvtoolu_ccm")
    assert blocks[0].id != blocks[2].id


@pytest.mark.parametrize(("name", "billed"), [(OLDER, 1), (NEWER, 2)])
def test_searches_are_counted_as_google_bills_them(name: str, billed: int) -> None:
    streamed = answered(grounding(), to=target(name))
    assert streamed.decoder.usage.web_searches == billed
    assert streamed.message["usage"]["server_tool_use"]["web_search_requests"] == billed


def test_no_search_was_needed() -> None:
    streamed = answered({}, "Hello.")
    assert streamed.content == [words("Hello.")]
    assert streamed.decoder.usage.web_searches == 0
    assert (
        "server_tool_use" not in (streamed.message["usage"] or {}) or not streamed.message["usage"]["server_tool_use"]
    )


def test_sources_without_a_query_answer_the_user_s_question() -> None:
    streamed = answered(grounding(queries=()))
    assert streamed.content[0]["input"] == {"query": "Who won the 2024 Prix Göncourt?"}
    assert len(streamed.content[1]["content"]) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        support("not in the text", 0, start=3),
        support("Kämel won.", 7, start=0),
        {"segment": {"endIndex": 5}, "groundingChunkIndices": [0]},
        {"groundingChunkIndices": [0]},
    ],
)
def test_a_support_that_fits_nowhere_cites_nothing_and_loses_nothing(wrong: Any) -> None:
    streamed = answered(grounding(wrong, queries=["q"]))
    assert streamed.content[2:] == [words(ANSWER)]


def test_a_wrong_offset_is_mended_by_the_segment_s_own_words() -> None:
    streamed = answered(grounding(support("He is a writer.", 1, start=2), queries=["q"]))
    assert streamed.content[-1]["citations"] == [cites(1, "He is a writer.")]
    assert streamed.content[-1]["text"] == "He is a writer."


def test_overlapping_supports_double_no_text() -> None:
    streamed = answered(grounding(support("Kämel won. He", 0), support("won. He is", 1), queries=["q"]))
    assert "".join(block["text"] for block in streamed.content if block["type"] == "text") == ANSWER


def test_thoughts_go_out_at_once_while_the_text_waits() -> None:
    streamed = stream(chunk(thought("I search.")), *says("Some"), asked=ASKED, close=False)
    assert b"I search." in streamed.bytes
    assert b"Some" not in streamed.bytes
    assert streamed.decoder.failure is None


def test_the_sites_that_the_client_allows_and_blocks() -> None:
    for options, to, sent in (
        ({"allowed_domains": ["lemonde.fr"]}, target(), {}),
        ({"blocked_domains": ["bbc.com"]}, target(kind="vertex"), {"excludeDomains": ["bbc.com"]}),
    ):
        asked = request(tools=[{**SEARCH, **options}], user="x")
        body = encoded(asked, to=to)
        assert body["tools"] == [{"googleSearch": sent}]
        assert next(iter(options.values()))[0] in body["systemInstruction"]["parts"][0]["text"]
    allowed = request(tools=[{**SEARCH, "allowed_domains": ["wikipedia.org"]}], stream=True)
    streamed = answered(grounding(support("Kämel won.", 0, 1), queries=["q"]), asked=allowed)
    assert streamed.content[1]["content"] == [found(*SITES[1])]
    assert [c["title"] for c in streamed.content[2]["citations"]] == ["fr.wikipedia.org"]
    blocked = request(tools=[{**SEARCH, "blocked_domains": ["wikipedia.org"]}], stream=True)
    streamed = answered(grounding(queries=["q"]), asked=blocked)
    assert [each["title"] for each in streamed.content[1]["content"]] == ["lemonde.fr", "bbc.com"]


def test_where_the_user_is() -> None:
    place = {"type": "approximate", "city": "Lyon", "country": "FR"}
    body = encoded(request(tools=[{**SEARCH, "user_location": place}]))
    assert body["systemInstruction"]["parts"][0]["text"] == "The user is in Lyon, FR."


# -- searches beside tools


def test_bug_100_search_and_functions_together_where_google_can_do_both() -> None:
    both = request(tools=[SEARCH, BASH])
    body = encoded(both)
    assert [next(iter(tool)) for tool in body["tools"]] == ["functionDeclarations", "googleSearch"]
    assert body["toolConfig"] == {"includeServerSideToolInvocations": True}
    for to in (target(OLDER), target(kind="vertex")):
        with pytest.raises(InvalidRequest, match="cannot search the web and call tools in one request"):
            encoded(both, to=to)


def test_steps_of_the_search_are_carried_to_the_next_request() -> None:
    both = request(("user", "x"), tools=[SEARCH, BASH], stream=True, thinking={"type": "adaptive"})
    steps: list[dict[str, Any]] = [
        {
            "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["q"]}, "id": "1"},
            "thoughtSignature": "YQ==",
        },
        {"toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": {"x": "y"}, "id": "1"}},
    ]
    streamed = whole(
        stream(
            *(chunk(step) for step in steps),
            chunk({"text": "So."}),
            chunk(call(signature="Yg==")),
            chunk(finish="STOP", groundingMetadata=grounding(queries=["q"])),
            asked=both,
        )
    )
    kinds = [block["type"] for block in streamed.content]
    assert kinds == [
        "server_tool_use",
        "web_search_tool_result",
        "thinking",
        "thinking",
        "text",
        "thinking",
        "tool_use",
    ]
    content = [{**block, "id": "toolu_1"} if block["type"] == "tool_use" else block for block in streamed.content[2:]]
    sent = contents_of(("user", "x"), ("assistant", content))[1]["parts"]
    assert sent[:2] == steps
    assert sent[2] == {"text": "So."}
    assert sent[3]["thoughtSignature"] == "Yg=="


def test_bug_076_what_was_found_is_text_for_the_next_request() -> None:
    streamed = answered(grounding(queries=["q"]))
    use, result = streamed.content[:2]
    turn = [{**use, "id": "srvtoolu_ccm1"}, {**result, "tool_use_id": "srvtoolu_ccm1"}, *streamed.content[2:]]
    texts = [part["text"] for part in contents_of(("user", "q"), ("assistant", turn), ("user", "and?"))[1]["parts"]]
    assert texts == ["\n".join(f"{title} {uri}" for uri, title in SITES), ANSWER]


def test_a_stream_with_a_search_ends_regularly_without_any_text() -> None:
    assert stream(STOP, asked=ASKED).decoder.failure is not None
    assert whole(stream(chunk(finish="MAX_TOKENS"), asked=ASKED)).content == []
