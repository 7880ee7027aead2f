"""Tool calls in Chat Completions streams, in all the ways in which providers send them."""

from typing import Any

import pytest

from providers.wire.openai_chat.tools import wire_name
from tests.providers.openai_chat_support import (
    BASH,
    STOP,
    TOOL_CALLS,
    call,
    chunk,
    feed,
    request,
    says,
    stream,
    tool,
    whole,
    words,
)


def test_a_call_in_pieces() -> None:
    answer = whole(
        stream(call(0, "call_1", "Bash", ""), call(0, arguments='{"a"'), call(0, arguments=":1}"), TOOL_CALLS)
    )
    assert answer.content == [tool(a=1)]
    pieces = [event.delta.partial_json for event in answer.events if event.type == "content_block_delta"]
    assert pieces == ['{"a"', ":1}"]


def test_a_call_starts_at_once() -> None:
    assert feed([call(0, "c", "Bash", "")], close=False).events[-1].content_block.name == "Bash"


def test_ids_are_ours() -> None:
    answers = [whole(stream(call(0, "call_0", "Bash", "{}"), TOOL_CALLS)) for _ in range(3)]
    ids = {answer.events[1].content_block.id for answer in answers}
    assert len(ids) == 3
    assert all(call_id.startswith("toolu_") and len(call_id) <= 40 for call_id in ids)


def test_text_then_calls_in_sequence() -> None:
    answer = whole(
        stream(
            *says("Now."),
            call(0, "a", "Read", '{"f":"x"}'),
            call(1, "b", "Bash", ""),
            call(1, arguments='{"c":"y"}'),
            TOOL_CALLS,
        )
    )
    assert answer.content == [words("Now."), tool("Read", f="x"), tool("Bash", c="y")]


def test_interleaved_calls_do_not_mix() -> None:
    answer = whole(
        stream(
            call(0, "a", "Read", ""),
            call(1, "b", "Bash", ""),
            call(0, arguments='{"f":'),
            call(1, arguments='{"c":'),
            call(2, "d", "Glob", '{"p":3}'),
            call(0, arguments="1}"),
            call(1, arguments="2}"),
            TOOL_CALLS,
        )
    )
    assert answer.content == [tool("Read", f=1), tool("Bash", c=2), tool("Glob", p=3)]


def test_calls_in_one_chunk() -> None:
    calls = [{"index": i, "id": f"c{i}", "function": {"name": "Bash", "arguments": f'{{"n":{i}}}'}} for i in range(3)]
    assert whole(stream(chunk({"tool_calls": calls}), TOOL_CALLS)).content == [tool(n=0), tool(n=1), tool(n=2)]


def test_calls_without_index() -> None:
    calls = [{"function": {"name": "Bash", "arguments": f'{{"n":{i}}}'}} for i in range(2)]
    assert whole(stream(chunk({"tool_calls": calls}), TOOL_CALLS)).content == [tool(n=0), tool(n=1)]


def test_calls_that_all_have_index_0() -> None:
    told = whole(stream(call(0, "a", "Bash", '{"n":0}'), call(0, "b", "Bash", '{"n":1}'), TOOL_CALLS))
    without_ids = whole(stream(call(0, "", "Bash", '{"n":0}'), call(0, "", "Bash", '{"n":1}'), TOOL_CALLS))
    assert told.content == without_ids.content == [tool(n=0), tool(n=1)]


def test_a_first_index_of_1() -> None:
    assert whole(stream(*says("a"), call(1, "c", "Bash", '{"n":1}'), TOOL_CALLS)).content[1] == tool(n=1)


@pytest.mark.parametrize("repeated", [{"name": "Bash"}, {"call_id": "c"}, {"name": ""}, {"call_id": ""}])
def test_repeated_names_and_ids(repeated: dict[str, str]) -> None:
    answer = whole(stream(call(0, "c", "Bash", '{"n"'), call(0, arguments=":1}", **repeated), TOOL_CALLS))
    assert answer.content == [tool(n=1)]


def test_an_id_that_rotates() -> None:
    answer = whole(stream(call(0, "c1", "Bash", '{"n"'), call(0, "c2", arguments=":1}"), TOOL_CALLS))
    assert answer.content == [tool(n=1)]


def test_arguments_before_the_name() -> None:
    answer = whole(stream(call(0, "c", None, '{"n"'), call(0, None, "Bash", ":1}"), TOOL_CALLS))
    assert answer.content == [tool(n=1)]


def test_a_call_without_a_name_gets_the_only_tools() -> None:
    assert whole(stream(call(0, "c", None, '{"n":1}'), TOOL_CALLS)).content == [tool(n=1)]
    nameless = whole(stream(call(0, "c", None, '{"n":1}'), TOOL_CALLS, asked=request()))
    assert nameless.content[0]["name"] == "unnamed_tool"


def test_an_empty_call_is_none() -> None:
    answer = whole(stream(*says("a"), call(0, "", ""), STOP))
    assert (answer.content, answer.message["stop_reason"]) == ([words("a")], "end_turn")


@pytest.mark.parametrize(
    ("arguments", "tool_input"),
    [
        (None, {}),
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("{}", {}),
        ({"n": 1}, {"n": 1}),
        ({}, {}),
        (' {"n":1}', {"n": 1}),
        ('"{\\"n\\":1}"', {"n": 1}),
        ('{"n":"\\u00e9}"}', {"n": "é}"}),
    ],
)
def test_arguments(arguments: Any, tool_input: dict[str, Any]) -> None:
    assert whole(stream(call(0, "c", "Bash", arguments), TOOL_CALLS)).content == [tool(**tool_input)]


def test_the_legacy_function_call() -> None:
    pieces = [chunk({"function_call": told}) for told in ({"name": "Bash", "arguments": ""}, {"arguments": '{"n":1}'})]
    assert whole(stream(*pieces, chunk({}, "function_call"))).content == [tool(n=1)]


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    answer = whole(stream(call(0, "c", "Bash", '{"n":1}'), *says("Do", "ne."), STOP))
    assert answer.content == [tool(n=1), words("Done.")]


def test_text_amid_a_calls_arguments_waits() -> None:
    answer = whole(stream(call(0, "c", "Bash", '{"n"'), *says("Hm"), call(0, arguments=":1}"), *says("m."), STOP))
    assert answer.content == [tool(n=1), words("Hmm.")]


def test_text_after_several_whole_calls() -> None:
    calls = [{"index": i, "id": f"c{i}", "function": {"name": "Bash", "arguments": "{}"}} for i in range(3)]
    spoken = feed([chunk({"tool_calls": calls}), *says("Done.")], close=False)
    assert spoken.events[-1].delta.text == "Done."


def test_long_names_come_back() -> None:
    name = "mcp__server__" + "x" * 80
    asked = request(tools=[{**BASH, "name": name}])
    answer = whole(stream(call(0, "c", wire_name(name), "{}"), TOOL_CALLS, asked=asked))
    assert answer.content[0]["name"] == name


def test_a_call_cut_by_the_token_limit_is_left_as_it_is() -> None:
    answer = stream(call(0, "c", "Bash", '{"a":"b'), chunk({}, "length"))
    assert answer.decoder.finished
    assert answer.message["stop_reason"] == "max_tokens"
