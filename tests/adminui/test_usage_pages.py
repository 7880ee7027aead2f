"""The usage pages: sums, charts, single requests, sessions, exports; each tenant's own."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Membership, Organization, User
from accounts.roles import Role
from adminui.usage_chart import OTHERS, chart
from credits.models import UsageRecord
from credits.usage import rollups
from credits.usage.selectors import By
from credits.usage.types import Span, Sums

pytestmark = pytest.mark.django_db
SignedIn = Callable[[User], Client]
Usage = Callable[..., None]


@pytest.fixture
def used(organization: Organization, stranger: User, usage: Usage) -> Organization:
    for model, charge in (("big", 3_000_000_000), ("small", 250_000_000), ("big", 1_000_000_000)):
        usage(organization, model=model, charge=charge, cost=123_456_789)
    usage(stranger.personal_organization, model="theirs", charge=9_000_000_000)
    return organization


def ids(organization: Organization) -> list[str]:
    return list(UsageRecord.objects.filter(organization=organization).values_list("request_id", flat=True))


def chart_of(page: str) -> dict:
    attribute = page.split('data-chart="', 1)[1].split('"', 1)[0]
    return json.loads(unescape(attribute))


def test_sums_are_by_model_with_a_chart_and_never_another_tenants(
    customer: User, used: Organization, signed_in: SignedIn
):
    for _ in range(2):  # from the records, then from rollups
        page = signed_in(customer).get(reverse("usage")).content.decode()
        assert page.index("$4.00") < page.index("$0.25")
        assert "$4.25" in page
        assert "theirs" not in page
        assert "123456789" not in page
        drawn = chart_of(page)
        assert [series["name"] for series in drawn["series"]] == ["big", "small"]
        assert drawn["series"][0]["values"][-1] == "4.000000000"
        assert len(drawn["times"]) == 30
        rollups.roll_up(timezone.now() + timedelta(minutes=5))


@pytest.mark.parametrize("span", ["24h", "7d", "30d", "90d", "month"])
@pytest.mark.parametrize("by", ["model", "route", "provider", "key", "member"])
def test_every_time_and_group_adds_up_to_the_same(
    customer: User, used: Organization, signed_in: SignedIn, span: str, by: str
):
    page = signed_in(customer).get(reverse("usage"), {"span": span, "by": by}).content.decode()
    assert page.count("$4.25") >= 2


def test_filters_narrow_and_can_be_taken_away(customer: User, used: Organization, signed_in: SignedIn):
    page = signed_in(customer).get(reverse("usage"), {"model": "small"}).content.decode()
    assert "$0.25" in page
    assert "$4.25" not in page
    assert "model: small" in page
    assert 'href="?span=30d&amp;by=model"' in page


@pytest.mark.parametrize("asked", [{"span": "1y"}, {"by": "colour"}, {"key": "x"}, {"model": "a\0b"}])
def test_what_the_pages_do_not_link_to_is_not_there(customer: User, signed_in: SignedIn, asked: dict[str, str]):
    assert signed_in(customer).get(reverse("usage"), asked).status_code == 404


def test_requests_come_page_by_page(
    customer: User, used: Organization, signed_in: SignedIn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adminui.views.usage.PAGE", 2)
    client = signed_in(customer)
    first = client.get(reverse("usage-requests")).content.decode()
    seen = [request_id for request_id in ids(used) if request_id in first]
    assert len(seen) == 2
    older = unescape(first.split(">Older<")[0].rsplit('href="', 1)[1].split('"')[0])
    second = client.get(reverse("usage-requests") + older).content.decode()
    assert {request_id for request_id in ids(used) if request_id in second} == set(ids(used)) - set(seen)
    assert "Older" not in second
    assert client.get(reverse("usage-requests"), {"after": "nonsense"}).status_code == 404


def test_a_request_shows_how_its_charge_came_about(customer: User, used: Organization, signed_in: SignedIn):
    request_id = ids(used)[0]
    page = signed_in(customer).get(reverse("usage-request", args=[request_id])).content.decode()
    assert request_id in page
    assert "1,234" in page
    assert "What was charged" in page
    assert "background" in page


def test_another_tenants_request_and_session_are_not_there(
    customer: User, used: Organization, stranger: User, signed_in: SignedIn
):
    client = signed_in(customer)
    theirs = ids(stranger.personal_organization)[0]
    assert client.get(reverse("usage-request", args=[theirs])).status_code == 404
    assert client.get(reverse("usage-session", args=["theirs"])).status_code == 404
    assert theirs not in client.get(reverse("usage-requests")).content.decode()


async def exported(user: User, form: str) -> tuple[dict[str, str], str]:
    client = AsyncClient()
    await client.aforce_login(user)
    answer = await client.get(reverse("usage-export", args=[form]))
    return dict(answer.headers), b"".join([part async for part in answer.streaming_content]).decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.asyncio
@pytest.mark.parametrize("form", ["csv", "json"])
async def test_an_export_has_every_request_of_the_tenant_alone(
    customer: User, used: Organization, form: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("credits.usage.export.BATCH", 2)
    headers, text = await exported(customer, form)
    rows = json.loads(text) if form == "json" else list(csv.DictReader(io.StringIO(text)))
    assert sorted(row["request_id"] for row in rows) == ["req_1", "req_2", "req_3"]
    assert {row["model"] for row in rows} == {"big", "small"}
    assert sum(int(row["charge_nanos"]) for row in rows) == 4_250_000_000
    assert headers["Content-Disposition"].endswith(f'.{form}"')


def test_there_is_no_other_export(customer: User, signed_in: SignedIn):
    assert signed_in(customer).get("/usage/export.xml").status_code == 404


def test_sessions_are_listed_with_their_agents(organization: Organization, customer: User, signed_in: SignedIn, usage):
    usage(organization, model="main-model", charge=500_000_000)
    usage(organization, model="sub-model", charge=250_000_000)
    first, second = UsageRecord.objects.order_by("request_id")
    for record, agent in ((first, ""), (second, "agent-7")):
        copy(record, session_id="one/two", agent_id=agent)
    client = signed_in(customer)
    page = client.get(reverse("usage-sessions")).content.decode()
    assert "one/two" in page
    assert "$0.75" in page
    session = client.get(reverse("usage-session", args=["one/two"])).content.decode()
    assert "Main thread" in session
    assert "agent-7" in session
    assert session.count("$0.75") >= 2


def copy(record: UsageRecord, **changed: str) -> None:
    """A record of another session: records do not change."""
    values = {field.attname: getattr(record, field.attname) for field in UsageRecord._meta.fields}
    UsageRecord.objects.create(
        **values | changed | {"request_id": f"{record.request_id}-{changed['agent_id'] or 'main'}"}
    )


def test_everybody_of_the_organisation_sees_its_usage(member: User, used: Organization, signed_in: SignedIn):
    for role in Role.values:
        Membership.objects.filter(user=member).update(role=role)
        assert "$4.25" in signed_in(member).get(reverse("usage")).content.decode()


def test_visitors_are_sent_to_sign_in(client: Client):
    for name in ("usage", "usage-requests", "usage-sessions"):
        assert client.get(reverse(name))["Location"].startswith(reverse("sign-in"))


def test_a_chart_keeps_the_dearest_apart_and_adds_up_the_rest():
    day = datetime(2026, 5, 4, tzinfo=UTC)
    span = Span(day, day + timedelta(days=2))
    series = {(day, f"model-{number}"): Sums(charge=number * 10**9) for number in range(1, 9)}
    drawn = chart(series, span, By.DAY, {"model-8": "Eight"})
    assert [each["name"] for each in drawn["series"]] == [
        "Eight", "model-7", "model-6", "model-5", "model-4", OTHERS,
    ]  # fmt: skip
    assert drawn["series"][-1]["values"] == ["6.000000000", "0.000000000"]
    assert drawn["times"] == [int(day.timestamp()), int(day.timestamp()) + 86_400]
