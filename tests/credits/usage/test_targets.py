"""How providers' models have answered: the figures are those of hand-made records, to the last one."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from credits import tasks
from credits.models import TargetLatency, TargetProgress, TargetRollup
from credits.usage import targets
from credits.usage.rollups import GRACE
from credits.usage.target_status import Answering, Percentiles, Window, answered
from credits.usage.targets import roll_up, slot_of
from tests.credits.support import Tenant, new_tenant
from tests.credits.usage.support import NOW, use

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LATER = NOW + GRACE + MINUTE


def attempt(ms: int, error: str = "", *, provider: str = "p", model: str = "a") -> dict[str, Any]:
    return {"provider": provider, "model": model, "mapping": 1, "ms": ms, **({"error": error} if error else {})}


def served(tenant: Tenant, minutes: int = 0, *attempts: dict[str, Any], tokens: int = 10, **facts: Any) -> None:
    """A request that ended `minutes` before NOW, streamed unless told otherwise. CCM itself took 7 ms."""
    took = 7 + sum(each.get("ms", 0) for each in attempts)
    if facts.get("first_token_ms") is not None:
        facts["first_token_ms"] += 7
    known = {"streamed": True, "attempts": attempts, "total_ms": took, **facts}
    use(tenant, NOW - minutes * MINUTE, tokens=tokens, **known)


def target(window: Window = Window.HOUR, provider: str = "p", model: str = "a") -> Answering:
    return answered(window, LATER).targets[provider, model]


def rows() -> list[dict[str, Any]]:
    found = [*TargetRollup.objects.values(), *TargetLatency.objects.values()]
    return sorted(({name: value for name, value in row.items() if name != "id"} for row in found), key=str)


def test_an_answer_is_ok_with_its_own_latencies_and_throughput(customer: Tenant):
    served(customer, 0, attempt(2000), first_token_ms=400, tokens=80)
    served(customer, 0, attempt(1000), first_token_ms=600, tokens=20)
    roll_up(LATER)
    found = target()
    assert (found.attempts, found.ok, found.failed, found.uptime) == (2, 2, 0, 1.0)
    assert found.first_token == Percentiles(400, 600, 600)
    assert found.total == Percentiles(1000, 2000, 2000)
    assert (found.output_tokens, found.stream_ms) == (100, 2000)
    assert found.tokens_per_second == 50


def test_a_failure_counts_for_its_own_target_and_its_time_for_nobody_elses(customer: Tenant):
    served(
        customer,
        0,
        attempt(700, "overloaded_error"),
        attempt(300, "overloaded_error"),
        attempt(2000, provider="q", model="b"),
        first_token_ms=1500,
    )
    roll_up(LATER)
    broken, other = target(), target(provider="q", model="b")
    assert (broken.ok, broken.failed, broken.errors, broken.uptime) == (0, 2, {"overloaded_error": 2}, 0.0)
    assert (broken.first_token, broken.total, broken.tokens_per_second) == (None, None, None)
    assert (other.ok, other.uptime) == (1, 1.0)
    assert other.first_token == Percentiles(500, 500, 500)
    assert other.total == Percentiles(2000, 2000, 2000)


def test_what_tells_nothing_about_the_provider_is_not_counted_for_its_uptime(customer: Tenant):
    served(customer, 0, attempt(10, "invalid_request_error"), status=400)
    served(customer, 0, attempt(10, "request_too_large") | {"status": 413}, status=413)
    served(customer, 0, attempt(900), status=499)
    served(customer, 0, status=402)
    roll_up(LATER)
    found = target()
    assert (found.attempts, found.refused, found.unfinished, found.failed) == (3, 2, 1, 0)
    assert found.uptime is None
    served(customer, 0, attempt(800), status=499, first_token_ms=100)
    served(customer, 0, attempt(400, "api_error") | {"status": 401}, status=502)
    served(customer, 0, attempt(400, "api_error") | {"status": None}, attempt(10), status=200)
    roll_up(LATER + MINUTE)
    found = target()
    assert found.errors == {"invalid_request_error": 1, "request_too_large 413": 1, "api_error 401": 1, "api_error": 1}
    assert (found.ok, found.failed, found.uptime) == (2, 2, 0.5)


def test_an_answer_that_was_not_streamed_has_no_first_token_and_no_throughput(customer: Tenant):
    served(customer, 0, attempt(2000), first_token_ms=1999, streamed=False)
    roll_up(LATER)
    found = target()
    assert (found.first_token, found.total) == (None, Percentiles(2000, 2000, 2000))
    assert found.tokens_per_second is None


def test_percentiles_of_a_small_set_are_exact(customer: Tenant):
    """By nearest rank, over two targets of a provider and several hours."""
    drawn = random.Random(7)
    values = {model: [drawn.randint(1, 90_000) for _ in range(37)] for model in ("a", "b")}
    for model, all_ms in values.items():
        for place, ms in enumerate(all_ms):
            served(customer, place % 4 * 61, attempt(ms, model=model), first_token_ms=ms // 3)
    roll_up(LATER)
    for model, all_ms in values.items():
        day = target(Window.DAY, model=model)
        assert day.total == ranked(all_ms)
        assert day.first_token == ranked([ms // 3 for ms in all_ms])
        recent = [ms for place, ms in enumerate(all_ms) if place % 4 == 0]
        assert target(Window.HOUR, model=model).total == ranked(recent)
    both = answered(Window.WEEK, LATER).providers["p"]
    assert both.total == ranked([*values["a"], *values["b"]])
    assert both.ok == 74


def ranked(values: list[int]) -> Percentiles:
    ordered = sorted(values)
    return Percentiles(*(ordered[-(-len(ordered) * rank // 100) - 1] for rank in (50, 90, 99)))


def test_latencies_of_many_answers_are_rounded_a_little(customer: Tenant, monkeypatch):
    monkeypatch.setattr(targets, "EXACT", 5)
    drawn = random.Random(8)
    values = [int(10 ** drawn.uniform(0, 5.5)) for _ in range(40)]
    for ms in values:
        served(customer, 0, attempt(ms))
    roll_up(LATER)
    found, exact = target(Window.DAY).total, ranked(values)
    assert found is not None
    for rank in ("p50", "p90", "p99"):
        assert abs(getattr(found, rank) - getattr(exact, rank)) <= 0.032 * getattr(exact, rank)
    assert sum(TargetLatency.objects.filter(period="hour").values_list("attempts", flat=True)) == 40


def test_each_window_holds_what_belongs_to_it(customer: Tenant):
    for minutes in (0, 50, 70, 22 * 60, 25 * 60, 6 * 24 * 60, 8 * 24 * 60, 12 * 24 * 60):
        served(customer, minutes, attempt(minutes + 1))
    roll_up(LATER)
    assert [target(window).ok for window in Window] == [2, 4, 6]
    assert target(Window.WEEK).total == Percentiles(71, 8641, 8641)
    hour = answered(Window.HOUR, LATER)
    assert hour.since == slot_of(LATER) - 55 * MINUTE
    assert hour.until == LATER - GRACE


def test_without_requests_there_is_nothing_and_no_error(db: None):
    nothing = answered(Window.HOUR, LATER)
    assert (nothing.until, nothing.providers, nothing.targets) == (None, {}, {})
    roll_up(LATER)
    assert answered(Window.WEEK, LATER).providers == {}
    assert Answering().uptime is None


def test_tenants_are_added_up_and_none_is_named(customer: Tenant):
    served(customer, 0, attempt(100))
    served(new_tenant(10**9), 0, attempt(300))
    roll_up(LATER)
    assert target().total == Percentiles(100, 300, 300)
    columns = {field.name for model in (TargetRollup, TargetLatency) for field in model._meta.fields}
    assert columns & {"organization", "api_key", "session_id", "request_id"} == set()


def test_rolling_up_step_by_step_again_or_anew_is_the_same(customer: Tenant):
    drawn = random.Random(9)
    for minutes in range(0, 1400, 19):
        error = drawn.choice(["", "", "rate_limit_error"])
        served(customer, minutes, attempt(drawn.randint(1, 5000), error), first_token_ms=None if error else 1)
    roll_up(LATER)
    at_once = [row for row in rows() if row["period"] != "slot"]
    TargetProgress.objects.all().delete()
    TargetRollup.objects.all().delete()
    TargetLatency.objects.all().delete()
    for minutes in range(1400, -1, -47):
        roll_up(LATER - minutes * MINUTE)
    assert roll_up(LATER) in {0, 1}
    assert [row for row in rows() if row["period"] != "slot"] == at_once
    before = rows()
    assert roll_up(LATER) == 0
    targets.rebuild(LATER)
    assert rows() == before


def test_a_record_that_comes_late_is_counted(customer: Tenant):
    served(customer, 3, attempt(100))
    roll_up(LATER)
    served(customer, 4, attempt(200))  # its transaction took long
    roll_up(LATER + 2 * MINUTE)
    assert target().total == Percentiles(100, 200, 200)


def test_what_is_too_old_is_dropped(customer: Tenant):
    served(customer, 0, attempt(100))
    roll_up(LATER)
    assert Counter(TargetRollup.objects.values_list("period", flat=True)) == {"slot": 1, "hour": 1}
    roll_up(LATER + 5 * HOUR)
    assert Counter(TargetRollup.objects.values_list("period", flat=True)) == {"hour": 1}
    roll_up(LATER + timedelta(days=4))
    assert Counter(TargetRollup.objects.values_list("period", flat=True)) == {"day": 1}
    assert answered(Window.WEEK, LATER + timedelta(days=4)).targets["p", "a"].total == Percentiles(100, 100, 100)
    roll_up(LATER + timedelta(days=10))
    assert not TargetRollup.objects.exists()
    assert not TargetLatency.objects.exists()


def test_of_two_that_have_read_at_once_only_the_first_writes(customer: Tenant):
    served(customer, 0, attempt(100))
    state = targets.progress()
    first, second = (targets.read(state.version, NOW - HOUR, NOW + MINUTE) for _ in range(2))
    assert targets.write(first, rolled_until=NOW + MINUTE)
    assert not targets.write(second, rolled_until=NOW + MINUTE)
    assert TargetRollup.objects.filter(period="slot").get().attempts == 1


def test_records_of_every_form_are_read(customer: Tenant):
    """Attempts without times, of a process that died, and none at all."""
    served(customer, 0, {"provider": "p", "model": "a"}, status=500)
    served(customer, 0, {"provider": "p", "model": "a"}, first_token_ms=5)
    served(customer, 0, {"why": "no provider"})
    roll_up(LATER)
    found = target()
    assert (found.unfinished, found.ok, found.total, found.stream_ms) == (1, 1, None, 0)
    assert found.first_token is None


def test_the_task_and_the_command_make_them(customer: Tenant):
    tasks.roll_up_targets()
    assert TargetProgress.objects.get().rolled_until is not None
    call_command("rebuild_rollups")
    assert TargetProgress.objects.get().version > 1
    assert "credits.roll_up_targets" in tasks.BEAT_SCHEDULE


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="the plan is PostgreSQL's")
def test_the_read_goes_by_the_index(customer: Tenant):
    for minutes in range(0, 300, 3):
        served(customer, minutes, attempt(100))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + targets._attempts(), [NOW - HOUR, NOW])
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "credits_usage_of_org" in plan
    assert "Seq Scan on credits_usagerecord" not in plan
