"""A MessagesRequest as generateContent: fields, tools, thinking, formats. Every body that is encoded here is
also held against what Google refuses (`tests.fakes.google_rules`)."""

import json
from pathlib import Path
from typing import Any

import pytest

from providers.errors import InvalidRequest
from providers.wire.base import CountsTokens
from providers.wire.gemini.schema import accepted, function_parameters
from providers.wire.gemini.tools import NAME, function_name, original_names
from providers.wire.request import MessagesRequest
from tests.providers.gemini_support import NEWER, OLDER, SEARCH, WIRE, encoded, model, target
from tests.providers.openai_chat_support import BASH, request

THINK = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("to", "stream", "url"),
    [
        (target("m"), False, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"),
        (target("m"), True, "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse"),
        (
            target("tunedModels/x"),
            False,
            "https://generativelanguage.googleapis.com/v1beta/tunedModels/x:generateContent",
        ),
        (target("m", base_url="http://h/v1beta/openai/"), False, "http://h/v1beta/models/m:generateContent"),
        (
            target("m", kind="vertex"),
            True,
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/m"
            ":streamGenerateContent?alt=sse",
        ),
        (
            target("endpoints/42", kind="vertex"),
            False,
            "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/42:generateContent",
        ),
    ],
)
def test_the_address_names_the_model_and_the_method(to: Any, stream: bool, url: str) -> None:
    outbound = WIRE.encode(request(stream=stream), target=to, model=model(), max_tokens=9, client_headers={})
    assert outbound.url == url
    assert outbound.headers["accept"] == ("text/event-stream" if stream else "application/json")
    assert not [name for name in outbound.headers if name.startswith(("anthropic", "x-"))]


def test_a_request_with_everything_that_is_plain() -> None:
    body = encoded(
        request(
            ("user", "hi"),
            system=[
                {"type": "text", "text": "x-anthropic-billing-header: a\nBe brief."},
                {"type": "text", "text": "Now."},
            ],
            temperature=0.3,
            top_p=0.9,
            top_k=20,
            stop_sequences=["END", ""],
            metadata={"user_id": "u"},
            safeguards=[{"path": "/home/secret"}],
            cache_control={"type": "ephemeral"},
        ),
        to=target(OLDER),
    )
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief.\n\nNow."}]},
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {
            "maxOutputTokens": 1000,
            "stopSequences": ["END"],
            "temperature": 0.3,
            "topP": 0.9,
            "topK": 20,
            "thinkingConfig": {"thinkingBudget": 0},
        },
    }


def test_gemini_3_keeps_its_own_temperature() -> None:
    config = encoded(request(temperature=0.3, top_p=0.9))["generationConfig"]
    assert "temperature" not in config
    assert config["topP"] == 0.9


def test_vertex_gets_the_user_as_a_label_that_tells_nobody_who_it_is() -> None:
    labels = encoded(request(metadata={"user_id": "somebody"}), to=target(kind="vertex"))["labels"]
    assert len(labels["user"]) == 63
    assert "somebody" not in labels["user"]


@pytest.mark.parametrize(("name", "configured", "limit"), [("gemini-2.0-flash", None, 8_192), (OLDER, 30_000, 30_000)])
def test_a_limit_of_output_holds(name: str, configured: int | None, limit: int) -> None:
    body = encoded(request(), to=target(name), served=model(max_output=configured), max_tokens=60_000)
    assert body["generationConfig"]["maxOutputTokens"] == limit


def test_more_stop_sequences_than_google_takes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="stop_sequences: this model takes 5"):
        encoded(request(stop_sequences=list("abcdef")))


