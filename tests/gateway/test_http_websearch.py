"""Web searches for models that make none, over HTTP: the OpenAI fake answers, a fake engine searches."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.fakes.answers import Answer, Block, End, Failure, Reply, Text, Thinking, Tokens, ToolUse, WebSearch
from tests.fakes.brain import Conversation, InOrder, always
from tests.fakes.search import KEY, FakeEngine, Page, fake_engine
from tests.processes import NewDatabase
from tests.world import PRICES, World

pytestmark = pytest.mark.one_database

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
PER_SEARCH = 10_000_000
"""Nano-USD a search of the models here."""
TOKENS = Tokens(input=100, output=20, cache_read=30)
STEP = 100 * PRICES["input"] + 20 * PRICES["output"] + 30 * PRICES["cache_read"]
MODELS = """
[[models]]
name = "{provider}-searcher"
context_window = 1000000
max_output = 32000
tools = {tools}
input = "3"
output = "15"
cache_read = "0.3"
cache_write = "3.75"
web_search = "10"
[[models.mappings]]
provider = "{provider}"
actual_model = "{actual}"
cost = {{ input = "1", output = "5", cache_read = "0.1", cache_write = "1.25" }}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine("brave") as made:
        yield made


@pytest.fixture(scope="module")
def searching(new_database: NewDatabase, engine: FakeEngine) -> Iterator[World]:
    settings = {
        "CCM_SEARCH_BACKEND": "brave", "CCM_SEARCH_URL": engine.url, "CCM_SEARCH_KEY": KEY,
        "CCM_ALLOW_PRIVATE_UPSTREAMS": "1",
    }  # fmt: skip
    with new_database() as url, World(database_url=url, settings=settings) as world:
        world.ccm.import_config(
            '[router]\ndefault = "anthropic-model"\nsafety = "anthropic-agent"\n'
            + MODELS.format(provider="openai", actual="openai-search-actual", tools="true")
            + MODELS.format(provider="anthropic", actual="another-vendors-model", tools="true")
            + MODELS.format(provider="anthropic", actual="claude-native", tools="true").replace(
                "anthropic-searcher", "native"
            )
            + MODELS.format(provider="openai", actual="openai-mute", tools="false").replace("openai-searcher", "mute")
        )
        yield world


@pytest.fixture(scope="module")
def shared_key(searching: World) -> str:
    key = searching.ccm.create_key("searcher@example.com")
    searching.await_model(key, "openai-searcher")
    return key


@pytest.fixture
def key(searching: World, engine: FakeEngine, shared_key: str) -> str:
    """For the tests that look into no books."""
    engine.clear()
    for fake in (searching.openai, searching.anthropic):
        fake.clear()
        fake.brain = found_marzipan
    return shared_key


@pytest.fixture
def own_key(searching: World, key: str, email: str) -> str:
    """The key of a customer whose records are this test's alone; no provider rests any more from what the test
    before has made it answer."""
    answers_at_once(searching, key)
    return searching.ccm.create_key(email)


def answers_at_once(searching: World, key: str) -> None:
    deadline = time.monotonic() + 30
    while searching.post(key, body(tools=[])).status_code != 200:
        assert time.monotonic() < deadline, "the provider is never asked again"
        time.sleep(0.1)
    searching.openai.clear()


def found_marzipan(conversation: Conversation) -> Answer:
    """Plays a model that searches once and quotes what it has read."""
    asked = conversation.called("web_search")
    if asked and asked[-1].result is not None:
        year = "1923" if "1923" in asked[-1].result else "unknown"
        return Reply(blocks=[Text(f"It opened in {year}, says museum.example.")], tokens=TOKENS)
    if "web_search" not in conversation.tools:
        return Reply(blocks=[Text("I cannot search.")], tokens=TOKENS)
    return Reply(blocks=[Text("Let me look."), ToolUse("web_search", {"query": "marzipan museum"})], tokens=TOKENS)


def body(**more: Any) -> dict[str, Any]:
    return {
        "model": "openai-searcher", "max_tokens": 1000, "tools": [SEARCH],
        "messages": [{"role": "user", "content": "When did the marzipan museum open?"}],
    } | more  # fmt: skip


