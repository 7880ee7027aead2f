"""Anthropic requests as Bedrock's: Converse by model family, and Claude in Anthropic's own format.

Every body here is one that botocore's model of the service takes, or the fake Anthropic server."""

import json
from typing import Any

import pytest

from providers.errors import InvalidRequest
from providers.wire.bedrock.families import family_of, is_native
from tests.providers.bedrock_support import (
    CLAUDE,
    CONVERSE_CLAUDE,
    GPT_OSS,
    LLAMA,
    MISTRAL,
    NOVA,
    NOVA_2,
    OPUS,
    UNKNOWN,
    URL,
    encoded,
    outbound,
)
from tests.providers.openai_chat_support import BASH, model, request, result, text, use

PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
PDF = {
    "type": "document",
    "title": "Q3: plan_v2.pdf",
    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
}
BY_URL = {"type": "image", "source": {"type": "url", "url": "https://a.example/x.png"}}
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
BILLING = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.d01; cc_entrypoint=cli;"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"


# -- which way, and where


@pytest.mark.parametrize(
    ("actual_model", "native"),
    [
        (CLAUDE, True),
        ("anthropic.claude-3-haiku-20240307-v1:0", True),
        ("global.anthropic.claude-opus-4-6-v1", True),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0", True),
        (f"invoke/{ARN}", True),
        (ARN, False),
        (CONVERSE_CLAUDE, False),
        (NOVA, False),
        (GPT_OSS, False),
    ],
)
def test_the_model_s_name_tells_the_way(actual_model: str, native: bool) -> None:
    assert is_native(actual_model) is native


@pytest.mark.parametrize(
    ("actual_model", "streamed", "path"),
    [
        (CLAUDE, False, "eu.anthropic.claude-sonnet-4-6-v1%3A0/invoke"),
        (CLAUDE, True, "eu.anthropic.claude-sonnet-4-6-v1%3A0/invoke-with-response-stream"),
        (GPT_OSS, False, "openai.gpt-oss-120b-1%3A0/converse"),
        (GPT_OSS, True, "openai.gpt-oss-120b-1%3A0/converse-stream"),
        (CONVERSE_CLAUDE, True, "anthropic.claude-sonnet-4-6-v1%3A0/converse-stream"),
        (f"invoke/{ARN}", True, ARN.replace(":", "%3A").replace("/", "%2F") + "/invoke-with-response-stream"),
    ],
)
def test_where_it_goes_and_with_what(actual_model: str, streamed: bool, path: str) -> None:
    sent = outbound(request(stream=streamed), actual_model)
    assert sent.url == f"{URL}/model/{path}"
    assert set(sent.headers) == {"content-type", "accept", "user-agent"}
    assert sent.headers["accept"] == ("application/vnd.amazon.eventstream" if streamed else "application/json")


def test_a_model_that_cannot_stream_with_tools_is_asked_for_a_whole_answer() -> None:
    called = [("user", "go"), ("assistant", [use("1")]), ("user", [result("1")])]
    assert outbound(request(stream=True), LLAMA).url.endswith("/converse-stream")
    assert outbound(request(stream=True, tools=[BASH]), LLAMA).url.endswith("/converse")
    assert outbound(request(*called, stream=True), LLAMA).url.endswith("/converse")


# -- Converse: fields


def test_a_minimal_request() -> None:
    assert encoded(request()) == {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"maxTokens": 1000},
    }


def fields_of(model_name: str, **fields: Any) -> dict[str, Any]:
    sent = encoded(request(**fields), model_name)
    return {name: value for name, value in sent.items() if name not in {"messages", "toolConfig"}}