@pytest.mark.parametrize(
    ("name", "fields", "config"),
    [
        (OLDER, {}, {"thinkingBudget": 0}),
        (OLDER, {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
        ("gemini-2.5-pro", {}, {"thinkingBudget": 128}),
        (OLDER, {"thinking": THINK}, {"includeThoughts": True, "thinkingBudget": -1}),
        (
            OLDER,
            {"thinking": THINK, "output_config": {"effort": "low"}},
            {"includeThoughts": True, "thinkingBudget": 1024},
        ),
        (
            OLDER,
            {"thinking": THINK, "output_config": {"effort": "max"}},
            {"includeThoughts": True, "thinkingBudget": 24_576},
        ),
        (
            OLDER,
            {"thinking": {"type": "enabled", "budget_tokens": 30_000}},
            {"includeThoughts": True, "thinkingBudget": 24_576},
        ),
        (
            "gemini-2.5-pro",
            {"thinking": {"type": "enabled", "budget_tokens": 31_000}},
            {"includeThoughts": True, "thinkingBudget": 31_000},
        ),
        (
            "gemini-2.5-flash-lite",
            {"thinking": {"type": "enabled", "budget_tokens": 100}},
            {"includeThoughts": True, "thinkingBudget": 512},
        ),
        (NEWER, {}, {"thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", {}, {"thinkingLevel": "MINIMAL"}),
        (NEWER, {"thinking": THINK}, {"includeThoughts": True}),
        (
            NEWER,
            {"thinking": THINK, "output_config": {"effort": "medium"}},
            {"includeThoughts": True, "thinkingLevel": "LOW"},
        ),
        (
            NEWER,
            {"thinking": THINK, "output_config": {"effort": "xhigh"}},
            {"includeThoughts": True, "thinkingLevel": "HIGH"},
        ),
        (
            "gemini-3.1-pro-preview",
            {"thinking": {"type": "enabled", "budget_tokens": 8_000}},
            {"includeThoughts": True, "thinkingLevel": "MEDIUM"},
        ),
        (NEWER, {"thinking": {"type": "adaptive", "display": "omitted"}}, None),
        ("gemini-2.0-flash", {"thinking": THINK}, None),
    ],
)
def test_thinking_in_the_words_of_each_family(name: str, fields: dict[str, Any], config: Any) -> None:
    body = encoded(request(**fields), to=target(name), max_tokens=64_000)
    assert body["generationConfig"].get("thinkingConfig") == config


def test_a_model_without_thinking_is_told_to_think_least() -> None:
    body = encoded(request(thinking=THINK), to=target(OLDER), served=model(thinking=False))
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}


def test_bug_087_a_budget_leaves_room_for_the_answer() -> None:
    asked = request(thinking={"type": "enabled", "budget_tokens": 4_000})
    config = encoded(asked, to=target(OLDER), max_tokens=2_000)["generationConfig"]
    assert config["thinkingConfig"]["thinkingBudget"] == 1_500 < config["maxOutputTokens"]


# -- tools


def declared(*tools: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = encoded(request(tools=list(tools), **fields))["tools"][0]["functionDeclarations"]
    return sent


def tool(name: str = "T", schema: Any = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "description": "d", "input_schema": schema or {"type": "object"}, **fields}


def test_bugs_091_092_093_only_what_google_knows_reaches_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    (sent,) = declared(
        tool(
            schema=schema,
            type="custom",
            strict=False,
            defer_loading=True,
            eager_input_streaming=True,
            cache_control={"type": "ephemeral"},
            allowed_callers=["direct"],
        )
    )
    assert sent == {"name": "T", "description": "d", "parametersJsonSchema": schema}


def test_examples_of_a_tool_s_input_stand_in_its_description() -> None:
    (sent,) = declared(tool(input_examples=[{"a": 1}, {"a": 2}]))
    assert sent["description"] == 'd\nExamples of its input:\n{"a":1}\n{"a":2}'


def test_a_function_without_parameters_has_none() -> None:
    assert declared(tool(schema={"type": "object", "properties": {}, "additionalProperties": False})) == [
        {"name": "T", "description": "d"}
    ]
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    assert declared(tool(schema=free))[0]["parametersJsonSchema"] == {**free, "properties": {}}


def test_strict_tools_ask_for_validated_calls() -> None:
    config = encoded(request(tools=[tool(strict=True)]))["toolConfig"]
    assert config == {"functionCallingConfig": {"mode": "VALIDATED"}}
    prose = tool(schema={"type": "object", "properties": {"strict": {"const": True, "description": '"strict":true'}}})
    assert "toolConfig" not in encoded(request(tools=[prose]))


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ({"type": "auto"}, None),
        ({"type": "any"}, {"mode": "ANY"}),
        ({"type": "none"}, {"mode": "NONE"}),
        ({"type": "tool", "name": "Bash"}, {"mode": "ANY", "allowedFunctionNames": ["Bash"]}),
    ],
)
def test_the_choice_of_tools(choice: Any, config: Any) -> None:
    body = encoded(request(tools=[BASH], tool_choice=choice))
    assert body.get("toolConfig", {}).get("functionCallingConfig") == config


def test_bug_097_a_choice_without_functions_is_left_out() -> None:
    for tools in (None, [SEARCH]):
        body = encoded(request(tools=tools, tool_choice={"type": "tool", "name": "web_search"}))
        assert "toolConfig" not in body


def test_a_choice_that_names_no_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="there is no tool named 'Nope'"):
        encoded(request(tools=[BASH], tool_choice={"type": "tool", "name": "Nope"}))


def test_bug_095_names_that_google_refuses_are_replaced_everywhere() -> None:
    names = ["mcp__" + "x" * 90, "9lives", "white space", "ok.name:1-2"]
    asked = request(
        ("user", "hi"),
        ("assistant", [{"type": "tool_use", "id": "a", "name": names[0], "input": {}}]),
        ("user", [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]),
        tools=[tool(name) for name in names],
        tool_choice={"type": "tool", "name": names[0]},
    )
    body = encoded(asked)
    sent = [function["name"] for function in body["tools"][0]["functionDeclarations"]]
    assert all(NAME.fullmatch(name) for name in sent)
    assert len(set(sent)) == 4
    assert sent[3] == names[3]
    assert body["contents"][1]["parts"][0]["functionCall"]["name"] == sent[0]
    assert body["contents"][2]["parts"][0]["functionResponse"]["name"] == sent[0]
    assert body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == [sent[0]]
    assert original_names(asked) == {sent[0]: names[0], sent[1]: names[1], sent[2]: names[2]}
    assert function_name(sent[0]) != sent[0], "a tool of that very name gets another one"