def ask(world: World, key: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    """The Message, put together by the official client, which takes nothing that is out of order."""
    with client(world, key) as sdk:
        if stream:
            with sdk.messages.stream(**body(**more)) as told:
                message: anthropic.types.Message = told.get_final_message()
        else:
            message = sdk.messages.create(**body(**more))
        return message.model_dump()


def client(world: World, key: str) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(trust_env=False, timeout=60)
    return anthropic.Anthropic(base_url=world.ccm.url, api_key=key, max_retries=0, http_client=http)


def events(world: World, key: str, **more: Any) -> list[dict[str, Any]]:
    answer = world.post(key, body(stream=True, **more))
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def kinds(message: dict[str, Any]) -> list[str]:
    return [block["type"] for block in message["content"]]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_model_that_cannot_search_finds_and_quotes(
    searching: World, own_key: str, email: str, engine: FakeEngine, provider: str, stream: bool
):
    message = ask(searching, own_key, stream=stream, model=f"{provider}-searcher")

    assert kinds(message) == ["text", "server_tool_use", "web_search_tool_result", "text"]
    said, use, result, answer = message["content"]
    assert said["text"] == "Let me look."
    assert (use["name"], use["input"]) == ("web_search", {"query": "marzipan museum"})
    assert use["id"].startswith("srvtoolu_ccm")
    assert result["tool_use_id"] == use["id"]
    pages = [(page["title"], page["url"], page["page_age"]) for page in result["content"]]
    assert pages == [
        ("The marzipan museum", "https://museum.example/marzipan", "2026-10-01"),
        ("Almonds", "https://almonds.test/sweet", None),
    ]
    assert answer["text"] == "It opened in 1923, says museum.example."
    assert message["stop_reason"] == "end_turn"
    assert message["model"] == f"{provider}-searcher"
    usage = message["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cache_read_input_tokens"]) == (200, 40, 60)
    assert usage["server_tool_use"]["web_search_requests"] == 1

    assert [asked.query for asked in engine.asked] == ["marzipan museum"]
    records = searching.ccm.usage_records(email)
    assert sorted((r["route"], r["web_searches"], r["charge"]) for r in records) == [
        ("websearch", 0, STEP),
        ("websearch", 1, STEP + PER_SEARCH),
    ]
    assert {record["streamed"] for record in records} == {stream}
    assert searching.fake(provider).violations == []


def test_a_whole_answer_names_the_cost_of_all_its_steps(searching: World, key: str):
    answer = searching.post(key, body())
    assert answer.headers["x-ccm-cost"] == f"0.{2 * STEP + PER_SEARCH:09d}"
    assert answer.headers["x-ccm-route"] == "websearch"


def test_the_stream_is_one_message_with_dense_blocks(searching: World, key: str):
    told = events(searching, key)
    types = [event["type"] for event in told if event["type"] != "ping"]
    assert types[0] == "message_start"
    assert types[-2:] == ["message_delta", "message_stop"]
    assert {kind: types.count(kind) for kind in ("message_start", "message_delta", "message_stop")} == dict.fromkeys(
        ("message_start", "message_delta", "message_stop"), 1
    )
    open_, seen = None, []
    for event in told:
        match event["type"]:
            case "content_block_start":
                assert open_ is None
                open_ = event["index"]
                seen.append(open_)
            case "content_block_delta":
                assert event["index"] == open_
            case "content_block_stop":
                assert event["index"] == open_
                open_ = None
    assert seen == [0, 1, 2, 3]


def test_the_first_step_bears_the_id_that_the_client_knows(searching: World, own_key: str, email: str):
    answer = searching.post(own_key, body())
    assert answer.headers["request-id"] in {record["request_id"] for record in searching.ccm.usage_records(email)}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("choice", [{"type": "tool", "name": "web_search"}, {"type": "any"}])
def test_a_forced_search_is_forced_once(searching: World, key: str, choice: dict[str, Any], stream: bool):
    message = ask(searching, key, stream=stream, tool_choice=choice)
    assert kinds(message)[-1] == "text"
    first, second = [request.body for request in searching.openai.requests]
    named = {"type": "function", "function": {"name": "web_search"}}
    assert first["tool_choice"] == (named if choice["type"] == "tool" else "required")
    assert "tool_choice" not in second or second["tool_choice"] == "auto"


