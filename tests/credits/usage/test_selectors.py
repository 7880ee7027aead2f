"""What pages read: exact, and only of their own tenant."""

import csv
import io
import json
from datetime import datetime, timedelta

import pytest

from accounts.models import ApiKey, Organization
from accounts.services import create_key
from credits.models import UsageRecord
from credits.types import Explanation
from credits.usage import rollups
from credits.usage.export import export_csv, export_json
from credits.usage.requests import Cursor, RequestFilters, request_detail, requests_page
from credits.usage.selectors import By, platform_usage, spending, usage_by, usage_by_member, usage_total
from credits.usage.sessions import SessionDetail, session_detail, sessions_page
from credits.usage.types import Filters, Span
from tests.credits.support import TOKEN, USD, Tenant, new_tenant, tampered
from tests.credits.usage.support import NOW, use

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MONTH = Span.last_days(NOW, 30)


@pytest.fixture
def stranger(db: None) -> Tenant:
    return new_tenant(10 * USD)


@pytest.fixture(params=["records", "rollups", "both"])
def rolled(request: pytest.FixtureRequest) -> datetime | None:
    """When the task ran last: every answer must be the same."""
    return {"records": None, "rollups": NOW + HOUR, "both": NOW - 3 * HOUR}[request.param]


def roll_up(until: datetime | None) -> None:
    if until:
        rollups.roll_up(until)


def test_usage_by_everything_there_is(customer: Tenant, stranger: Tenant, rolled: datetime | None):
    use(stranger, NOW, tokens=1000, model="x", route="think")
    for hours, tokens, model, route, provider in (
        (0, 1, "a", "think", "p"), (1, 2, "b", "think", "p"), (5, 4, "a", "default", "q"), (40, 8, "a", "default", "p"),
    ):  # fmt: skip
        use(customer, NOW - hours * HOUR, tokens=tokens, model=model, route=route, provider=provider)
    roll_up(rolled)

    def tokens_by(by: By, filters: Filters = Filters()) -> dict[object, int]:  # noqa: B008 - frozen
        lines = usage_by(customer.organization_id, by, MONTH, filters)
        return {line.value: line.sums.output_tokens for line in lines}

    assert list(tokens_by(By.MODEL).items()) == [("a", 13), ("b", 2)]
    assert tokens_by(By.ROUTE) == {"default": 12, "think": 3}
    assert tokens_by(By.PROVIDER) == {"p": 11, "q": 4}
    assert tokens_by(By.API_KEY) == {customer.api_key_id: 15}
    assert {day.day: tokens for day, tokens in tokens_by(By.DAY).items()} == {22: 8, 24: 7}  # type: ignore[attr-defined]
    assert [hour.hour for hour in tokens_by(By.HOUR)] == [20, 7, 11, 12]  # type: ignore[attr-defined]
    assert tokens_by(By.MODEL, Filters(route="think", provider="p")) == {"a": 1, "b": 2}
    assert tokens_by(By.DAY, Filters(model="nothing")) == {}
    assert tokens_by(By.ROUTE, Filters(api_key_id=stranger.api_key_id)) == {}
    total = usage_total(customer.organization_id, MONTH)
    assert (total.requests, total.charge, total.cost, total.margin) == (4, 15 * TOKEN, 6 * TOKEN, 9 * TOKEN)
    # hours at the edges, a whole day between them
    edges = Span(NOW - 40 * HOUR, NOW - 30 * timedelta(minutes=1))
    assert usage_total(customer.organization_id, edges).output_tokens == 14


def test_usage_by_member_is_by_who_made_the_key(customer: Tenant, rolled: datetime | None):
    organization = Organization.objects.get(pk=customer.organization_id)
    creator = ApiKey.objects.get(pk=customer.api_key_id).created_by_id
    orphan = create_key(organization=organization, name="old", created_by=None)
    second = create_key(organization=organization, name="second", created_by=organization.personal_owner)
    for key, tokens in ((customer.api_key_id, 1), (orphan.id, 20), (second.id, 3)):
        use(Tenant(customer.organization_id, key), NOW, tokens=tokens)
    roll_up(rolled)
    lines = usage_by_member(customer.organization_id, MONTH)
    assert [(line.user_id, line.sums.output_tokens) for line in lines] == [(None, 20), (creator, 4)]


