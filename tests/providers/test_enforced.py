"""What a provider cannot be told is held to in its answer; what nobody but Anthropic can do is refused."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import InvalidRequest
from providers.families import family_of
from providers.types import Target
from providers.wire import refusals
from providers.wire.claude import changes_for_family
from providers.wire.compatible import changes_for
from providers.wire.enforced import enforced, enforced_response
from providers.wire.openai_chat.quirks import quirks_of
from providers.wire.openai_chat.tools import ToolIds, wire_name
from providers.wire.registry import WIRES
from tests.providers.anthropic_support import MODEL, parsed, request, target

CHAT = target(kind="openai", wire="openai_chat", actual_model="gpt-5.1")
TARGETS = [
    CHAT,
    target(kind="openai", wire="openai_responses", actual_model="gpt-5.1"),
    target(kind="gemini", wire="gemini", actual_model="gemini-2.5-pro"),
    target(kind="cohere", wire="cohere", actual_model="command-a"),
    target(kind="bedrock", wire="bedrock", actual_model="amazon.nova-pro-v1:0"),
]
READ = {"name": "Read", "input_schema": {"type": "object", "properties": {}}}


def chunk(**delta: Any) -> bytes:
    told = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]}
    return b"data: " + msgspec.json.encode(told) + b"\n\n"


def call(index: int, name: str = "Read") -> bytes:
    function = {"name": name, "arguments": "{}"}
    return chunk(tool_calls=[{"index": index, "id": f"call_{index}", "type": "function", "function": function}])


def end(reason: str = "stop") -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": reason}
    told = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}}
    return b"data: %s\n\ndata: %s\n\ndata: [DONE]\n\n" % (msgspec.json.encode(told), msgspec.json.encode(usage))


def events(stream: bytes, **fields: Any) -> tuple[Any, list[Any]]:
    decoder = WIRES["openai_chat"].stream_decoder(request=request(stream=True, **fields), target=CHAT, model=MODEL)
    told = parsed(decoder.feed(stream) + decoder.close())
    return decoder, [data for _, data in told]


def text_of(told: list[Any]) -> str:
    return "".join(each["delta"].get("text", "") for each in told if each["type"] == "content_block_delta")


@given(
    text=st.text("abEND ", max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    stops=st.lists(st.text("abEND", min_size=1, max_size=4), min_size=1, max_size=6, unique=True),
)
def test_a_model_that_takes_no_stop_sequences_is_cut_at_the_first_one(
    text: str, cuts: list[int], stops: list[str]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    decoder, told = events(b"".join(chunk(content=piece) for piece in pieces if piece) + end(), stop_sequences=stops)
    at = min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)
    assert text_of(told).strip() == (text if at is None else text[:at]).strip()
    (ending,) = [each for each in told if each["type"] == "message_delta"]
    assert (ending["delta"]["stop_reason"] == "stop_sequence") is (at is not None)
    assert decoder.finished
    assert decoder.usage.output_tokens == 7


def test_nothing_after_a_stop_sequence_passes_and_the_blocks_stay_whole() -> None:
    stream = chunk(content="one ST") + chunk(content="OP two") + call(0) + end("tool_calls")
    decoder, told = events(stream, stop_sequences=["STOP"], tools=[READ])
    assert [each["type"] for each in told if each["type"] != "ping"] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    assert text_of(told) == "one "
    assert told[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "STOP"}
    assert decoder.stop_reason == "stop_sequence"


def test_more_stop_sequences_than_a_provider_takes_all_hold() -> None:
    plain = target(kind="together", wire="openai_chat", actual_model="m")
    asked = request(stop_sequences=[f"s{n}" for n in range(6)])
    sent = msgspec.json.decode(
        WIRES["openai_chat"].encode(asked, target=plain, model=MODEL, max_tokens=100, client_headers={}).body
    )
    assert sent["stop"] == ["s0", "s1", "s2", "s3"]
    decoder = WIRES["openai_chat"].stream_decoder(request=asked, target=plain, model=MODEL)
    told = [data for _, data in parsed(decoder.feed(chunk(content="a s5 b") + end()) + decoder.close())]
    assert text_of(told) == "a "


def test_one_call_an_answer_where_the_provider_makes_two() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    _, told = events(call(0) + call(1) + end("tool_calls"), tools=[READ], tool_choice=choice)
    starts = [each for each in told if each["type"] == "content_block_start"]
    assert [(each["index"], each["content_block"]["type"]) for each in starts] == [(0, "tool_use")]
    _, free = events(call(0) + call(1) + end("tool_calls"), tools=[READ])
    assert len([each for each in free if each["type"] == "content_block_start"]) == 2


def test_a_whole_answer_is_held_to_the_same() -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "Read", "arguments": "{}"}} for n in range(2)]
    message = {"role": "assistant", "content": "one STOP two", "tool_calls": calls}
    body = msgspec.json.encode(
        {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    )
    wire = WIRES["openai_chat"]
    cut = wire.decode_response(body, request=request(stop_sequences=["STOP"], tools=[READ]), target=CHAT, model=MODEL)
    told = msgspec.json.decode(cut.body)
    assert told["content"] == [{"type": "text", "text": "one "}]
    assert (told["stop_reason"], told["stop_sequence"], cut.stop_reason) == ("stop_sequence", "STOP", "stop_sequence")
    single = request(tools=[READ], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    kept = msgspec.json.decode(wire.decode_response(body, request=single, target=CHAT, model=MODEL).body)
    assert [block["type"] for block in kept["content"]] == ["text", "tool_use"]


def test_nothing_is_wrapped_without_need() -> None:
    decoder = WIRES["openai_chat"].stream_decoder(request=request(), target=CHAT, model=MODEL)
    assert enforced(decoder, stops=[], one_call=False) is decoder
    assert enforced_response(None, stops=[], one_call=False) is None  # type: ignore[arg-type]


# -- refusals


@pytest.mark.parametrize("of", TARGETS, ids=lambda of: of.wire)
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, "mcp_servers: the model 'claude-public'"),
        ({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, "tools: code_execution_20250825"),
        ({"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}, "tools: web_fetch_20250910"),
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, "tools: computer_20250124"),
        ({"tools": [READ], "tool_choice": {"type": "tool", "name": "Write"}}, "tool_choice: there is no tool named"),
    ],
    ids=["mcp", "code", "fetch", "computer", "choice"],
)
def test_what_only_anthropic_can_do_is_refused_by_name(of: Target, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRES[of.wire].encode(request(**fields), target=of, model=MODEL, max_tokens=100, client_headers={})
    assert str(caught.value).startswith(told)


def test_a_model_without_tools_refuses_them_unless_it_is_to_call_none() -> None:
    from dataclasses import replace

    without = replace(MODEL, tools=False)
    with pytest.raises(InvalidRequest, match="cannot call tools"):
        refusals.check(request(tools=[READ]), without)
    refusals.check(request(tools=[READ], tool_choice={"type": "none"}), without)
    refusals.check(request(tools=[{"type": "web_search_20250305", "name": "web_search"}]), without)


@pytest.mark.parametrize("of", TARGETS, ids=lambda of: of.wire)
def test_tools_that_claude_knows_by_type_are_described_to_others(of: Target) -> None:
    tools = [
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "memory_20250818", "name": "memory"},
    ]
    sent = WIRES[of.wire].encode(request(tools=tools), target=of, model=MODEL, max_tokens=100, client_headers={}).body
    for word in (
        b'"bash"',
        b'"restart"',
        b'"str_replace_based_edit_tool"',
        b'"view_range"',
        b'"memory"',
        b'"old_path"',
    ):
        assert word in sent


# -- choices in words


@pytest.mark.parametrize(
    ("kind", "choice", "names", "said"),
    [
        ("ollama", {"type": "tool", "name": "b"}, ["b"], "You must call the tool b now."),
        ("ollama", {"type": "any"}, ["a", "b"], "You must call one of the tools now."),
        ("ollama", {"type": "none"}, ["a", "b"], "Answer without calling any tool."),
        ("ollama", {"type": "auto"}, ["a", "b"], ""),
        ("mistral", {"type": "tool", "name": "b"}, ["b"], ""),
    ],
)
def test_a_choice_that_the_provider_does_not_take_still_holds(
    kind: str, choice: dict[str, Any], names: list[str], said: str
) -> None:
    of = target(kind=kind, wire="openai_chat", actual_model="m")
    asked = request(tools=[READ | {"name": name} for name in ("a", "b")], tool_choice=choice)
    sent = msgspec.json.decode(
        WIRES["openai_chat"].encode(asked, target=of, model=MODEL, max_tokens=100, client_headers={}).body
    )
    assert [tool["function"]["name"] for tool in sent["tools"]] == names
    system = [message["content"] for message in sent["messages"] if message["role"] == "system"]
    assert system == ([said] if said else [])
    assert ("tool_choice" in sent) is (kind == "mistral")


# -- names and ids


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=90)


@given(told=st.sets(names, max_size=20))
def test_no_two_tools_get_one_name(told: set[str]) -> None:
    mapped = {wire_name(name) for name in told} | {wire_name(wire_name(name)) for name in told}
    assert len({wire_name(name) for name in told}) == len(told)
    assert all(len(name) <= 64 for name in mapped)
    for name in told:
        if wire_name(name) != name:
            assert wire_name(wire_name(name)) != wire_name(name), "a tool of that very name gets another one"


@given(
    ids=st.lists(st.text(min_size=1, max_size=50), unique=True, max_size=20),
    kind=st.sampled_from(["mistral", "openai"]),
)
def test_no_two_calls_get_one_id(ids: list[str], kind: str) -> None:
    from providers.wire.openai_chat.history import Block

    given_ids = ToolIds(quirks_of(kind))
    mapped = [given_ids.of(Block(type="tool_use", id=told, name="Read")) for told in ids]
    assert len(set(mapped)) == len(ids)
    again = ToolIds(quirks_of(kind))
    assert [again.of(Block(type="tool_use", id=told, name="Read")) for told in ids] == mapped


# -- one Claude's request for another


ADAPTIVE, ENABLED = {"type": "adaptive"}, {"type": "enabled", "budget_tokens": 8_000}


@pytest.mark.parametrize(
    ("name", "thinking", "effort", "expected"),
    [
        ("claude-opus-4-8", ADAPTIVE, "high", {}),
        ("claude-opus-4-8", ENABLED, None, {"thinking": ADAPTIVE, "output_config": {"effort": "medium"}}),
        ("claude-sonnet-4-6", ENABLED, None, {}),
        ("claude-opus-4-5", ADAPTIVE, "low", {"thinking": {"type": "enabled", "budget_tokens": 4_000}}),
        ("claude-haiku-4-5", ADAPTIVE, "low",
         {"thinking": {"type": "enabled", "budget_tokens": 4_000}, "output_config": None}),
        ("claude-3-5-haiku-latest", ADAPTIVE, "low", {"thinking": None, "output_config": None}),
        ("claude-of-the-future", ADAPTIVE, "max", {}),
        ("glm-5", ADAPTIVE, "max", {}),
    ],
)  # fmt: skip
def test_thinking_takes_the_form_that_the_model_has(
    name: str, thinking: dict[str, Any], effort: str | None, expected: dict[str, Any]
) -> None:
    fields: dict[str, Any] = {"thinking": thinking} | ({"output_config": {"effort": effort}} if effort else {})
    asked = request(max_tokens=20_000, **fields)
    assert changes_for_family(asked, family_of(name), limit=20_000) == expected


def test_a_lowered_limit_lowers_the_budget_too() -> None:
    asked = request(max_tokens=20_000, thinking=ENABLED)
    lowered = changes_for_family(asked, family_of("claude-sonnet-4-5"), limit=5_000)
    assert lowered == {"thinking": {"type": "enabled", "budget_tokens": 4_999}}
    assert changes_for_family(asked, family_of("claude-sonnet-4-5"), limit=1_000) == {"thinking": None}


def test_the_newest_claudes_get_no_sampling() -> None:
    asked = request(temperature=0.5, top_k=3)
    assert changes_for_family(asked, family_of("claude-opus-5"), limit=10) == {"temperature": None, "top_k": None}
    assert changes_for_family(asked, family_of("claude-sonnet-4-5"), limit=10) == {}


# -- servers of other companies in Anthropic's format


def test_deferred_tools_references_and_system_turns_are_said_plainly_elsewhere() -> None:
    reference = {"type": "tool_reference", "tool_name": "Late"}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ToolSearch", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [reference]}]},
        {"role": "system", "content": "Be quick."},
    ]
    asked = request(messages=messages, tools=[READ | {"name": "Late", "defer_loading": True}])
    changed = changes_for(asked, "z.ai", max_tokens=1000)
    assert changed["tools"] == [READ | {"name": "Late"}]
    assert changed["messages"][2]["content"][0]["content"] == [
        {"type": "text", "text": "Loaded tools: Late. You can call them now."}
    ]
    assert changed["messages"][3] == {"role": "user", "content": "<system-reminder>\nBe quick.\n</system-reminder>"}
    assert changes_for(asked, "litellm", max_tokens=1000) == {}
