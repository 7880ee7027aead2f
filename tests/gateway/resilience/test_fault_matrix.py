"""Every fault, streamed or not, with a second target that is healthy, ill or absent: what the client
sees, whom CCM called, what was charged, and what is held against the target afterwards."""

import os
from collections.abc import Iterator

import pytest

from gateway.resilience.breaker import FAILURES_IN_A_ROW
from tests.gateway.resilience.faults import (
    CASES,
    HEALTHY_TEXT,
    INPUT_PRICE,
    OUTPUT_PRICE,
    Case,
    Range,
    Seen,
    fault_range,
)

UNHEALTHY_WAIT = 9


@pytest.fixture(scope="module")
def faults() -> Iterator[Range]:
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("the fault matrix runs on SQLite, whatever database the run is on")
    with fault_range(CASES) as made:
        yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_matrix(faults: Range, case: Case) -> None:
    fault = case.fault
    seen = faults.ask(case)
    first = [each for each in seen.record["attempts"] if each["provider"] == case.provider]
    second = [each for each in seen.record["attempts"] if each["provider"] == "second"]
    assert len(second) == seen.second_calls
    if not fault.address:
        assert len(first) == seen.first_calls

    if fault.served:
        assert len(first) == 1
        check_served(seen, case, tokens=(100, 20), provider=case.provider)
    elif case.second == "healthy" and not fault.ends:
        assert (len(first), len(second)) == (fault.calls_before_failover, 1)
        check_served(seen, case, tokens=(40, 8), provider="second")
        assert seen.headers["x-ccm-attempts"] == str(len(first) + 1)
        assert all(each["error"] for each in first)
    else:
        assert len(first) == fault.calls
        assert bool(second) == (case.second == "unhealthy" and not fault.ends)
        if fault.answered:
            check_broken_off(seen, case)
        else:
            check_refused(seen, case)
    assert seen.record["taken"] == seen.record["charge"] == seen.record["captured"]
    assert seen.record["state"] == ("captured" if seen.record["charge"] else "voided")
    assert not faults.breaker_is_open(case), "one request is no reason"


def check_served(seen: Seen, case: Case, *, tokens: tuple[int, int], provider: str) -> None:
    """The client cannot tell that anything went wrong."""
    assert seen.status == 200, seen.body
    assert seen.headers["x-ccm-provider"] == provider
    if case.streamed:
        names = [name for name, _ in seen.events]
        assert names.count("message_start") == names.count("message_stop") == 1
        assert names[-1] == "message_stop"
        assert "error" not in names
        if provider == "second":
            assert seen.text == HEALTHY_TEXT
    record = seen.record
    assert (record["input_tokens"], record["output_tokens"]) == tokens
    assert record["charge"] == tokens[0] * INPUT_PRICE + tokens[1] * OUTPUT_PRICE
    assert (record["status"], record["usage_source"], record["provider"]) == (200, "provider", provider)
    assert record["cost"] == record["charge"] // 3 + spent(record)


def spent(record: dict[str, object]) -> int:
    attempts = record["attempts"]
    assert isinstance(attempts, list)
    return sum(each.get("cost", 0) for each in attempts)


def check_broken_off(seen: Seen, case: Case) -> None:
    """Content was sent: the stream ends in an error event, what was sent is charged."""
    assert seen.status == 200
    name, data = seen.events[-1]
    assert (name, data["type"], data["error"]["type"]) == ("error", "error", case.fault.type)
    assert case.fault.says in data["error"]["message"]
    assert "message_stop" not in [name for name, _ in seen.events]
    record = seen.record
    assert record["input_tokens"] == 100
    assert 1 <= record["output_tokens"] <= 10
    assert record["charge"] == 100 * INPUT_PRICE + record["output_tokens"] * OUTPUT_PRICE
    assert record["usage_source"] == "provider_partial"
    assert record["cost"] == record["charge"] // 3


