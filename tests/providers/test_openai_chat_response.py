"""Whole Chat Completions answers as Anthropic Messages: the same as if they had been streamed."""

import json
from typing import Any

import pytest

from providers.errors import UpstreamError
from providers.types import RetryClass
from tests.providers.openai_chat_support import (
    BASH,
    WIRE,
    call,
    chunk,
    model,
    request,
    says,
    stream,
    target,
    usage_chunk,
    without_ids,
)

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def completion(message: dict[str, Any], finish: str = "stop", **fields: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": USAGE, **fields}).encode()


def decoded(body: bytes, kind: str = "openai") -> dict[str, Any]:
    answer = WIRE.decode_response(body, request=request(tools=[BASH]), target=target(kind), model=model())
    message: dict[str, Any] = json.loads(answer.body)
    assert answer.stop_reason == message["stop_reason"]
    return message


def calls(*told: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "", "type": "function", "function": {"name": name, "arguments": args}} for name, args in told]


SAME = [
    (completion({"content": "Hello"}), [*says("Hel", "lo"), chunk({}, "stop")]),
    (
        completion({"content": "a", "reasoning_content": "hm"}),
        [chunk({"reasoning_content": "hm"}), *says("a"), chunk({}, "stop")],
    ),
    (
        completion({"content": None, "tool_calls": calls(("Bash", '{"n":1}'), ("Bash", {"n": 2}))}, "tool_calls"),
        [
            call(0, "a", "Bash", '{"n"'),
            call(1, "b", "Bash", '{"n":2}'),
            call(0, arguments=":1}"),
            chunk({}, "tool_calls"),
        ],
    ),
    (
        completion({"content": "Now.", "tool_calls": calls(("Bash", ""))}, "stop"),
        [*says("Now."), call(0, "a", "Bash", ""), chunk({}, "stop")],
    ),
    (completion({"content": "par"}, "length"), [*says("par"), chunk({}, "length")]),
    (completion({"content": None, "refusal": "No."}), [chunk({"refusal": "No."}), chunk({}, "stop")]),
    (completion({"content": "\n"}), [*says("\n"), chunk({}, "stop")]),
    (
        completion({"content": [{"type": "text", "text": "a"}]}),
        [chunk({"content": [{"type": "text", "text": "a"}]}), chunk({}, "stop")],
    ),
    (
        completion({"function_call": {"name": "Bash", "arguments": "{}"}}, "function_call"),
        [chunk({"function_call": {"name": "Bash", "arguments": "{}"}}), chunk({}, "function_call")],
    ),
]


@pytest.mark.parametrize(("body", "chunks"), SAME)
def test_whole_and_streamed_answers_are_the_same(body: bytes, chunks: list[bytes]) -> None:
    streamed = stream(*chunks, usage_chunk())
    assert without_ids(decoded(body)) == streamed.message
    answer = WIRE.decode_response(body, request=request(tools=[BASH]), target=target(), model=model())
    assert (answer.usage, answer.output_chars) == (streamed.decoder.usage, streamed.decoder.output_chars)


def test_ids_are_ours() -> None:
    message = decoded(completion({"tool_calls": calls(("Bash", "{}"), ("Bash", "{}"))}))
    assert message["id"].startswith("msg_")
    first, second = (block["id"] for block in message["content"])
    assert first.startswith("toolu_")
    assert first != second


@pytest.mark.parametrize("arguments", ['{"a":"b', "[1]", "5"])
def test_broken_arguments_never_run_a_tool_with_less_input(arguments: str) -> None:
    message = decoded(completion({"tool_calls": calls(("Bash", arguments))}))
    assert message["content"][0]["input"] == {"INVALID_JSON": arguments}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!DOCTYPE html><html>", "The provider acme answered with a web page"),
        (b"", "not JSON"),
        (b'{"choices": [', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a completion"),
        (b"null", "not a completion"),
        (b"{}", "not a completion"),
        (b'{"choices": []}', "not a completion"),
        (b'{"choices": [{"index": 0}]}', "not a completion"),
        (b'{"error": {"message": "boom", "code": 502}}', "boom"),
        (b'{"error": "boom"}', "boom"),
        (b'{"detail": "boom"}', "boom"),
        (completion({"content": "a"}, "error"), "broke its answer off"),
    ],
)
def test_what_is_no_answer(body: bytes, expected: str) -> None:
    with pytest.raises(UpstreamError, match=expected) as raised:
        decoded(body)
    assert raised.value.failure.status == 500
    assert raised.value.failure.retry is RetryClass.NEXT_TARGET