@pytest.mark.parametrize("kind", ["code_execution_20250825", "web_fetch_20250910", "mcp_toolset"])
def test_tools_that_only_anthropic_s_servers_run_are_refused(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{kind} is not available"):
        encoded(request(tools=[{"type": kind, "name": "x"}]))


def test_a_model_without_tools_gets_none() -> None:
    body = encoded(request(tools=[BASH], tool_choice={"type": "none"}), served=model(tools=False))
    assert "tools" not in body
    assert "toolConfig" not in body
    with pytest.raises(InvalidRequest, match="cannot call tools"):
        encoded(request(tools=[BASH], tool_choice={"type": "any"}), served=model(tools=False))


# -- schemas


def test_bug_090_the_keywords_that_google_refuses() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "x",
        "type": "object",
        "additionalProperties": False,
        "propertyNames": {"pattern": "x"},
        "patternProperties": {"^x": {"type": "string"}},
        "if": {"required": ["a"]},
        "then": {"required": ["b"]},
        "properties": {
            "const": {"const": "one"},
            "not": {"type": ["string", "null"], "not": {"const": 1}},
            "count": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
            "share": {"type": "number", "exclusiveMinimum": 0},
            "url": {"type": "string", "format": "uri", "minLength": 1},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"type": "string", "enum": ["", "a", "b"]},
            "flag": {"enum": [True, False]},
            "any": {},
            "list": {
                "type": "array",
                "items": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/D", "title": "t"}]},
            },
        },
        "definitions": {"D": {"type": "object", "properties": {"d": {"$ref": "#/definitions/D"}}}},
        "required": ["const"],
    }
    sent = function_parameters(schema)
    assert sent == {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "const": {"enum": ["one"]},
            "not": {"type": ["string", "null"]},
            "count": {"type": "integer", "minimum": 1, "maximum": 9},
            "share": {"type": "number", "minimum": 0},
            "url": {"type": "string", "minLength": 1},
            "when": {"type": "string", "format": "date-time"},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "flag": {},
            "any": {},
            "list": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/D"}]}},
        },
        "$defs": {"D": {"type": "object", "properties": {"d": {"$ref": "#/$defs/D"}}}},
        "required": ["const"],
    }
    assert accepted(sent) == sent
    declared(tool(schema=schema))


def test_all_of_is_folded_into_the_schema_around_it() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "allOf": [
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            {"properties": {"a": {"type": "integer"}}, "required": ["a"], "description": "both"},
        ],
    }
    assert function_parameters(schema) == {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "required": ["a", "b"],
        "description": "both",
    }


def test_bug_090_the_whole_tool_list_of_claude_code(recordings: Path) -> None:
    """Every request that Claude Code was seen to send becomes one that Google would take."""
    seen = 0
    for path in sorted(recordings.glob("claude-code*/*.json")):
        told = json.loads(path.read_text())
        body = told.get("body", told)
        if not isinstance(body, dict) or "messages" not in body or "max_tokens" not in body:
            continue
        asked = MessagesRequest.parse(json.dumps(body).encode())
        for to in (target(), target(OLDER), target("gemini-3.5-flash", kind="vertex")):
            sent = json.dumps(encoded(asked, to=to))
            assert "safeguards" not in sent or "safeguards" in json.dumps(body["messages"])
        seen += 1
    assert seen > 40


# -- answers in a schema

FORM = {
    "format": {"type": "json_schema", "schema": {"$schema": "x", "type": "object", "properties": {"a": {"const": 1}}}}
}


def test_bug_099_an_answer_in_a_schema() -> None:
    config = encoded(request(output_config=FORM))["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"] == {"type": "object", "properties": {"a": {"enum": [1]}}}


def test_older_models_are_told_the_schema_when_there_are_tools() -> None:
    body = encoded(request(output_config=FORM, tools=[BASH], system="Hi."), to=target(OLDER))
    assert "responseMimeType" not in body["generationConfig"]
    text = body["systemInstruction"]["parts"][0]["text"]
    assert text.startswith("Hi.\n\nAnswer with nothing but JSON that conforms to this JSON Schema:\n{")
    assert "responseJsonSchema" in encoded(request(output_config=FORM, tools=[BASH]))["generationConfig"]


# -- counting


def test_bug_115_tokens_are_counted_by_google_itself() -> None:
    assert isinstance(WIRE, CountsTokens)
    asked = MessagesRequest.parse(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [BASH]}).encode(),
        counting=True,
    )
    outbound = WIRE.encode_count(asked, target=target(), model=model(), client_headers={})
    assert outbound.url.endswith(f"/models/{NEWER}:countTokens")
    told = json.loads(outbound.body)["generateContentRequest"]
    assert told["model"] == f"models/{NEWER}"
    assert set(told) == {"model", "contents", "tools"}
    vertex = WIRE.encode_count(asked, target=target(kind="vertex"), model=model(), client_headers={})
    assert set(json.loads(vertex.body)) == {"contents", "tools"}
    assert WIRE.decode_count(b'{"totalTokens": 31, "totalBillableCharacters": 96}', target=target()) == 31
