"""The parsed request keeps the client's bytes, and says what is wrong with a body in words."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import InvalidRequest
from providers.wire import request as module
from providers.wire.request import MessagesRequest

GOOD: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}


def parse(**changed: Any) -> MessagesRequest:
    return MessagesRequest.parse(json.dumps(GOOD | changed).encode())


def test_unknown_fields_survive_byte_for_byte() -> None:
    body = (
        b'{"model":"m","max_tokens":5,"future":{ "a" :1.50,"b":"\\u00e9"},"messages":[{"role":"user","content":"x"}]}'
    )
    assert MessagesRequest.parse(body).encode() == body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
)


@given(extra=st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), json_values, max_size=4))
def test_any_extra_field_survives(extra: dict[str, Any]) -> None:
    request = parse(**extra)
    assert json.loads(request.encode()) == GOOD | extra
    edited = request.with_fields(model="other")
    assert json.loads(edited.encode()) == GOOD | extra | {"model": "other"}
    assert request.model == "m"


def test_with_fields_replaces_adds_and_removes() -> None:
    request = parse(stream=True, safeguards={"a": 1})
    edited = request.with_fields(max_tokens=2, stream=None, safeguards=None, tools=[{"name": "t"}])
    assert (edited.max_tokens, edited.stream, edited.tools[0].name) == (2, False, "t")
    assert "safeguards" not in json.loads(edited.encode())
    assert (request.max_tokens, request.stream, request.tools) == (5, True, [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"messages":[],"max_tokens":1}', "model: field required"),
        (b'{"model":7,"messages":[],"max_tokens":1}', "model: "),
        (b'{"model":" ","messages":[],"max_tokens":1}', "model: must name a model"),
        (b'{"model":"m","max_tokens":1}', "messages: field required"),
        (b'{"model":"m","messages":[],"max_tokens":1}', "at least one message"),
        (b'{"model":"m","messages":"hi","max_tokens":1}', "messages: "),
        (b'{"model":"m","messages":[{"role":"robot","content":"x"}],"max_tokens":1}', "robot"),
        (b'{"model":"m","messages":[{"role":"user"}],"max_tokens":1}', "messages[0]"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "max_tokens: field required"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}', "at least 1"),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":"9"}', "max_tokens: "),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        MessagesRequest.parse(body)
    assert says in str(raised.value)


@pytest.mark.parametrize("name", ["system", "tools", "thinking", "output_config", "metadata"])
def test_check_refuses_wrong_known_fields(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        parse(**{name: 7}).check()


def test_counting_needs_no_max_tokens() -> None:
    body = json.dumps({name: value for name, value in GOOD.items() if name != "max_tokens"}).encode()
    assert MessagesRequest.parse(body, counting=True).max_tokens == 0


def test_an_output_format_is_accepted() -> None:
    """As in the client's title requests."""
    request = parse(output_config={"effort": "high", "format": {"type": "json_schema", "schema": {}}})
    request.check()
    assert request.output_config.effort == "high"
    assert parse(output_config={"format": None}).output_config.effort is None


@pytest.mark.parametrize("folder", ["claude-code", "claude-code-2.1.330"])
def test_every_captured_request_parses_and_survives(recordings: Path, folder: str) -> None:
    seen = 0
    for file in sorted((recordings / folder).glob("*.json")):
        captured = json.loads(file.read_bytes())
        if captured.get("method") != "POST" or not isinstance(captured.get("body"), dict):
            continue
        request = MessagesRequest.parse(
            json.dumps(captured["body"]).encode(), counting="max_tokens" not in captured["body"]
        )
        request.check()
        assert json.loads(request.encode()) == captured["body"], file.name
        seen += 1
    assert seen > 30


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","max_tokens":5,"messages":[{"role":"user","content":"x"}],"max_tokens":7,"model":"b"}',
        b'{"model":"a","max_tokens":5,"messages":[{"role":"user","content":"x"}],"max_tok\\u0065ns":7,"mod\\u0065l":"b"}',
    ],
)
def test_a_model_or_limit_that_is_given_twice_is_sent_once(body: bytes):
    """Servers differ in which of two they take, and what we take is what is held and charged."""
    request = MessagesRequest.parse(body)
    assert (request.model, request.max_tokens) == ("b", 7)
    plain = b'{"model":"%b","max_tokens":7,"messages":[{"role":"user","content":"x"}]}'
    assert request.encode() == plain % b"b"
    assert request.encode_as("c") == plain % b"c"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b' {\n"model" : "a\xc3\xa4", "x":{"model":"a"} ,', b' {\n"model" : "n\xc3\xa4", "x":{"model":"a"} ,'),
        (b'{"model":"a","x":"\\"model\\":\\"a\\"",', b'{"model":"n\xc3\xa4","x":"\\"model\\":\\"a\\"",'),
    ],
)
def test_another_model_s_name_changes_nothing_else(before: bytes, after: bytes):
    rest = b' "messages":[{"role":"user","content":"x"}], "max_tokens":1} '
    assert MessagesRequest.parse(before + rest).encode_as("n\u00e4") == after + rest


