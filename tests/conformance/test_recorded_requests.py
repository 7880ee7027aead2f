"""What providers were seen to accept, and what CCM sends them for the same conversation, are alike: the
messages, the tools with their schemas, the choice among them, and how much to think."""

import json
import re
from typing import Any

import pytest

from providers.kinds import KINDS
from providers.types import Target
from providers.wire.registry import WIRES
from providers.wire.request import MessagesRequest
from tests.conformance.asked import anthropic_request
from tests.conformance.recordings import Recording, recordings
from tests.providers.anthropic_support import TARGET
from tests.providers.openai_chat_support import model, target

Body = dict[str, Any]
ASKED = [recording for recording in recordings() if recording.asked and recording.status == 200]
SAID = ("reasoning_content", "reasoning", "tool_call_id")
THINKING: dict[str, Body] = {
    r"gpt-oss-(?:explicit-effort|thinking-high|thinking-merges)": {"output_config": {"effort": "high"}},
    r"gpt-oss-thinking-(?:medium|true)": {"output_config": {"effort": "medium"}},
    r"gpt-oss-thinking-minimal": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    r"gpt-oss-thinking-xhigh": {"output_config": {"effort": "xhigh"}},
    r"qwen3-disable|mistral-small-disable": {"thinking": {"type": "disabled"}},
    r"qwen3-enable|mistral-small-thinking-high|magistral": {"output_config": {"effort": "high"}},
    r"zai_preserved": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
}
"""What Anthropic's client says so that the recorded request is meant."""


def sent(recording: Recording) -> Body:
    """What CCM sends for the recorded request."""
    body = json.dumps(anthropic_request(recording)).replace("{kind}", recording.kind)
    more = [fields for pattern, fields in THINKING.items() if re.search(pattern, recording.id)]
    asked = MessagesRequest.parse(json.dumps(json.loads(body) | (more[0] if more else {})).encode())
    outbound = WIRES[recording.format].encode(
        asked, target=where(recording), model=model(), max_tokens=4096, client_headers={}
    )
    told: Body = json.loads(outbound.body)
    return told


def where(recording: Recording) -> Target:
    base = TARGET if recording.format == "anthropic" else target(recording.kind)
    fields = {"kind": recording.kind, "wire": recording.format, "actual_model": recording.model}
    return target(**{"base_url": KINDS[recording.kind].base_url or base.base_url, **fields})


def plain(content: Any) -> Any:
    """Content in parts as its texts, joined; marks, which must survive, stay."""
    if content is None or isinstance(content, str):
        return content or ""
    marks = [part["cache_control"] for part in content if "cache_control" in part]
    texts = [part["document"]["data"]["output"] if "document" in part else part["text"] for part in content]
    return (" ".join(texts).strip(), marks) if marks else " ".join(texts).strip()


def spaced(text: Any) -> Any:
    return re.sub(r"\s+", " ", text).strip() if isinstance(text, str) else text


def chat_messages(body: Body) -> list[Any]:
    """Messages in one form: neighbours of the system's joined, calls with their arguments as objects."""
    told: list[Any] = []
    for message in body["messages"]:
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls") or []
        ]
        content = plain(message.get("content") or message.get("tool_plan"))
        fields = {name: message[name] for name in SAID if message.get(name)}
        said = (message["role"], spaced(content), calls, fields)
        if told and told[-1][0] == "system" == message["role"]:
            joined = [part for part in (told[-1][1], said[1]) if part]
            said = ("system", _joined(joined), [], {})
            told.pop()
        told.append(said)
    return told


def _joined(contents: list[Any]) -> Any:
    texts = [content[0] if isinstance(content, tuple) else content for content in contents]
    marks = [mark for content in contents if isinstance(content, tuple) for mark in content[1]]
    text = spaced(" ".join(texts))
    return (text, marks) if marks else text


def functions(tools: list[Body] | None) -> list[Any]:
    """(name, description, schema, cache mark) of each function, in order."""
    inner = [(tool.get("function") or tool, tool.get("cache_control")) for tool in tools or []]
    return [
        (told["name"], told.get("description") or "", told["parameters"], mark)
        for told, mark in inner
        if "parameters" in told
    ]


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "openai_chat"], ids=str)
def test_chat_completions(recording: Recording) -> None:
    ours, theirs = sent(recording), recording.asked
    assert ours["model"] == theirs["model"]
    assert chat_messages(ours) == chat_messages(theirs)
    expected = functions(theirs.get("tools"))
    if recording.kind in {"gemini", "mistral"}:
        # These refuse some keywords of schemas elsewhere: CCM leaves them out.
        expected = json.loads(re.sub(r'"additionalProperties": false,? ?', "", json.dumps(expected)))
        assert [list(each) for each in functions(ours.get("tools"))] == expected
    else:
        assert functions(ours.get("tools")) == expected
    if recording.kind != "mistral":  # which has a word of its own for it
        assert ours.get("tool_choice") == _choice(theirs.get("tool_choice"))
    for name in ("reasoning_effort", "thinking"):
        if any(re.search(pattern, recording.id) for pattern in THINKING):
            assert ours.get(name) == theirs.get(name), name


