"""The windows of a key's budget, against sums over every charge ever made."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from credits.budgets import WINDOWS, Budget, resets_at, starts

charges = st.lists(
    st.tuples(st.integers(min_value=0, max_value=40 * 24), st.integers(min_value=0, max_value=1000)), max_size=30
)
days = st.dates(min_value=date(2024, 1, 1), max_value=date(2030, 12, 31))


@given(days, charges)
def test_what_was_spent_in_each_window_is_the_sum_of_its_charges(first: date, hours_and_charges):
    now = datetime(first.year, first.month, first.day, 23, 59, tzinfo=UTC)
    budget = Budget(1, (None,) * 4, (0,) * 4, 0, now.date())
    made = []
    for hours, charge in hours_and_charges:
        now += timedelta(hours=hours)
        budget.roll(now)
        budget.reserve(charge)
        budget.settle(charge, charge)
        made.append((now.date(), charge))
    begin = starts(now.date())
    assert budget.held == 0
    assert dict(zip(WINDOWS, budget.spent, strict=True)) == {
        window: sum(charge for on, charge in made if on >= begin[window]) for window in WINDOWS
    }


@given(days)
def test_a_window_ends_where_the_next_one_begins(on: date):
    for window in ("day", "week", "month"):
        end = resets_at(window, on)
        assert end is not None
        assert end.date() > on
        assert starts(end.date())[window] == end.date()
        assert starts(end.date() - timedelta(days=1))[window] == starts(on)[window]
    assert resets_at("total", on) is None


def test_the_tightest_limit_binds():
    monday = date(2026, 11, 23)
    budget = Budget(1, (1000, 300, None, 350), (100, 50, 60, 90), 10, monday)
    binding = budget.binding()
    assert binding is not None
    assert (binding.window, binding.limit, binding.room) == ("day", 300, 240)
    assert binding.resets_at == datetime(2026, 11, 24, tzinfo=UTC)
    assert Budget(1, (None,) * 4, (5,) * 4, 0, monday).binding() is None


def test_a_clock_that_went_back_gives_nothing_back():
    budget = Budget(1, (None,) * 4, (5,) * 4, 0, date(2026, 11, 23))
    budget.roll(datetime(2026, 10, 1, tzinfo=UTC))
    assert (budget.spent, budget.spent_on) == ((5,) * 4, date(2026, 11, 23))
