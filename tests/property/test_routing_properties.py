"""What holds for routing whatever is sent: the order of the routes, and the edit of tags."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.routing import InvalidPattern, Signals, check_pattern, choose, discovery_id, merge
from gateway.routing.names import Names
from gateway.routing.patterns import MAX_NAME, matches
from gateway.routing.tags import take_tags, without_tags
from providers.types import Profile
from providers.wire.request import MessagesRequest
from tests.gateway.routing_cases import ROUTE_MODELS, ROUTES, catalogue, decide, request

TAG = "<CCM-SUBAGENT-MODEL>the-agent</CCM-SUBAGENT-MODEL>"
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
ORDER = ("websearch", "subagent", "image", "long_context", "think", "background")
KNOWN = catalogue(*ROUTE_MODELS, "the-agent")
SIGNALS: dict[str, list[dict[str, Any]]] = {
    "websearch": [{"tools": [{"type": "web_search_20250305"}]}],
    "subagent": [{"system": TAG}, {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": f"b{TAG}"}]}],
    "image": [
        {"messages": [{"role": "user", "content": [PNG]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [PNG]}]}]},
    ],
    "long_context": [{"tokens": 60_001}, {"tokens": 2_000_000}],
    "think": [
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}},
        {"headers": {"x-claude-code-agent-type": "Plan"}},
    ],
    "background": [{"model": "claude-haiku-4-5"}, {"model": "CLAUDE-3-HAIKU"}],
}


@st.composite
def signals(draw: st.DrawFn) -> tuple[set[str], dict[str, Any]]:
    routes = draw(st.sets(st.sampled_from(ORDER)))
    fields: dict[str, Any] = {}
    for route in routes:
        fields |= draw(st.sampled_from(SIGNALS[route]))
    return routes, fields


@given(signals(), st.sets(st.sampled_from(ORDER)))
def test_the_order_of_the_routes(signalled, unset):
    routes, fields = signalled
    profile = Profile(**{name: None if name in unset else getattr(ROUTES, name) for name in (*ORDER, "default")})
    # A tag carries its own model: it needs no subagent route.
    expected = next((r for r in ORDER if r in routes and (r == "subagent" or r not in unset)), "default")
    decided = decide(profile=profile, known=KNOWN, **fields)
    assert decided.route == expected
    assert decided.model.name == ("the-agent" if expected == "subagent" else getattr(ROUTES, expected))
    assert [rule.rule for rule in decided.trail[1:] if rule.matched] == [expected]


LEVELS = ("key", "organization", "platform")
MERGED = catalogue(*ROUTE_MODELS, "the-agent", *(f"other-{level}" for level in LEVELS))


@st.composite
def levels(draw: st.DrawFn) -> dict[str, Profile]:
    """A key's, an organisation's and the platform's profile: each sets some routes, to a model of its
    own or off."""
    made = {}
    for level in LEVELS:
        routes: dict[str, Any]
        routes = {route: draw(st.sampled_from((None, "", f"other-{level}"))) for route in (*ORDER, "default")}
        made[level] = Profile(**routes)
    return made


@settings(deadline=None)  # how long it takes says nothing
@given(signals(), levels())
def test_the_order_of_the_routes_holds_for_merged_profiles(signalled, profiles):
    routes, fields = signalled
    merged = merge(*(profiles[level] for level in LEVELS))
    for route in (*ORDER, "default"):
        setting = next((level for level in LEVELS if getattr(profiles[level], route) is not None), None)
        assert merged.origins.get(route) == setting
        assert getattr(merged.profile, route) == (getattr(profiles[setting], route) if setting else None)
    is_set = {route for route in (*ORDER, "default") if getattr(merged.profile, route)}
    expected = next((r for r in ORDER if r in routes and (r == "subagent" or r in is_set)), "default")
    decided = decide(profile=merged.profile, known=MERGED, **fields)
    assert decided.route == expected
    if expected == "subagent":
        assert decided.model.name == "the-agent"
    elif expected in is_set:
        assert decided.model.name == f"other-{merged.origins[expected]}"
    assert [rule.rule for rule in decided.trail[1:] if rule.matched] == [expected]
    assert [rule.rule for rule in decided.trail if rule.rule in ORDER] == list(ORDER)


@settings(deadline=None)
@given(signals(), levels(), st.booleans())
def test_what_was_recorded_of_a_request_decides_again_as_the_request_did(signalled, profiles, is_long):
    """The signals, stored and read back, choose the same route under any profile: what-if relies on it."""
    _, fields = signalled
    sent, headers = {**fields}, fields.get("headers")
    tokens = 100_000 if is_long else sent.get("tokens", 1)
    for name in ("headers", "tokens"):
        sent.pop(name, None)
    profile = merge(*(profiles[level] for level in LEVELS)).profile
    first = decide(request(**sent), headers=headers, profile=ROUTES, known=MERGED, tokens=tokens)
    stored = msgspec.json.decode(msgspec.json.encode(first.signals), type=Signals)
    again = choose(stored, asked=first.requested, tokens=tokens, profile=profile, catalogue=MERGED)
    decided = decide(request(**sent), headers=headers, profile=profile, known=MERGED, tokens=tokens)
    assert (again.route, again.found.model, again.trail) == (decided.route, decided.model, decided.trail)


@given(signals())
def test_deciding_twice_is_deciding_once(signalled):
    _, fields = signalled
    tokens = fields.pop("tokens", 1)
    headers = fields.pop("headers", None)
    first = decide(request(**fields), known=KNOWN, headers=headers, tokens=tokens)
    again = decide(request(**fields), known=KNOWN, headers=headers, tokens=tokens)
    assert (first.route, first.trail, first.request.encode()) == (again.route, again.trail, again.request.encode())


PIECES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            TAG,
            "<CCR-SUBAGENT-MODEL>",
            "</CCR-SUBAGENT-MODEL>",
            "<CCM-SUB",
            "AGENT-MODEL>",
            "</CCM-SUBAGENT-MODEL>",
            "m\n",
        ]
    ),
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS)
def test_taking_tags_out_is_idempotent(text):
    once = without_tags(text)
    assert without_tags(once) == once
    assert TAG not in once


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.text(max_size=6).filter(lambda key: key not in {"type", "text", "content"})
BLOCKS = st.builds(
    lambda text, extra: {**extra, "type": "text", "text": text}, TEXTS, st.dictionaries(KEYS, JSON, max_size=2)
)
RESULTS = st.builds(lambda text: {"type": "tool_result", "tool_use_id": "t", "content": text}, TEXTS)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    content = st.one_of(TEXTS, st.lists(st.one_of(BLOCKS, RESULTS), max_size=3))
    roles = st.sampled_from(["user", "assistant", "system"])
    messages = draw(
        st.lists(st.builds(lambda r, c: {"role": r, "content": c, "x": 1.0}, roles, content), min_size=1, max_size=4)
    )
    body: dict[str, Any] = {
        "max_tokens": 9,
        "metadata": {"k": [1.0, 10**20]},
        "messages": messages,
        "model": "claude-x",
    }
    system = draw(st.one_of(st.none(), TEXTS, st.lists(BLOCKS, max_size=3)))
    return body if system is None else {**body, "system": system, "after": "caf\u00e9"}


def stripped(body: dict[str, Any], *, is_subagent: bool) -> dict[str, Any]:
    """The body as it must be: tags gone from system texts and the first user message, nowhere else."""
    body = msgspec.json.decode(msgspec.json.encode(body))

    def strip(content):
        if isinstance(content, str):
            return without_tags(content)
        return [{**b, "text": without_tags(b["text"])} if b["type"] == "text" else b for b in content]

    if "system" in body:
        body["system"] = strip(body["system"])
    first = next((message for message in body["messages"] if message["role"] == "user"), None)
    if is_subagent and first is not None:
        first["content"] = strip(first["content"])
    return body


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine it is
@given(bodies(), st.booleans())
def test_only_the_tags_change(body, is_subagent):
    sent = MessagesRequest.parse(msgspec.json.encode(body))
    _, edited = take_tags(sent, is_subagent=is_subagent)
    assert edited.encode() == msgspec.json.encode(stripped(body, is_subagent=is_subagent))
    assert take_tags(edited, is_subagent=is_subagent) == (None, edited)


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters=","), min_size=1, max_size=12), max_size=5))
def test_every_listed_id_leads_back_to_a_model(names):
    known = catalogue(*(name.strip() or "x" for name in names))
    for name, model in known.models.items():
        found = Names(known).find(discovery_id(name))
        assert found is not None
        assert found.model is model or found.model.name in {discovery_id(name), discovery_id(name).lower()}


@given(st.text(st.sampled_from("ab.*+?(|)[]{}1,9\\^$"), max_size=14))
def test_what_the_check_admits_ends(pattern):
    """A pattern that could run away would hang this test rather than fail it, so the texts are the
    worst for backtracking and the pattern is what the check let through."""
    try:
        check_pattern(pattern)
    except InvalidPattern:
        return
    matches(pattern, "a" * (MAX_NAME - 1) + "!")