def test_spending_and_its_forecast_are_whole_nanos(customer: Tenant, rolled: datetime | None):
    for days, tokens in ((0, 3), (1, 5), (7, 7), (20, 11), (30, 13)):  # the last in October
        use(customer, NOW - days * DAY, tokens=tokens)
    roll_up(rolled)
    found = spending(customer.organization_id, NOW)
    assert (found.today, found.this_month) == (3 * TOKEN, 26 * TOKEN)
    burnt, seconds = 15 * TOKEN, int(7.5 * 86400) + 5 * 3600 - 5 * 3600 + 1800
    assert seconds == int((NOW - (NOW - 7 * DAY).replace(hour=0, minute=0)).total_seconds())
    left = int((datetime(2025, 12, 1, tzinfo=NOW.tzinfo) - NOW).total_seconds())
    assert found.month_forecast == 26 * TOKEN + burnt * left // seconds
    assert found.lasts is None  # ten dollars are for ever at this rate


def test_credits_that_run_out_are_foretold(customer: Tenant):
    use(customer, NOW, tokens=5_000_000)  # five of ten dollars, today
    assert spending(customer.organization_id, NOW).lasts == DAY
    assert spending(customer.organization_id, NOW + 20 * DAY).lasts is None
    assert spending(10**9, NOW).today == 0


def test_operators_see_all_tenants_by_day_and_model(customer: Tenant, stranger: Tenant, rolled: datetime | None):
    for tenant, days, model in ((customer, 0, "a"), (stranger, 0, "a"), (stranger, 0, "b"), (customer, 2, "b")):
        use(tenant, NOW - days * DAY, model=model)
    roll_up(rolled)
    lines = platform_usage(MONTH)
    seen = [(line.day.day, line.model, line.sums.requests) for line in lines]
    assert seen == [(24, "a", 2), (24, "b", 1), (22, "b", 1)]


# -- single requests