INFERENCE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (GPT_OSS, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "topP": 0.9}, {}),
    (GPT_OSS, {"stop_sequences": ["X", " "]}, {"stopSequences": ["X"]}, {}),
    (GPT_OSS, {"top_k": 5}, {}, {}),
    (NOVA, {"top_k": 5}, {}, {"inferenceConfig": {"topK": 5}}),
    (MISTRAL, {"top_k": 5}, {}, {"top_k": 5}),
    ("cohere.command-r-v1:0", {"top_k": 5}, {}, {"k": 5}),
    (GPT_OSS, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {}, {"reasoning_effort": "low"}),
    (GPT_OSS, {"output_config": {"effort": "max"}}, {}, {"reasoning_effort": "high"}),
    (GPT_OSS, {"thinking": {"type": "disabled"}}, {}, {"reasoning_effort": "low"}),
    (
        NOVA_2,
        {"output_config": {"effort": "high"}},
        {},
        {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
    ),
    (NOVA_2, {"thinking": {"type": "disabled"}}, {}, {"reasoningConfig": {"type": "disabled"}}),
    (UNKNOWN, {"output_config": {"effort": "high"}}, {}, {}),
    (
        CONVERSE_CLAUDE,
        {"thinking": {"type": "enabled", "budget_tokens": 1500}, "temperature": 1, "top_k": 3},
        {},
        {"thinking": {"type": "enabled", "budget_tokens": 1500}},
    ),
    (
        CONVERSE_CLAUDE,
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    ),
]


@pytest.mark.parametrize(("name", "fields", "inference", "own"), INFERENCE)
def test_what_the_model_is_told(
    name: str, fields: dict[str, Any], inference: dict[str, Any], own: dict[str, Any]
) -> None:
    """translation.md 5, items 86 and 89."""
    sent = encoded(request(**fields), name, max_tokens=2000)
    assert sent["inferenceConfig"] == {"maxTokens": 2000, **inference}
    assert sent.get("additionalModelRequestFields", {}) == own


def test_a_thinking_budget_stays_below_the_limit() -> None:
    """translation.md 5, item 87."""
    asked = request(thinking={"type": "enabled", "budget_tokens": 30000})
    sent = encoded(asked, CONVERSE_CLAUDE, max_tokens=2000)
    assert sent["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 1999
    assert "additionalModelRequestFields" not in encoded(asked, CONVERSE_CLAUDE, max_tokens=1000)


def test_stop_sequences_of_a_model_that_has_none_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="stop_sequences"):
        encoded(request(stop_sequences=["X"]), LLAMA)


def test_a_schema_for_the_answer() -> None:
    sent = encoded(request(output_config=FORMAT))["outputConfig"]["textFormat"]
    assert sent["type"] == "json_schema"
    assert json.loads(sent["structure"]["jsonSchema"]["schema"]) == SCHEMA
    told = encoded(request(output_config=FORMAT, system="Brief."), NOVA)
    assert "outputConfig" not in told
    assert "JSON Schema" in told["system"][-1]["text"]


def test_nothing_private_is_forwarded() -> None:
    private = {"safeguards": [{"cwd": "/home/me"}], "metadata": {"user_id": "me"}, "container": "c", "speed": "fast"}
    assert encoded(request(**private)) == encoded(request())
    assert "/home/me" not in json.dumps(encoded(request(**private), CLAUDE))
    for name in (GPT_OSS, CLAUDE):
        with pytest.raises(InvalidRequest, match="mcp_servers"):
            encoded(request(mcp_servers=[{"url": "https://a.example"}]), name)


# -- Converse: tools


CHOICES: list[tuple[str, dict[str, Any], dict[str, Any] | None, str]] = [
    (NOVA, {"type": "auto"}, {"auto": {}}, ""),
    (NOVA, {"type": "any"}, {"any": {}}, ""),
    (NOVA, {"type": "tool", "name": "Bash"}, {"tool": {"name": "Bash"}}, ""),
    (NOVA, {"type": "none"}, None, "without calling any tool"),
    (LLAMA, {"type": "any"}, None, "must call one of the tools"),
    (LLAMA, {"type": "tool", "name": "Bash"}, None, "must call the tool Bash"),
]


@pytest.mark.parametrize(("name", "choice", "sent", "told"), CHOICES)
def test_tool_choice(name: str, choice: dict[str, Any], sent: dict[str, Any] | None, told: str) -> None:
    body = encoded(request(tools=[BASH], tool_choice=choice), name)
    assert body["toolConfig"].get("toolChoice") == sent
    assert told in json.dumps(body.get("system", ""))
    assert bool(told) == ("system" in body)


