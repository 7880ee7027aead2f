"""Between tokens and money: the estimate before, the reading after. Pure."""

import functools

from credits.money import ceil_div
from credits.rating import Rates
from credits.types import HoldRequest, MeterReading, PriceSnapshot, PriceTier, UsageSource
from providers.types import Model, Price, Usage

FEE_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
CHARS_PER_TOKEN = 4
"""For output whose tokens the provider did not tell: an English or code token has about four characters."""


@functools.lru_cache(maxsize=4096)
def price_snapshot(price: Price) -> PriceSnapshot:
    """The price as the ledger stores it: made once per price, not per request."""
    return PriceSnapshot(
        input=price.input,
        output=price.output,
        cache_read=price.cache_read,
        cache_write=price.cache_write,
        cache_write_1h=price.cache_write_1h,
        web_search=price.web_search,
        tiers=tuple(
            PriceTier(
                above=tier.above,
                input=tier.input,
                output=tier.output,
                cache_read=tier.cache_read,
                cache_write=tier.cache_write,
                cache_write_1h=tier.cache_write_1h,
            )
            for tier in price.tiers
        ),
    )


@functools.lru_cache(maxsize=4096)
def fee_snapshot(price: Price, basis_points: int, *, searches_are_ours: bool) -> PriceSnapshot:
    """What an organisation pays for the use of its own key: a share of the price, in hundredths of a
    percent, each rate rounded up. Web searches that CCM makes itself keep their price."""
    whole = price_snapshot(price)

    def share(rate: int) -> int:
        return ceil_div(rate * basis_points, 10_000)

    def scaled(rates: Rates) -> dict[str, int]:
        return {name: share(getattr(rates, name)) for name in FEE_RATES}

    return PriceSnapshot(
        **scaled(whole),
        web_search=whole.web_search if searches_are_ours else share(whole.web_search),
        tiers=tuple(PriceTier(above=tier.above, **scaled(tier)) for tier in whole.tiers),
    )


def affordable_output(model: Model, asked: int) -> int:
    """The output tokens to reserve for: what was asked, at most what the model can write."""
    return min(asked, model.max_output) if model.max_output else asked


def hold_request(
    *,
    request_id: str,
    organization_id: int,
    api_key_id: int,
    model: Model,
    price: Price,
    input_tokens: int,
    max_tokens: int,
    web_searches: int,
    context: dict[str, object],
) -> HoldRequest:
    return HoldRequest(
        request_id=request_id,
        organization_id=organization_id,
        api_key_id=api_key_id,
        model=model.name,
        price=price_snapshot(price),
        input_tokens=input_tokens,
        max_tokens=affordable_output(model, max_tokens),
        web_searches=web_searches,
        context=context,
    )


def final_reading(usage: Usage, *, output_chars: int, estimated_input: int, max_tokens: int) -> MeterReading:
    """The reading of an answer that came to its regular end. What the provider told is taken
    as it is, an explicit zero too; what it did not tell is counted, never taken as zero and never beyond
    what was reserved."""
    told = usage.output_tokens is not None and usage.input_tokens is not None
    return MeterReading(
        input=estimated_input if usage.input_tokens is None else usage.input_tokens,
        cache_read=usage.cache_read_tokens or 0,
        cache_write=usage.cache_write_tokens or 0,
        cache_write_1h=usage.cache_write_1h_tokens or 0,
        output=min(counted_output(output_chars), max_tokens) if usage.output_tokens is None else usage.output_tokens,
        reasoning=usage.reasoning_tokens or 0,
        web_searches=usage.web_searches,
        source=UsageSource.PROVIDER if told else UsageSource.COUNTED,
    )


def partial_reading(usage: Usage, *, output_chars: int, estimated_input: int, max_tokens: int) -> MeterReading:
    """The reading of an answer that was cut: the provider's input count where it told one,
    the output counted from what was decoded, never beyond what was reserved."""
    output = max(usage.output_tokens or 0, min(counted_output(output_chars), max_tokens))
    return MeterReading(
        input=estimated_input if usage.input_tokens is None else usage.input_tokens,
        cache_read=usage.cache_read_tokens or 0,
        cache_write=usage.cache_write_tokens or 0,
        cache_write_1h=usage.cache_write_1h_tokens or 0,
        output=output,
        reasoning=usage.reasoning_tokens or 0,
        web_searches=usage.web_searches,
        source=UsageSource.COUNTED if usage.input_tokens is None else UsageSource.PROVIDER_PARTIAL,
    )


def counted_output(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)