def _choice(told: Any) -> Any:
    """The model's own choice goes without saying; some servers take a named one without its type as well."""
    if isinstance(told, dict):
        return {"type": "function", **told}
    return None if told == "auto" else told


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "openai_responses"], ids=str)
def test_responses(recording: Recording) -> None:
    ours, theirs = sent(recording), recording.asked
    assert ours.get("instructions") == theirs.get("instructions")
    assert functions(ours.get("tools")) == functions(theirs.get("tools"))
    kinds = [tool["type"] for tool in theirs.get("tools") or []]
    assert [tool["type"] for tool in ours.get("tools") or []] == kinds
    choice = theirs.get("tool_choice")
    assert ours.get("tool_choice") == (None if choice == "auto" else choice)
    assert [_item(item) for item in ours["input"]] == [
        _item(item) for item in theirs["input"] if item.get("type") not in {"reasoning", "web_search_call"}
    ]
    assert set(ours.get("include", [])) <= {"reasoning.encrypted_content", "web_search_call.action.sources"}
    assert set(theirs.get("include", [])) <= set(ours["include"])


def _item(item: Body) -> Any:
    match item.get("type", "message"):
        case "message":
            return item["role"], spaced(plain(item["content"]))
        case "function_call":
            return item["call_id"], item["name"], json.loads(item["arguments"])
        case _:
            return item["call_id"], item["output"]


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "gemini"], ids=str)
def test_gemini(recording: Recording) -> None:
    ours, theirs = sent(recording), recording.asked
    assert [content["role"] for content in ours["contents"]] == [content["role"] for content in theirs["contents"]]
    texts = [[part["text"] for part in c["parts"] if "text" in part] for c in ours["contents"]]
    assert texts == [[part["text"] for part in c["parts"] if "text" in part] for c in theirs["contents"]]
    assert _called(ours) == _called(theirs)
    declared = [(f["name"], f["parametersJsonSchema"]) for f in _declared(ours)]
    assert declared == [(f["name"], f["parameters_json_schema"]) for f in _declared(theirs)]
    assert any("googleSearch" in tool for tool in ours.get("tools", [])) == any(
        "googleSearch" in tool for tool in theirs.get("tools", [])
    )
    choice = (theirs.get("toolConfig") or {}).get("functionCallingConfig")
    if choice and len(choice.get("allowedFunctionNames", [])) <= 1:
        assert ours["toolConfig"]["functionCallingConfig"] == choice


def _called(body: Body) -> list[Any]:
    calls = [[part["functionCall"] for part in c["parts"] if "functionCall" in part] for c in body["contents"]]
    return [[(call["name"], call["args"]) for call in turn] for turn in calls]


def _declared(body: Body) -> list[Any]:
    return [each for tool in body.get("tools", []) for each in tool.get("functionDeclarations", [])]


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "cohere"], ids=str)
def test_cohere(recording: Recording) -> None:
    ours, theirs = sent(recording), recording.asked
    assert chat_messages(ours) == chat_messages(theirs)
    assert functions(ours.get("tools")) == functions(theirs.get("tools"))
    assert ours.get("tool_choice") == theirs.get("tool_choice")


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "bedrock"], ids=str)
def test_converse(recording: Recording) -> None:
    ours, theirs = sent(recording), recording.asked
    assert [_turn(message) for message in ours["messages"]] == [_turn(message) for message in theirs["messages"]]
    expected = theirs.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in (ours.get("toolConfig") or {}).get("tools", [])]
    assert [(spec["name"], spec["inputSchema"]) for spec in specs] == [
        (tool["toolSpec"]["name"], tool["toolSpec"]["inputSchema"]) for tool in expected.get("tools", [])
    ]
    assert (ours.get("toolConfig") or {}).get("toolChoice") == expected.get("toolChoice", _default(specs))
    assert [part["text"] for part in ours.get("system", [])] == [part["text"] for part in theirs.get("system") or []]


def _default(specs: list[Any]) -> Any:
    return {"auto": {}} if specs else None


def _turn(message: Body) -> Any:
    told: list[Any] = []
    for block in message["content"]:
        if "toolUse" in block:
            told.append((block["toolUse"]["toolUseId"], block["toolUse"]["name"], block["toolUse"]["input"]))
        elif "toolResult" in block:
            parts = block["toolResult"]["content"]
            texts = [part.get("text") or json.dumps(part["json"]) for part in parts]
            told.append((block["toolResult"]["toolUseId"], texts))
        else:
            told.append(block["text"])
    return message["role"], told


@pytest.mark.parametrize("recording", [r for r in ASKED if r.format == "anthropic"], ids=str)
def test_anthropic(recording: Recording) -> None:
    """Whatever Anthropic's own client says passes as it is."""
    assert sent(recording) == {**recording.asked, "model": recording.model}