def test_a_forbidden_search_is_left_out(searching: World, key: str, engine: FakeEngine):
    message = ask(searching, key, stream=False, tool_choice={"type": "none"})
    assert [block["text"] for block in message["content"]] == ["I cannot search."]
    assert engine.asked == []


def test_domains_are_asked_for_and_kept_to(searching: World, key: str, engine: FakeEngine):
    engine.pages = (*engine.pages, Page("Elsewhere", "https://evil.test/museum.example"))
    tool = SEARCH | {"allowed_domains": ["museum.example"]}
    message = ask(searching, key, stream=True, tools=[tool])
    assert [page["url"] for page in message["content"][2]["content"]] == ["https://museum.example/marzipan"]
    assert engine.asked[0].query == "marzipan museum site:museum.example"

    tool = SEARCH | {"blocked_domains": ["museum.example"]}
    message = ask(searching, key, stream=True, tools=[tool])
    urls = [page["url"] for page in message["content"][2]["content"]]
    assert urls == ["https://almonds.test/sweet", "https://evil.test/museum.example"]
    assert engine.asked[1].query == "marzipan museum -site:museum.example"


def test_where_the_user_is_reaches_the_engine(searching: World, key: str, engine: FakeEngine):
    place = {
        "type": "approximate",
        "city": "Hamburg",
        "region": "Hamburg",
        "country": "DE",
        "timezone": "Europe/Berlin",
    }
    ask(searching, key, stream=False, tools=[SEARCH | {"user_location": place}])
    headers = engine.asked[0].headers
    assert (headers["x-loc-city"], headers["x-loc-country"], headers["x-loc-timezone"]) == (
        "Hamburg", "DE", "Europe/Berlin",
    )  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_searches_beyond_max_uses_are_not_made_and_not_charged(
    searching: World, own_key: str, email: str, engine: FakeEngine, stream: bool
):
    twice = [ToolUse("web_search", {"query": "one"}), ToolUse("web_search", {"query": "two"})]
    searching.openai.brain = InOrder(Reply(blocks=twice), Reply(blocks=[Text("Done.")]))
    message = ask(searching, own_key, stream=stream, tools=[SEARCH | {"max_uses": 1}])
    assert kinds(message) == ["server_tool_use", "web_search_tool_result"] * 2 + ["text"]
    assert message["content"][3]["content"] == {
        "type": "web_search_tool_result_error",
        "error_code": "max_uses_exceeded",
    }
    assert [asked.query for asked in engine.asked] == ["one"]
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert sum(record["web_searches"] for record in searching.ccm.usage_records(email)) == 1
    assert searching.openai.requests[1].body["tool_choice"] == "none"


def test_a_model_that_never_answers_is_stopped(searching: World, key: str, engine: FakeEngine):
    searching.openai.brain = always(Reply(blocks=[ToolUse("web_search", {"query": "again"})]))
    message = ask(searching, key, stream=True, tools=[SEARCH | {"max_uses": 20}])
    assert message["stop_reason"] == "pause_turn"
    assert len(engine.asked) == len(searching.openai.requests) == 12
    assert searching.openai.requests[-1].body["tool_choice"] == "none"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("status", "code"), [(429, "too_many_requests"), (500, "unavailable")])
def test_a_search_that_fails_is_told_and_free_of_charge(
    searching: World, own_key: str, email: str, engine: FakeEngine, status: int, code: str, stream: bool
):
    engine.status = status
    message = ask(searching, own_key, stream=stream)
    assert message["content"][2]["content"] == {"type": "web_search_tool_result_error", "error_code": code}
    assert message["content"][3]["text"] == "It opened in unknown, says museum.example."
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 0
    assert sum(record["charge"] for record in searching.ccm.usage_records(email)) == 2 * STEP
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    ("asked", "code"),
    [({"query": "x" * 401}, "query_too_long"), ({"question": "?"}, "invalid_tool_input"), ({}, "invalid_tool_input")],
)
def test_a_query_that_cannot_be_made(searching: World, key: str, engine: FakeEngine, asked: Any, code: str):
    searching.openai.brain = InOrder(Reply(blocks=[ToolUse("web_search", asked)]), Reply(blocks=[Text("Done.")]))
    message = ask(searching, key, stream=True)
    assert message["content"][1]["content"]["error_code"] == code
    assert engine.asked == []


READ = {"name": "Read", "description": "Read a file", "input_schema": {"type": "object", "properties": {}}}