def check_refused(seen: Seen, case: Case) -> None:
    """An error with a status, in the documented envelope, free of charge."""
    fault = case.fault
    is_all_down = case.second == "unhealthy" and not fault.ends
    status, kind = (529, "overloaded_error") if is_all_down else (fault.status, fault.type)
    assert seen.status == status, seen.body
    error = seen.error
    assert error["type"] == kind
    assert seen.headers["content-type"] == "application/json"
    assert "secret-of" not in seen.body.decode()
    wait = fault.retry_after
    if is_all_down:
        assert "None of the model's providers can answer" in error["message"]
        wait = min(UNHEALTHY_WAIT, wait or UNHEALTHY_WAIT)
    else:
        assert fault.says in error["message"]
    assert seen.headers.get("retry-after") == (None if wait is None else str(wait))
    record = seen.record
    assert (record["charge"], record["status"]) == (0, status)
    assert record["cost"] == spent(record) if fault.calls != 1 else True


STAYS_CLOSED = ["400", "401", "402", "403", "404", "413", "422", "429-long"]
OPENS = ["refused", "500", "502-html", "529", "error-in-stream"]


def case_of(name: str, second: str, *, streamed: bool = True) -> Case:
    return next(
        case for case in CASES if case.fault.name == name and case.second == second and case.streamed is streamed
    )


@pytest.mark.parametrize("name", OPENS)
def test_a_target_that_keeps_failing_is_passed_over(faults: Range, name: str) -> None:
    case = case_of(name, "healthy")
    for _ in range(FAILURES_IN_A_ROW + 1):
        seen = faults.ask(case)
        assert seen.status == 200
        if faults.breaker_is_open(case):
            break
    passed = faults.ask(case)
    assert passed.status == 200
    assert [each["provider"] for each in passed.record["attempts"]] == ["second"]
    assert passed.headers["x-ccm-attempts"] == "1"


@pytest.mark.parametrize("name", STAYS_CLOSED)
def test_what_the_request_or_the_credential_is_at_fault_for_never_opens_a_breaker(faults: Range, name: str) -> None:
    case = case_of(name, "absent")
    for _ in range(FAILURES_IN_A_ROW + 2):
        faults.ask(case)
    assert not faults.breaker_is_open(case)


@pytest.mark.parametrize("name", ["401", "402", "403", "429-long"])
def test_a_credential_that_is_limited_or_refused_is_left_alone(faults: Range, name: str) -> None:
    case = case_of(name, "healthy")
    # It may be resting already when this test begins, and be asked again in the middle of it.
    seen = [faults.ask(case) for _ in range(3)]
    assert sum(each.first_calls for each in seen) <= 1
    assert ["second"] in [[each["provider"] for each in one.record["attempts"]] for one in seen]
    errors = [each["error"] for each in faults.cooling() if case.provider in each["error"]]
    assert errors


def test_a_limit_with_an_end_is_kept_and_told(faults: Range) -> None:
    case = case_of("429-long", "absent", streamed=False)
    faults.ask(case)
    seen = faults.ask(case)
    assert seen.first_calls == 0, "the provider said when to come back"
    assert (seen.status, seen.error["type"]) == (429, "rate_limit_error")
    assert 0 < int(seen.headers["retry-after"]) <= 45
    assert seen.record["charge"] == 0


def test_a_target_that_is_down_alone_is_still_asked_and_the_client_told_when_to_come_back(faults: Range) -> None:
    case = case_of("529", "absent")
    for _ in range(FAILURES_IN_A_ROW):
        seen = faults.ask(case)
    assert faults.breaker_is_open(case)
    seen = faults.ask(case)
    assert (seen.status, seen.error["type"]) == (529, "overloaded_error")
    assert 1 <= int(seen.headers["retry-after"]) <= 60
    assert seen.first_calls == 1, "a last resort, once"


def test_the_books_are_in_order_after_all_this(faults: Range) -> None:
    done = faults.ccm.run("reconcile")
    assert done.returncode == 0, done.stdout
