"""The pure parts of the search loop: weaving steps into one answer, and the requests of the steps."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.websearch.blocks import Block, events_of
from gateway.websearch.tool import (
    allowed_searches,
    asks_for_search,
    bounded,
    continued,
    search_tool,
    with_function,
    without_search,
)
from gateway.websearch.weaver import Weaver
from providers.errors import InvalidRequest
from providers.wire.request import MessagesRequest

SEARCH = {"type": "web_search_20260209", "name": "web_search"}
READ = {"name": "Read", "input_schema": {"type": "object", "odd": 1.50}}


def event(name: str, **data: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def step(*blocks: Block, usage: dict[str, Any], stop: str = "tool_use") -> bytes:
    told = [event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 1}})]
    told += [events_of(block, index) for index, block in enumerate(blocks)]
    told.append(event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage))
    return b"".join([*told, event("message_stop")])


def read(events: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in events.decode().splitlines() if line.startswith("data: ")]


def text(said: str) -> Block:
    return Block({"type": "text", "text": said})


def call(name: str = "web_search") -> Block:
    return Block({"type": "tool_use", "id": "toolu_1", "name": name, "input": {"query": "q"}})


BLOCKS = st.lists(st.sampled_from(["text", "thinking", "tool_use"]), max_size=5)


def block_of(kind: str) -> Block:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    return {"text": text("Said."), "thinking": Block(thought), "tool_use": call("Read")}[kind]


@given(st.lists(BLOCKS, min_size=1, max_size=4), st.integers(1, 9))
def test_any_steps_make_one_message_in_order(steps: list[list[str]], at_once: int) -> None:
    """Whatever the steps say and however their events are grouped, streamed and whole agree."""
    streamed, whole = Weaver(), Weaver()
    sent: list[bytes] = []
    for kinds in steps:
        usage = {"input_tokens": 10, "output_tokens": 3, "output_tokens_details": {"thinking_tokens": 1}}
        events = step(*(block_of(kind) for kind in kinds), usage=usage).split(b"\n\n")[:-1]
        streamed.begin_step()
        whole.begin_step()
        groups = (events[start : start + at_once] for start in range(0, len(events), at_once))
        sent += [streamed.feed(b"".join(part + b"\n\n" for part in group)) for group in groups]
        content = [block_of(kind).value for kind in kinds]
        whole.take({"id": "msg_1", "content": content, "usage": usage, "stop_reason": "tool_use"})
        for weaver in (streamed, whole):
            sent += [weaver.emit(block) for block in weaver.step.waiting][: None if weaver is streamed else 0]
            weaver.end_step()
    told = read(b"".join([*sent, streamed.ending("end_turn")]))
    assert [e["type"] for e in told].count("message_start") == 1
    starts = [e["index"] for e in told if e["type"] == "content_block_start"]
    assert starts == list(range(sum(map(len, steps))))
    assert [e["index"] for e in told if e["type"] == "content_block_stop"] == starts
    message = json.loads(whole.whole("end_turn"))
    assert streamed.content == message["content"]
    assert told[-2]["usage"] == message["usage"]
    assert message["usage"]["input_tokens"] == 10 * len(steps)
    assert message["usage"]["output_tokens_details"] == {"thinking_tokens": len(steps)}


def test_text_passes_at_once_and_calls_wait() -> None:
    weaver = Weaver()
    weaver.begin_step()
    passed = read(weaver.feed(step(text("First."), call("Read"), text("Last."), usage={})))
    assert [e["content_block"]["type"] for e in passed if e["type"] == "content_block_start"] == ["text"]
    assert [block.type for block in weaver.step.waiting] == ["tool_use", "text"]
    assert [block.type for block in weaver.step.blocks] == ["text", "tool_use", "text"]


def test_a_zero_replaces_no_number() -> None:
    weaver = Weaver()
    weaver.begin_step()
    weaver.feed(step(text("x"), usage={"input_tokens": 0, "output_tokens": 7, "cache_read_input_tokens": None}))
    assert weaver.step.usage == {"input_tokens": 5, "output_tokens": 7}


def test_broken_json_reaches_the_client_as_it_is() -> None:
    weaver = Weaver()
    weaver.begin_step()
    broken = Block({"type": "tool_use", "id": "t", "name": "Read", "input": {}}, json='{"path": ')
    weaver.feed(step(broken, usage={}))
    (waiting,) = weaver.step.waiting
    assert waiting.value["input"] == {"INVALID_JSON": '{"path": '}
    assert read(weaver.emit(waiting))[1]["delta"]["partial_json"] == '{"path": '


# -- the requests


def request(**more: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "q"}], "tools": [READ, SEARCH]}
    return MessagesRequest.parse(json.dumps(body | more).encode())


def test_only_the_search_is_replaced() -> None:
    made = with_function(request(), search_tool(request()))
    assert not asks_for_search(made)
    assert json.dumps(READ).encode() in made.encode()
    assert json.loads(made.encode())["tools"][1]["name"] == "web_search"


@pytest.mark.parametrize("tools", [[SEARCH, {**READ, "name": "web_search"}], [SEARCH, SEARCH | {"name": "other"}]])
def test_names_that_collide_are_refused(tools: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest, match="unique"):
        search_tool(request(tools=tools))


def test_a_forbidden_search_goes_and_the_rest_stays() -> None:
    kept = json.loads(without_search(request(tool_choice={"type": "none"})).encode())
    assert kept["tools"] == [READ]
    assert kept["tool_choice"] == {"type": "none"}
    alone = json.loads(without_search(request(tools=[SEARCH], tool_choice={"type": "none"})).encode())
    assert "tools" not in alone
    assert "tool_choice" not in alone
    made = request()
    assert without_search(made) is made


TURNS = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ({"type": "any"}, {"type": "auto"}),
        ({"type": "tool", "name": "web_search", "disable_parallel_tool_use": True},
         {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)  # fmt: skip
def test_the_next_step_is_free_to_answer(choice: Any, expected: Any) -> None:
    made = request(**({"tool_choice": choice} if choice else {}))
    told = json.loads(continued(made, TURNS, max_tokens=40, may_call=True).encode())
    assert told.get("tool_choice") == expected
    assert told["messages"] == [{"role": "user", "content": "q"}, *TURNS]
    assert told["max_tokens"] == 40
    last = json.loads(continued(made, TURNS, max_tokens=40, may_call=False).encode())
    assert last["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (9000, {"type": "enabled", "budget_tokens": 5000}),
        (3000, {"type": "enabled", "budget_tokens": 2999}),
        (1024, {"type": "disabled"}),
    ],
)
def test_thinking_fits_into_what_is_left(left: int, expected: dict[str, Any]) -> None:
    made = request(max_tokens=10_000, thinking={"type": "enabled", "budget_tokens": 5000})
    assert json.loads(continued(made, TURNS, max_tokens=left, may_call=True).encode())["thinking"] == expected


@pytest.mark.parametrize(
    ("tools", "choice", "allowed"),
    [
        ([READ], None, 0),
        ([SEARCH], None, 10),
        ([SEARCH | {"max_uses": 8}, READ], None, 8),
        ([SEARCH | {"max_uses": 8}, SEARCH], None, 18),
        ([SEARCH | {"max_uses": 8}], {"type": "none"}, 0),
        ([SEARCH | {"max_uses": "many"}], None, 10),
        ([SEARCH | {"max_uses": 10**30}], None, 10**6),
    ],
)
def test_how_many_searches_a_hold_has_to_pay_for(tools: list[Any], choice: dict[str, Any] | None, allowed: int) -> None:
    fields = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": tools}
    request = MessagesRequest.parse(json.dumps(fields | ({"tool_choice": choice} if choice else {})).encode())
    assert allowed_searches(request) == allowed


def test_a_provider_may_make_no_more_searches_than_are_reserved_for() -> None:
    tools = [READ, SEARCH, SEARCH | {"max_uses": 3, "odd": 1.50}, SEARCH | {"max_uses": "many"}]
    fields = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": tools}
    request = MessagesRequest.parse(json.dumps(fields).encode())
    sent = json.loads(bounded(request).encode())
    assert sent["tools"] == [READ, SEARCH | {"max_uses": 10}, *tools[2:]]
    assert allowed_searches(bounded(request)) == allowed_searches(request)
    told = MessagesRequest.parse(json.dumps(fields | {"tools": [SEARCH | {"max_uses": 3}]}).encode())
    assert bounded(told) is told
