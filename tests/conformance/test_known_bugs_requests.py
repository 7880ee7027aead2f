"""Bugs of other gateways in conversations (translation.md, section 5 D), looked for in this one."""

import json
from typing import Any

import pytest

from tests.conformance.wires import BY_NAME, SPEAKERS, TRANSLATING, Body, Speaker
from tests.providers.openai_chat_support import (
    BASH,
    STOP,
    call,
    request,
    result,
    says,
    stream,
    text,
    tool,
    use,
    whole,
    words,
)

every_wire = pytest.mark.parametrize("speaker", SPEAKERS, ids=str)
every_translation = pytest.mark.parametrize("speaker", TRANSLATING, ids=str)
native = pytest.mark.parametrize("speaker", [each for each in SPEAKERS if each.is_native], ids=str)
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aWJt"}}
REMINDER = text("<system-reminder>Keep going.</system-reminder>")


def turns(body: Body) -> list[Any]:
    """The conversation in a body, whatever its format calls it."""
    found: list[Any] = body.get("messages") or body.get("input") or body.get("contents") or []
    return found


@native
def test_b056_nothing_is_put_before_results(speaker: Speaker) -> None:
    """Anthropic answers 400 to anything before the results of a turn: the client's order stays."""
    told = [("user", "x"), ("assistant", [use("toolu_1"), use("toolu_2")])]
    results = [result("toolu_1"), result("toolu_2"), REMINDER]
    sent = speaker.sent(request(*told, ("user", results), tools=[BASH]))
    assert sent["messages"][-1]["content"] == results


@every_translation
def test_b055_057_of_two_results_for_one_call_the_last_one_counts(speaker: Speaker) -> None:
    told = [("user", "x"), ("assistant", [use("toolu_1")])]
    results = [REMINDER, result("toolu_1", "the first"), result("toolu_1", "the second")]
    sent = json.dumps(turns(speaker.sent(request(*told, ("user", results), tools=[BASH]))))
    assert "the second" in sent
    assert "the first" not in sent
    assert sent.index("the second") < sent.index("Keep going")


@every_translation
def test_b058_059_text_around_calls_stays_and_is_no_call(speaker: Speaker) -> None:
    content = [text("Before."), use("toolu_1", command="ls"), text("After.")]
    told = [("user", "x"), ("assistant", content), ("user", [result("toolu_1", "out")])]
    sent = json.dumps(turns(speaker.sent(request(*told, tools=[BASH]))))
    assert sent.index("Before.") < sent.index("After.") < sent.index('"out"') or speaker.name == "cohere"
    assert sent.count("Before.") == sent.count("After.") == 1
    assert sent.count("toolu_1") in {2, 3}, "one call and its result"


@every_translation
def test_b060_064_the_blocks_of_a_result_are_all_there(speaker: Speaker) -> None:
    content = [
        text("one"),
        text("two"),
        {"type": "search_result", "source": "u", "title": "T", "content": [text("three")]},
    ]
    told = [("user", "x"), ("assistant", [use("toolu_1")]), ("user", [result("toolu_1", content)])]
    sent = json.dumps(turns(speaker.sent(request(*told, tools=[BASH]))))
    assert all(f"{word}" in sent for word in ("one", "two", "three"))
    assert "[object" not in sent


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses", "gemini", "bedrock"])
@pytest.mark.parametrize("block", [PDF, IMAGE], ids=["pdf", "image"])
def test_b062_063_a_file_in_a_result_arrives_as_what_it_is(name: str, block: Any) -> None:
    told = [("user", "x"), ("assistant", [use("toolu_1")]), ("user", [result("toolu_1", [text("see"), block])])]
    sent = json.dumps(turns(BY_NAME[name].sent(request(*told, tools=[BASH]))))
    assert block["source"]["data"] in sent
    if block is PDF:
        assert "image_url" not in sent
        assert "input_image" not in sent
        assert any(word in sent for word in ("application/pdf", '"format": "pdf"'))


@every_wire
def test_b065_066_blank_texts_reach_nobody(speaker: Speaker) -> None:
    if speaker.is_native:
        pytest.skip("the client's own bytes")
    told = [("user", [text(" "), text("x")]), ("assistant", [text("\n"), use("toolu_1")])]
    told += [("user", [result("toolu_1", ""), text("")])]
    sent = json.dumps(turns(speaker.sent(request(*told, tools=[BASH]))))
    for blank in ('""', '" "', '"\\n"'):
        assert f'"text": {blank}' not in sent
        assert f'"content": {blank}' not in sent
        assert f'"output": {blank}' not in sent


@every_wire
def test_b071_a_call_s_id_of_another_provider_is_one_that_anthropic_takes(speaker: Speaker) -> None:
    """Kimi's servers of Anthropic's format give ids like `functions.Bash:0`."""
    odd = "functions.Bash:0"
    told = [("user", "x"), ("assistant", [use(odd)]), ("user", [result(odd), text('{"id": "a.b"}')])]
    sent = speaker.sent(request(*told, tools=[BASH]))
    if not speaker.is_native:
        assert json.dumps(turns(sent)).count(odd) == 0 or speaker.name in {"gemini", "bedrock"}, "these take any id"
        return
    _, asked, answered = sent["messages"]
    assert asked["content"][0]["id"] == answered["content"][0]["tool_use_id"] != odd
    assert '{"id": "a.b"}' in answered["content"][1]["text"], "only ids of calls change"


def test_b071_ids_that_anthropic_takes_keep_every_byte() -> None:
    speaker = BY_NAME["anthropic"]
    told = [("user", "x"), ("assistant", [use("call_A-1", id="a.b:c")]), ("user", [result("call_A-1")])]
    asked = request(*told, tools=[BASH])
    assert turns(speaker.sent(asked)) == asked.value("messages")


@every_translation
def test_b074_the_same_conversation_has_the_same_ids(speaker: Speaker) -> None:
    told = [("user", "x"), ("assistant", [use("toolu_1"), use("toolu_2")])]
    told += [("user", [result("toolu_1"), result("toolu_2")])]
    first, again = (speaker.sent(request(*told, tools=[BASH])) for _ in range(2))
    assert first == again
    longer = speaker.sent(request(*told, ("assistant", "y"), ("user", "z"), tools=[BASH]))
    assert turns(longer)[: len(turns(first))] == turns(first)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (['{"a":1}{"a":2}'], [tool("Bash", a=1), tool("Bash", a=2)]),
        (['{"a":1}', '{"a":2}'], [tool("Bash", a=1), tool("Bash", a=2)]),
        (["{}{}"], [tool("Bash")]),
        (['{"a":', "1}{", '"a":2}'], [tool("Bash", a=1), tool("Bash", a=2)]),
        (['{"a":"}{"}'], [tool("Bash", a="}{")]),
        (['{"a":1}\n'], [tool("Bash", a=1)]),
        (['{"a":1} trailing words'], [tool("Bash", a=1)]),
        (['{"a":1}{"a":1}'], [tool("Bash", a=1)]),
    ],
)
def test_b075_concatenated_arguments_are_calls_of_their_own(pieces: list[str], expected: list[Any]) -> None:
    """Several objects in one call's arguments are several calls; the same one twice is one."""
    calls = [call(0, "c", "Bash", pieces[0]), *(call(0, arguments=piece) for piece in pieces[1:])]
    answer = whole(stream(*says("Now."), *calls, STOP))
    assert answer.content == [words("Now."), *expected]