@pytest.mark.parametrize("start", [b'{"max_tokens":1,"model":"a",', b'{"model":"\\u0061","max_tokens":1,'])
def test_a_name_that_is_not_first_or_escaped_is_replaced_all_the_same(start: bytes):
    request = MessagesRequest.parse(start + b'"messages":[{"role":"user","content":"x"}]}')
    assert request.model == "a"
    assert msgspec.json.decode(request.encode_as("b"))["model"] == "b"


def test_what_is_there_is_known_without_looking_at_every_field():
    body = b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":"x"}],"safegu\\u0061rds":null,"y":1}'
    request = MessagesRequest.parse(body)
    assert [request.has(name) for name in ("safeguards", "tool_choice", "y", "z")] == [True, False, True, False]
    assert request.mentions(b'"x"', "messages")
    assert not request.mentions(b'"y"', "messages")


@pytest.mark.parametrize(
    ("content", "types"),
    [
        ('"image"', set()),
        ('[{"type":"text","text":"\\"type\\":\\"image\\""}]', {"text"}),
        ('[{"type":"image","source":{}}]', {"image"}),
        ('[{"type":"tool_result","tool_use_id":"t","content":"[{\\"type\\":\\"image\\"}]"}]', {"tool_result"}),
        (
            '[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"x"},{"type":"image"}]}]',
            {"tool_result", "text", "image"},
        ),
        (
            '[{"type":"web_fetch_tool_result","content":{"type":"web_fetch_result","content":{"type":"document"}}}]',
            {"web_fetch_tool_result", "web_fetch_result", "document"},
        ),
        (
            '[{"type":"tool_result","content":[{"type":"a","content":[{"type":"b","content":[{"type":"document"}]}]}]}]',
            {"tool_result", "a", "b", "document"},
        ),
        ('[{"type":"tool_result","content":[1,{"x":[{"type":"image"}]}]}]', {"tool_result", "image"}),
        ('[{"type":"tool_result","content":null}]', {"tool_result"}),
    ],
)
def test_blocks_are_found_however_deep_they_are(content: str, types: set[str]):
    body = b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":%b}]}' % content.encode()
    request = MessagesRequest.parse(body)
    assert request.block_types == types
    assert request.has_media is bool(types & {"image", "document"})
    assert request.with_fields(messages=[{"role": "user", "content": "x"}]).block_types == set()


def test_the_declared_tools_follow_the_field():
    body = b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":"x"}],"tools":[{"name":"t"}]}'
    request = MessagesRequest.parse(body)
    assert [tool.name for tool in request.tools] == ["t"]
    assert request.raw("tools") == b'[{"name":"t"}]'
    assert [tool.name for tool in request.with_fields(tools=[{"name": "u"}]).tools] == ["u"]
    without = request.with_fields(tools=None)
    assert (without.tools, without.raw("tools"), without.has("tools")) == ([], b"", False)
    assert [tool.name for tool in request.with_fields(max_tokens=2).tools] == ["t"]


def test_blocks_nested_for_spite_cost_one_look():
    """A body of 8 MB in blocks 200 deep: decoding each level anew would read it 200 times."""
    text = '"' + "x" * 8_000_000 + '"'
    content = f'[{{"type":"image","content":{text}}}]'
    for _ in range(200):
        content = f'[{{"type":"tool_result","content":{content}}}]'
    body = b'{"model":"a","max_tokens":1,"messages":[{"role":"user","content":%b}]}' % content.encode()
    request = MessagesRequest.parse(body)
    with mock.patch.object(module, "_inner", wraps=module._inner) as decoder:
        assert request.block_types == {"tool_result", "image"}
    assert decoder.decode.call_count <= module.MOST_LEVELS