@pytest.mark.parametrize("stream", [True, False])
def test_the_client_s_own_calls_come_after_the_searches(searching: World, key: str, stream: bool):
    calls: list[Block] = [
        Thinking("Both at once."), Text("A moment."), ToolUse("Read", {"file_path": "/notes"}),
        ToolUse("web_search", {"query": "marzipan museum"}),
    ]  # fmt: skip
    searching.openai.brain = always(Reply(blocks=calls, tokens=TOKENS))
    message = ask(searching, key, stream=stream, tools=[SEARCH, READ])
    assert kinds(message) == ["thinking", "text", "server_tool_use", "web_search_tool_result", "tool_use"]
    assert message["content"][4]["input"] == {"file_path": "/notes"}
    assert message["stop_reason"] == "tool_use"
    assert len(searching.openai.requests) == 1

    searching.openai.clear()
    searching.openai.brain = always(Reply(blocks=[Text("Thanks.")]))
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{k: v for k, v in b.items() if v is not None} for b in message["content"]]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": message["content"][4]["id"], "content": "my notes"},
        ]},
    ]  # fmt: skip
    ask(searching, key, stream=stream, tools=[SEARCH, READ], messages=history)
    (request,) = searching.openai.requests
    assistant = next(turn for turn in request.body["messages"] if turn["role"] == "assistant")
    assert "https://museum.example/marzipan" in assistant["content"]
    assert "Opened in 1923 by Köhler." in assistant["content"]
    assert searching.openai.violations == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_was_cut_off_is_neither_made_nor_shown(
    searching: World, key: str, engine: FakeEngine, stream: bool
):
    cut: list[Block] = [Text("Let me look."), ToolUse("web_search", {"query": "q"})]
    searching.openai.brain = always(Reply(blocks=cut, stop="max_tokens"))
    message = ask(searching, key, stream=stream)
    assert (kinds(message), message["stop_reason"]) == (["text"], "max_tokens")
    assert engine.asked == []


@pytest.mark.parametrize("stream", [True, False])
def test_all_steps_together_write_no_more_than_max_tokens(searching: World, key: str, stream: bool):
    message = ask(searching, key, stream=stream, max_tokens=50)
    assert [request.body["max_tokens"] for request in searching.openai.requests] == [50, 30]
    assert message["stop_reason"] == "end_turn"
    message = ask(searching, key, stream=stream, max_tokens=20)
    assert message["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("stream", [True, False])
def test_auto_mode_judges_the_client_s_calls_and_no_search(searching: World, key: str, stream: bool):
    calls = [ToolUse("web_search", {"query": "marzipan museum"}), ToolUse("Read", {"file_path": "/notes"})]
    searching.openai.brain = always(Reply(blocks=calls))
    searching.anthropic.brain = always(Reply(blocks=[Text("<verdict>not_flagged</verdict>")]))
    context = {"permission_mode": "auto", "rules": {"allow": [], "deny": [], "ask": []}}
    safeguards = [{"type": "dangerous_tool_use", "classifier_context": context}]
    more = {"tools": [SEARCH, READ], "safeguards": safeguards}
    if stream:
        results = next(e["delta"] for e in events(searching, key, **more) if e["type"] == "message_delta")
    else:
        results = searching.post(key, body(**more)).json()
    status = results["safeguard_results"][0]["status"]
    assert status["type"] == "available"
    assert {use["outcome"] for use in status["tool_uses"].values()} == {"not_flagged"}
    assert len(searching.anthropic.requests) == 1
    assert b"/notes" in searching.anthropic.requests[0].raw


def test_what_was_found_goes_to_anthropic_as_text(searching: World, key: str):
    message = ask(searching, key, stream=False)
    searching.anthropic.brain = always(Reply(blocks=[WebSearch("more", [("T", "https://t.example")]), Text("Yes.")]))
    history = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{k: v for k, v in b.items() if v is not None} for b in message["content"]]},
        {"role": "user", "content": "and now?"},
    ]
    answer = ask(searching, key, stream=False, model="native", messages=history)
    assert kinds(answer) == ["server_tool_use", "web_search_tool_result", "text"]
    (request,) = searching.anthropic.requests
    assert request.body["tools"] == [SEARCH]
    sent = request.body["messages"][1]["content"]
    assert [block["type"] for block in sent] == ["text", "text", "text"]
    assert "[Searched the web for 'marzipan museum']" in sent[1]["text"]
    assert "Opened in 1923 by Köhler." in sent[1]["text"]


