"""What is charged for: told usage as it is, untold usage counted, nothing invented."""

from hypothesis import given
from hypothesis import strategies as st

from credits.types import UsageSource
from gateway.metering import affordable_output, counted_output, final_reading, partial_reading
from providers.types import Model, Price, Usage

counts = st.integers(min_value=0, max_value=10**7)
maybe = st.none() | counts


def test_an_explicit_zero_is_zero_and_a_missing_count_is_not() -> None:
    told = final_reading(Usage(input_tokens=0, output_tokens=0), output_chars=400, estimated_input=99, max_tokens=1000)
    assert (told.input, told.output, told.source) == (0, 0, UsageSource.PROVIDER)
    untold = final_reading(Usage(), output_chars=400, estimated_input=99, max_tokens=1000)
    assert (untold.input, untold.output, untold.source) == (99, 100, UsageSource.COUNTED)
    capped = final_reading(Usage(), output_chars=400, estimated_input=99, max_tokens=60)
    assert capped.output == 60, "what nobody told is never charged beyond what was reserved"


@given(maybe, maybe, maybe, maybe, counts, counts)
def test_told_classes_are_taken_as_they_are(
    input_: int | None, read: int | None, write: int | None, output: int | None, chars: int, estimate: int
) -> None:
    usage = Usage(input_tokens=input_, cache_read_tokens=read, cache_write_tokens=write, output_tokens=output)
    reading = final_reading(usage, output_chars=chars, estimated_input=estimate, max_tokens=10**8)
    assert reading.input == (estimate if input_ is None else input_)
    assert reading.output == (counted_output(chars) if output is None else output)
    assert (reading.cache_read, reading.cache_write) == (read or 0, write or 0)
    assert (reading.source is UsageSource.PROVIDER) == (input_ is not None and output is not None)


@given(maybe, maybe, counts, counts, st.integers(min_value=1, max_value=10**6))
def test_a_cut_answer_is_never_counted_beyond_what_was_reserved(
    input_: int | None, output: int | None, chars: int, estimate: int, max_tokens: int
) -> None:
    usage = Usage(input_tokens=input_, output_tokens=output)
    reading = partial_reading(usage, output_chars=chars, estimated_input=estimate, max_tokens=max_tokens)
    assert reading.output <= max(max_tokens, output or 0)
    assert reading.output >= min(counted_output(chars), max_tokens)
    assert reading.source in {UsageSource.PROVIDER_PARTIAL, UsageSource.COUNTED}


def test_no_more_output_is_reserved_than_the_model_can_write() -> None:
    price = Price(1, 1, 1, 1, 1)
    capped = Model(1, "m", "M", "", None, 8000, True, True, True, price, ())
    open_ = Model(1, "m", "M", "", None, None, True, True, True, price, ())
    assert affordable_output(capped, 128_000) == 8000
    assert affordable_output(capped, 100) == 100
    assert affordable_output(open_, 128_000) == 128_000