def test_no_field_of_anthropic_s_tools_leaks() -> None:
    """translation.md 5, items 88, 91, 92 and 94."""
    extras = {
        "custom": {"defer_loading": True},
        "eager_input_streaming": True,
        "input_examples": [{}],
        "type": "custom",
    }
    search = {"type": "web_search_20250305", "name": "web_search"}
    bare = {"name": "Bare", "description": " ", "input_schema": {"anyOf": []}}
    tools = encoded(request(tools=[{**BASH, **extras}, bare, search]), NOVA)["toolConfig"]["tools"]
    assert [set(tool["toolSpec"]) for tool in tools] == [
        {"name", "description", "inputSchema"},
        {"name", "inputSchema"},
    ]
    assert tools[1]["toolSpec"]["inputSchema"] == {"json": {"type": "object", "properties": {}}}
    strict = {"name": "S", "strict": True, "input_schema": SCHEMA}
    assert encoded(request(tools=[strict]))["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
    assert "strict" not in encoded(request(tools=[strict]), NOVA)["toolConfig"]["tools"][0]["toolSpec"]


def test_tools_that_only_the_history_knows_are_declared() -> None:
    called = [("user", "go"), ("assistant", [use("1"), use("2", "Read")]), ("user", [result("1"), result("2")])]
    tools = encoded(request(*called))["toolConfig"]["tools"]
    assert [tool["toolSpec"]["name"] for tool in tools] == ["Bash", "Read"]


def test_long_names_and_odd_ids() -> None:
    """translation.md 5, items 70 and 71; 2.1."""
    long = "mcp__server__" + "x" * 80
    told = [("user", "go"), ("assistant", [use("a.b:c" * 20, long)]), ("user", [result("a.b:c" * 20)])]
    sent = encoded(request(*told, tools=[{**BASH, "name": long}]))
    call = sent["messages"][1]["content"][0]["toolUse"]
    assert call["name"] == sent["toolConfig"]["tools"][0]["toolSpec"]["name"]
    assert call["toolUseId"] == sent["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    assert call == encoded(request(*told, tools=[{**BASH, "name": long}]))["messages"][1]["content"][0]["toolUse"]


# -- Converse: the conversation


def messages(*told: Any, name: str = GPT_OSS, **fields: Any) -> list[Any]:
    sent: list[Any] = encoded(request(*told, **fields), name)["messages"]
    return sent


def test_a_conversation_with_tools() -> None:
    """translation.md 5, items 55, 57, 58 and 60."""
    told = [
        ("user", "go"),
        ("assistant", [text("I run two."), use("toolu_1", a=1), use("toolu_2", "Read")]),
        ("user", [text("by the way"), result("toolu_2", "two"), result("toolu_1", [text("x"), PIXEL], is_error=True)]),
    ]
    user, assistant, answer = messages(*told, name=CONVERSE_CLAUDE, tools=[BASH])
    assert user == {"role": "user", "content": [{"text": "go"}]}
    assert assistant["content"] == [
        {"text": "I run two."},
        {"toolUse": {"toolUseId": "toolu_1", "name": "Bash", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "toolu_2", "name": "Read", "input": {}}},
    ]
    image = {"image": {"format": "png", "source": {"bytes": "iVBO"}}}
    assert answer["content"] == [
        {"toolResult": {"toolUseId": "toolu_1", "content": [{"text": "x"}, image], "status": "error"}},
        {"toolResult": {"toolUseId": "toolu_2", "content": [{"text": "two"}]}},
        {"text": "by the way"},
    ]
    (_, _, other) = messages(*told, tools=[BASH])
    assert [next(iter(item)) for item in other["content"]] == ["toolResult", "toolResult", "image", "text"]
    assert other["content"][0]["toolResult"]["content"][0] == {"text": "Error:"}


@pytest.mark.parametrize("name", [NOVA, MISTRAL, LLAMA])
def test_models_that_take_results_alone_get_the_rest_inside_the_last_one(name: str) -> None:
    """translation.md 2.1, empty content and ordering."""
    told = [("user", "go"), ("assistant", [use("1")]), ("user", [result("1", [text("x"), PIXEL]), text("and")])]
    *_, answer = messages(*told, name=name, tools=[BASH])
    (item,) = answer["content"]
    assert item["toolResult"]["content"][-1] == {"text": "and"}
    assert ("image" in json.dumps(item["toolResult"]["content"])) == (name == NOVA) or "omitted" in json.dumps(item)


def test_unanswered_calls_orphans_and_wrong_inputs() -> None:
    """translation.md 5, items 57 and 61."""
    odd = {"type": "tool_use", "id": "2", "name": "Read", "input": None}
    _, assistant, answer, *_ = messages(
        ("user", "go"), ("assistant", [use("1"), odd]), ("user", [result("2", ""), result("9")]), ("assistant", "ok")
    )
    assert assistant["content"][1]["toolUse"]["input"] == {}
    results = [item["toolResult"]["content"] for item in answer["content"]]
    assert results == [[{"text": "Error:"}, {"text": "[tool call interrupted]"}], [{"text": "(no output)"}]]


def test_own_reasoning_goes_back_and_no_other() -> None:
    """translation.md 5, items 77, 79 and 82."""

    def thought(said: str, signature: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": said, "signature": signature}

    blocks = [
        thought("Anthropic's", "ErcB"),
        thought("OpenAI's", "ccm1:openai:public-model"),
        thought("of another model", "ccm1:bedrock:other|sabc"),
        thought("unsigned", "ccm1:bedrock:public-model|"),
        {"type": "redacted_thinking", "data": "x"},
        thought("mine", "ccm1:bedrock:public-model|sabc"),
        thought("", "ccm1:bedrock:public-model|rc2VjcmV0"),
        text("b"),
    ]
    sent = messages(("user", "a"), ("assistant", blocks), ("user", "c"))
    assert sent[1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "mine", "signature": "abc"}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "b"},
    ]


def test_roles_alternate_and_nothing_is_blank() -> None:
    """translation.md 5, items 65, 66, 68 and 69."""
    sent = messages(
        ("assistant", "first"),
        ("user", " "),
        ("user", "x"),
        ("system", "<total_tokens>5</total_tokens>"),
        ("assistant", ""),
        ("assistant", "The answer is"),
    )
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[2]["content"] == [
        {"text": "x"},
        {"text": "<system-reminder>\n<total_tokens>5</total_tokens>\n</system-reminder>"},
    ]
    assert "exactly where it ends" in sent[-1]["content"][0]["text"]


def test_the_messages_of_a_turn_are_the_beginning_of_the_next_turn_s() -> None:
    """translation.md 1.1 and 5, items 67 and 106."""
    turns = [("user", "a"), ("assistant", [text("b"), use("1")]), ("user", [result("1"), text("c")])]
    longer = [*turns, ("assistant", "d"), ("user", "e")]
    short = messages(*turns, tools=[BASH])
    assert messages(*longer, tools=[BASH])[: len(short)] == short


def test_a_document_in_a_result_has_a_text_beside_it() -> None:
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
    call = {"type": "tool_use", "id": "t1", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [document]}
    turns = messages(("user", [text("?")]), ("assistant", [call]), ("user", [result]), name=CONVERSE_CLAUDE)
    (answer,) = turns[2]["content"]
    assert [kind for part in answer["toolResult"]["content"] for kind in part] == ["document", "text"]


def test_images_and_documents() -> None:
    sent = messages(("user", [PDF, PDF, PIXEL]))
    first, second, image, words = sent[0]["content"]
    assert first == {"document": {"format": "pdf", "name": "Q3 plan v2 pdf", "source": {"bytes": "JVBE"}}}
    assert second["document"]["name"] == "Q3 plan v2 pdf 2"
    assert image["image"]["format"] == "png"
    assert "text" in words
    note = {"type": "document", "title": "N", "source": {"type": "text", "data": "note"}}
    assert messages(("user", [note]))[0]["content"] == [{"text": '<document title="N">\nnote\n</document>'}]
    blind = encoded(request(("user", [PIXEL, PDF])), served=model(vision=False))["messages"][0]["content"]
    assert all("omitted" in item["text"] for item in blind)


def test_citations_are_asked_of_claude() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "note"}
    note = {"type": "document", "title": "N", "source": source, "citations": {"enabled": True}}
    found = {
        "type": "search_result",
        "source": "s",
        "title": "T",
        "content": [text("x")],
        "citations": {"enabled": True},
    }
    document, search, _ = messages(("user", [note, found, text("?")]), name=CONVERSE_CLAUDE)[0]["content"]
    assert document["document"]["citations"] == search["searchResult"]["citations"] == {"enabled": True}
    assert document["document"]["source"] == {"text": "note"}
    plain = messages(("user", [note, found, text("?")]))[0]["content"]
    assert all(set(item) == {"text"} for item in plain)