def test_pages_of_requests_leave_out_and_repeat_nothing(customer: Tenant, stranger: Tenant, rolled: datetime | None):
    use(stranger, NOW)
    ids = [use(customer, NOW - number // 3 * HOUR) for number in range(10)]  # three of the same time
    roll_up(rolled)
    for filters in (RequestFilters(), RequestFilters(model="m"), RequestFilters(api_key_id=customer.api_key_id)):
        seen: list[str] = []
        cursor: Cursor | None = None
        while True:
            page = requests_page(customer.organization_id, filters=filters, after=cursor, limit=4)
            seen += [row.request_id for row in page.rows]
            if page.next is None:
                break
            cursor = Cursor.parse(str(page.next))
        assert seen == sorted(ids, key=lambda id_: (-(ids.index(id_) // 3), id_), reverse=True)


def test_requests_are_narrowed(customer: Tenant, rolled: datetime | None):
    failed = use(customer, NOW - 5 * HOUR, status=529, route="think", session_id="s", agent_id="x")
    inside = use(customer, NOW - 30 * HOUR, session_id="s", model="rare")
    for hours in range(8):
        use(customer, NOW - hours * HOUR)
    roll_up(rolled)

    def ids(span: Span | None = None, **filters: object) -> list[str]:
        page = requests_page(customer.organization_id, span, RequestFilters(**filters))  # type: ignore[arg-type]
        return [row.request_id for row in page.rows]

    assert ids(errors=True) == ids(route="think") == ids(session_id="s", agent_id="x") == [failed]
    assert ids(session_id="s") == [failed, inside]
    assert ids(model="rare") == ids(session_id="s", agent_id="") == [inside]
    assert ids(Span.today(NOW), model="rare") == ids(provider="none") == ids(session_id="none") == []
    assert len(ids(Span(NOW - 2 * HOUR, NOW), provider="p")) == len(ids(Span(NOW - 2 * HOUR, NOW))) == 3


@pytest.mark.parametrize(
    "text", ["", "x", "1-", "1.5-r", "-1.0-r", "99999999999999.000000-r", "1.000000", "1.000000-\0"]
)
def test_what_is_no_cursor_is_none(text: str):
    assert Cursor.parse(text) is None


def test_one_request_says_everything_but_what_it_cost_the_operator(customer: Tenant, stranger: Tenant):
    rules = [{"rule": "default", "matched": True, "why": "w"}]
    attempts = ({"provider": "p", "model": "a", "mapping": 7, "cost": "unknown", "ms": 5, "error": "timeout"},)
    explanation = Explanation.of(json.dumps({"rules": rules}).encode())
    request_id = use(customer, NOW, explanation=explanation, client="claude-cli", attempts=attempts)
    detail = request_detail(customer.organization_id, request_id)
    assert detail is not None
    assert (detail.charge, detail.explanation, detail.client) == (10 * TOKEN, {"rules": rules}, "claude-cli")
    assert detail.attempts == [{"provider": "p", "model": "a", "ms": 5, "error": "timeout"}]
    assert not hasattr(detail, "cost")
    assert not hasattr(detail, "margin")
    assert request_detail(stranger.organization_id, request_id) is None


# -- sessions


def test_a_session_adds_up_its_subagents(customer: Tenant, stranger: Tenant, rolled: datetime | None):
    use(stranger, NOW, session_id="s", tokens=1000)
    for hours, agent, parent, tokens in (
        (6, "", "", 1), (5, "a", "", 2), (4, "b", "a", 4), (1, "b", "a", 8), (1, "", "", 16), (0, "lost", "gone", 32),
    ):  # fmt: skip
        use(customer, NOW - hours * HOUR, session_id="s", agent_id=agent, parent_agent_id=parent, tokens=tokens)
    roll_up(rolled)
    detail = session_detail(customer.organization_id, "s")
    assert isinstance(detail, SessionDetail)
    assert (detail.sums.output_tokens, detail.sums.requests, detail.sums.charge) == (63, 6, 63 * TOKEN)
    assert (detail.first_seen, detail.last_seen) == (NOW - 6 * HOUR, NOW)
    tree = {agent.agent_id: agent for agent in detail.agents}
    assert set(tree) == {"", "lost"}
    assert (tree[""].sums.output_tokens, tree[""].with_subagents.output_tokens) == (17, 31)
    (first,) = tree[""].subagents
    assert (first.agent_id, first.sums.output_tokens, first.with_subagents.output_tokens) == ("a", 2, 14)
    assert [agent.agent_id for agent in first.subagents] == ["b"]
    (line,) = sessions_page(customer.organization_id)
    assert (line.subagents, line.sums, line.last_seen) == (3, detail.sums, NOW)
    assert session_detail(customer.organization_id, "") is None
    assert session_detail(customer.organization_id, "none") is None


def test_ids_that_name_themselves_as_ancestors_end_no_page(customer: Tenant):
    for agent, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "d"), ("e", "c")):
        use(customer, NOW, session_id="s", agent_id=agent, parent_agent_id=parent)
    detail = session_detail(customer.organization_id, "s")
    assert detail is not None
    assert sum(agent.with_subagents.requests for agent in detail.agents) == detail.sums.requests == 5


def test_pages_of_sessions_leave_out_and_repeat_nothing(customer: Tenant, rolled: datetime | None):
    for number in range(9):
        use(customer, NOW - number // 2 * HOUR, session_id=f"s{number}")
    use(customer, NOW, session_id="s8")
    use(customer, NOW)
    roll_up(rolled)
    seen: list[str] = []
    after: tuple[datetime, str] | None = None
    while page := sessions_page(customer.organization_id, after, limit=2):
        seen += [line.session_id for line in page]
        after = (page[-1].last_seen, page[-1].session_id)
    assert seen == ["s8", "s1", "s0", "s3", "s2", "s5", "s4", "s7", "s6"]


# -- export


def test_exports_hold_every_request_once_and_no_formula(customer: Tenant, stranger: Tenant, monkeypatch):
    monkeypatch.setattr("credits.usage.export.BATCH", 3)
    use(stranger, NOW)
    ids = [use(customer, NOW - number // 4 * HOUR, session_id="=cmd()|1") for number in range(9)]
    rows = list(csv.DictReader(io.StringIO("".join(export_csv(customer.organization_id, MONTH)))))
    assert sorted(row["request_id"] for row in rows) == sorted(ids)
    assert {row["session_id"] for row in rows} == {"'=cmd()|1"}
    assert {(row["charge_nanos"], row["charge_usd"]) for row in rows} == {("10000", "0.000010000")}
    assert not {"cost", "margin"} & rows[0].keys()
    items = json.loads("".join(export_json(customer.organization_id, MONTH)))
    assert [item["request_id"] for item in items] == [row["request_id"] for row in rows]
    assert items[0]["charge_nanos"] == 10_000
    assert json.loads("".join(export_json(customer.organization_id, Span(NOW - DAY, NOW - DAY)))) == []


def test_an_export_holds_one_batch_in_memory(customer: Tenant, monkeypatch):
    monkeypatch.setattr("credits.usage.export.BATCH", 2)
    for number in range(6):
        use(customer, NOW - number * HOUR)
    lines = export_csv(customer.organization_id, MONTH)
    assert [next(lines).count("\r\n") for _ in range(4)] == [1, 2, 2, 2]
    tampered("UPDATE credits_usagerecord SET model = 'seen'")
    assert next(lines, None) is None
    assert UsageRecord.objects.count() == 6