def test_a_provider_that_searches_itself_is_left_to_it(searching: World, own_key: str, email: str, engine: FakeEngine):
    searching.anthropic.brain = always(Reply(blocks=[WebSearch("q", [("T", "https://t.example")]), Text("Yes.")]))
    message = ask(searching, own_key, stream=True, model="native")
    assert message["content"][0]["id"].startswith("srvtoolu_fake")
    assert engine.asked == []
    (record,) = searching.ccm.usage_records(email)
    assert record["web_searches"] == 1


# -- failures


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_anything_was_sent_keeps_its_status(searching: World, own_key: str, email: str, stream: bool):
    searching.openai.brain = always(Failure(429, "slow down", headers={"retry-after": "1"}))
    answer = searching.post(own_key, body(stream=stream))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert [record["charge"] for record in searching.ccm.usage_records(email)] in ([], [0])


def test_an_error_of_a_later_step_is_an_event(searching: World, own_key: str, email: str):
    first = Reply(blocks=[ToolUse("web_search", {"query": "q"})], tokens=TOKENS)
    searching.openai.brain = InOrder(first, Failure(400, "no"))
    told = events(searching, own_key)
    assert told[-1]["type"] == "error"
    assert "message_stop" not in {event["type"] for event in told}
    assert sum(record["charge"] for record in searching.ccm.usage_records(email)) == STEP + PER_SEARCH


def test_a_later_step_of_a_whole_answer_fails_with_its_status(searching: World, own_key: str, email: str):
    first = Reply(blocks=[ToolUse("web_search", {"query": "q"})], tokens=TOKENS)
    searching.openai.brain = InOrder(first, Failure(429, "slow down"))
    answer = searching.post(own_key, body())
    assert answer.status_code == 429
    assert sum(record["charge"] for record in searching.ccm.usage_records(email)) == STEP + PER_SEARCH


def test_a_step_that_is_cut_ends_in_an_error_and_its_part_is_paid(searching: World, own_key: str, email: str):
    cut = Reply(blocks=[Text("one two three four five six")], tokens=TOKENS, events=4, end=End.RESET)
    searching.openai.brain = InOrder(Reply(blocks=[ToolUse("web_search", {"query": "q"})], tokens=TOKENS), cut)
    told = events(searching, own_key)
    assert told[-1]["type"] == "error"
    charges = sorted(record["charge"] for record in searching.ccm.usage_records(email))
    assert len(charges) == 2
    assert charges[0] > 0
    assert charges[1] == STEP + PER_SEARCH


@pytest.mark.parametrize("stream", [True, False])
def test_credits_that_last_for_one_step_only(searching: World, engine: FakeEngine, stream: bool, email: str):
    engine.clear()
    searching.openai.clear()
    searching.openai.brain = found_marzipan
    poor = searching.ccm.create_key(email, usd="0.0290")
    answer = searching.post(poor, body(stream=stream, max_tokens=500, tools=[SEARCH | {"max_uses": 2}]))
    if stream:
        assert answer.status_code == 200, answer.text
        last = json.loads(answer.text.strip().rpartition("data: ")[2])
        assert last["error"]["type"] == "billing_error"
    else:
        assert answer.status_code == 402
    assert len(searching.openai.requests) == 1
    (record,) = [r for r in searching.ccm.usage_records(email) if r["charge"]]
    assert record["charge"] == STEP + PER_SEARCH


# -- credits for searches


def three_at_once(conversation: Conversation) -> Answer:
    if conversation.calls:
        return Reply(blocks=[Text("Done.")], tokens=TOKENS)
    return Reply(blocks=[ToolUse("web_search", {"query": f"q{number}"}) for number in range(3)], tokens=TOKENS)


def debt(world: World, email: str) -> int:
    mine = f"organization__memberships__user__email={email!r}"
    source = f"from credits.models import Wallet; print(Wallet.objects.get({mine}).debt)"
    return int(world.ccm.python(source))