@pytest.mark.parametrize("name", [GPT_OSS, CLAUDE])
@pytest.mark.parametrize("block", [BY_URL, result("1", [BY_URL])], ids=["of the user", "of a tool"])
def test_what_lies_elsewhere_is_refused(name: str, block: dict[str, Any]) -> None:
    """translation.md 1.5: Bedrock fetches nothing. Never dropped in silence."""
    told = [("user", "go"), ("assistant", [use("1")]), ("user", [result("1"), block])]
    with pytest.raises(InvalidRequest, match="base64"):
        encoded(request(*told, tools=[BASH]), name)


# -- Converse: caching


@pytest.mark.parametrize(
    ("name", "tools", "elsewhere", "point"),
    [
        (CONVERSE_CLAUDE, 1, True, {"type": "default", "ttl": "1h"}),
        (NOVA, 0, True, {"type": "default"}),
        (GPT_OSS, 0, False, None),
    ],
)
def test_cache_marks(name: str, tools: int, elsewhere: bool, point: dict[str, str] | None) -> None:
    """translation.md 5, items 66, 109 and 111."""
    system = [BILLING, {"type": "text", "text": "Be brief.", **HOUR}]
    told = [("user", "a"), ("assistant", [use("1")]), ("user", [{**result("1"), **HOUR}])]
    sent = encoded(request(*told, system=system, tools=[{**BASH, **HOUR}]), name)
    points = [tool for tool in sent["toolConfig"]["tools"] if "cachePoint" in tool]
    assert len(points) == tools
    assert sent["system"] == [{"text": "Be brief."}, *([{"cachePoint": point}] if elsewhere else [])]
    assert sent["messages"][-1]["content"][1:] == ([{"cachePoint": point}] if elsewhere else [])


def test_a_model_without_system_prompts_reads_it_in_the_first_message() -> None:
    name = "mistral.mistral-7b-instruct-v0:2"
    sent = encoded(request(system="Be brief."), name)
    assert "system" not in sent
    assert sent["messages"][0]["content"] == [{"text": "Be brief."}, {"text": "hi"}]


def test_families_are_found_with_any_prefix() -> None:
    assert family_of("us.amazon.nova-2-lite-v1:0") is family_of(NOVA_2)
    assert family_of("us-gov.amazon.nova-pro-v1:0") is family_of(NOVA)
    assert family_of("arn:aws:bedrock:us-east-1:1:inference-profile/us.meta.llama3-3-70b-instruct-v1:0").results_alone
    assert not family_of("made-up").native


# -- Claude in Anthropic's own format


def test_claude_gets_the_client_s_body() -> None:
    asked = request(
        ("user", [text("hi")]), system=[{"type": "text", "text": "s", **MARK}], stream=True, temperature=0.5
    )
    sent = encoded(asked, CLAUDE, betas="context-1m-2025-08-07,claude-code-20250219, interleaved-thinking-2025-05-14")
    assert sent == {
        "anthropic_version": "bedrock-2023-05-31",
        "anthropic_beta": ["context-1m-2025-08-07", "interleaved-thinking-2025-05-14"],
        "system": [{"type": "text", "text": "s", **MARK}],
        "messages": [{"role": "user", "content": [text("hi")]}],
        "max_tokens": 1000,
        "temperature": 0.5,
    }


def test_claude_s_messages_keep_their_bytes() -> None:
    """translation.md 5, item 79."""
    from providers.wire.request import MessagesRequest

    raw = b'[ {"role":"user","content":[{"type":"text","text":"h\\u0069","novel":null}],"extra":true} ]'
    asked = MessagesRequest.parse(b'{"model":"m","max_tokens":9,"messages":' + raw + b"}")
    assert b'"messages":' + raw in outbound(asked, CLAUDE).body