@pytest.mark.parametrize(("uses", "usd", "enough"), [(3, "0.043", True), (3, "0.030", False), (1, "0.022", True)])
def test_searches_are_reserved_for_and_never_overspent(
    searching: World, engine: FakeEngine, email: str, uses: int, usd: str, enough: bool
):
    engine.clear()
    searching.openai.clear()
    searching.openai.brain = three_at_once
    key = searching.ccm.create_key(email, usd=usd)
    answer = searching.post(key, body(max_tokens=500, tools=[SEARCH | {"max_uses": uses}]))
    assert answer.status_code == (200 if enough else 402), answer.text
    if not enough:
        assert answer.json()["error"]["type"] == "billing_error"
    assert len(engine.asked) == (uses if enough else 0)
    charged = [record["charge"] for record in searching.ccm.usage_records(email)]
    assert sum(charged) == (2 * STEP + uses * PER_SEARCH if enough else 0)
    assert debt(searching, email) == 0


def test_a_provider_s_own_searches_are_reserved_for_and_bounded(searching: World, email: str):
    searching.anthropic.clear()
    searching.anthropic.brain = always(Reply(blocks=[WebSearch("q", [("T", "https://t.example")]), Text("Yes.")]))
    key = searching.ccm.create_key(email, usd="0.15")
    free = {name: value for name, value in SEARCH.items() if name != "max_uses"}
    refused = searching.post(key, body(model="native", max_tokens=500, tools=[SEARCH | {"max_uses": 15}]))
    assert refused.status_code == 402
    assert searching.anthropic.requests == []
    forbidden = searching.post(
        key, body(model="native", tools=[SEARCH | {"max_uses": 15}], max_tokens=500, tool_choice={"type": "none"})
    )
    assert forbidden.status_code == 200
    assert searching.post(key, body(model="native", max_tokens=500, tools=[free])).status_code == 200
    assert searching.anthropic.requests[-1].body["tools"] == [free | {"max_uses": 10}]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_loop(
    searching: World, own_key: str, email: str, engine: FakeEngine, stream: bool
):
    engine.stalled = threading.Event()
    with (
        httpx.Client(trust_env=False, timeout=60) as http,
        pytest.raises(httpx.ReadTimeout),
        http.stream(
            "POST", f"{searching.ccm.url}/v1/messages", json=body(stream=stream), headers={"x-api-key": own_key},
            timeout=httpx.Timeout(60, read=2),
        ) as answer,
    ):  # fmt: skip
        answer.read()
    assert engine.arrived.wait(20)
    records = recorded(searching, email)
    engine.stalled.set()
    assert [(r["status"], r["charge"], r["web_searches"]) for r in records] == [(499, STEP, 0)]
    assert len(searching.openai.requests) == 1


def recorded(world: World, email: str) -> list[dict[str, Any]]:
    """The usage records of a customer, once there are any."""
    deadline = time.monotonic() + 20
    while not (records := world.ccm.usage_records(email)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return records


# -- refusals


def test_a_model_without_tools_is_refused_in_words(searching: World, key: str):
    searching.await_model(key, "mute")
    answer = searching.post(key, body(model="mute"))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "policy_blocked"
    assert "websearch route" in answer.json()["error"]["message"]


def test_the_books_agree_after_all_of_this(searching: World):
    assert searching.ccm.run("reconcile").returncode == 0


def test_without_an_engine_the_refusal_names_what_to_set(world: World, email: str):
    key = world.ccm.create_key(email)
    world.openai.clear()
    answer = world.post(key, body(model="openai-model"))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "policy_blocked"
    assert answer.headers["x-should-retry"] == "false"
    for named in ("CCM_SEARCH_BACKEND", "websearch route", "openai-model"):
        assert named in answer.json()["error"]["message"]
    assert world.openai.requests == []


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ({"max_uses": 0}, "max_uses"),
        ({"allowed_domains": ["a.example"], "blocked_domains": ["b.example"]}, "cannot be used together"),
        ({"allowed_domains": ["not a domain"]}, "is not a domain"),
        ({"allowed_domains": ["*.example.com"]}, "is not a domain"),
        ({"user_location": {"city": 7}}, "tools[0]"),
    ],
)
def test_a_tool_that_makes_no_sense_is_refused(searching: World, key: str, tool: dict[str, Any], said: str):
    answer = searching.post(key, body(tools=[SEARCH | tool]))
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert said in answer.json()["error"]["message"]
    assert searching.openai.requests == []