def test_claude_gets_no_more_tokens_than_the_client_may_pay() -> None:
    asked = request(thinking={"type": "enabled", "budget_tokens": 5000}, max_tokens=9000)
    sent = encoded(asked, CLAUDE, max_tokens=3000)
    assert (sent["max_tokens"], sent["thinking"]["budget_tokens"]) == (3000, 2999)
    assert encoded(asked, CLAUDE, max_tokens=1000)["thinking"] == {"type": "disabled"}


THINKING: list[tuple[str, dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]] = [
    (CLAUDE, {"type": "adaptive"}, {"type": "adaptive"}, {"effort": "medium"}),
    (OPUS, {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 12000}, {"effort": "medium"}),
    (
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        {"type": "adaptive"},
        {"type": "enabled", "budget_tokens": 12000},
        None,
    ),
    ("anthropic.claude-3-5-sonnet-20241022-v2:0", {"type": "adaptive"}, None, None),
    ("anthropic.claude-3-5-sonnet-20241022-v2:0", {"type": "enabled", "budget_tokens": 2000}, None, None),
    (OPUS, {"type": "disabled"}, {"type": "disabled"}, {"effort": "medium"}),
]


@pytest.mark.parametrize(("name", "thinking", "sent", "output"), THINKING)
def test_thinking_in_the_form_of_the_model_s_version(name: str, thinking: Any, sent: Any, output: Any) -> None:
    """translation.md 1.3, older Claude targets; 5, item 88."""
    config = {"effort": "medium", "task_budget": {"type": "tokens", "total": 5}}
    body = encoded(request(thinking=thinking, output_config=config, max_tokens=20000), name, max_tokens=20000)
    assert body.get("thinking") == sent
    assert body.get("output_config") == output


def test_what_only_anthropic_s_own_servers_have_is_left_out_for_claude() -> None:
    """translation.md 5, items 88, 92 and 109; 1.5."""
    scoped = {"cache_control": {"type": "ephemeral", "scope": "global"}}
    tools = [
        {**BASH, "custom": {"defer_loading": True}, "defer_loading": True, "eager_input_streaming": True, **scoped},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    asked = request(
        tools=tools,
        system=[BILLING, {"type": "text", "text": "s", **scoped}],
        context_management={"edits": edits},
        service_tier="auto",
        container="c",
        tool_choice={"type": "tool", "name": "web_search"},
    )
    sent = encoded(asked, CLAUDE, betas="context-management-2025-06-27")
    assert sent["tools"] == [{**BASH, **MARK}, {"type": "bash_20250124", "name": "bash"}]
    assert "tool_choice" not in sent
    assert sent["system"] == [{"type": "text", "text": "s", **MARK}]
    assert sent["context_management"] == {"edits": edits[1:]}
    assert "service_tier" not in sent
    assert "container" not in sent
    only = encoded(request(tools=tools[1:2], context_management={"edits": edits[:1]}, system=[BILLING]), CLAUDE)
    assert not {"tools", "context_management", "system"} & set(only)


def test_deferred_tools_stay_deferred_where_the_client_has_the_beta() -> None:
    tools = [{**BASH, "defer_loading": True}, {"type": "tool_search_tool_regex_20251119", "name": "tool_search"}]
    sent = encoded(request(tools=tools), CLAUDE, betas="tool-search-tool-2025-10-19")
    assert sent["tools"] == tools


def test_foreign_thinking_never_reaches_claude() -> None:
    """translation.md 5, items 77 and 82."""
    own = {"type": "thinking", "thinking": "Anthropic's", "signature": "fake-signature-1"}
    foreign = [
        {"type": "thinking", "thinking": "x", "signature": f"ccm1:{kind}"} for kind in ("openai:m", "bedrock:m|s")
    ]
    sent = encoded(request(("user", "a"), ("assistant", [own, *foreign, text("b")]), ("user", "c")), CLAUDE)
    assert sent["messages"][1]["content"] == [own, text("b")]
