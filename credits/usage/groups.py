"""An organisation's requests, gathered by what another route would have depended on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Case, CharField, Count, F, IntegerField, Sum, TextField, Value, When
from django.db.models.functions import Cast, Substr

from credits.models import UsageRecord
from credits.types import MeterReading

REF_LENGTH = 32


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """Requests that are alike. `ref` names their explanation ("": recorded before there were any).
    `bucket` counts the edges that their input is longer than. `api_key_id` is set for the keys that were
    asked to be kept apart. `tokens` are sums; `charge` is nanos."""

    ref: str
    route: str
    model: str
    requested_model: str
    api_key_id: int
    bucket: int
    requests: int
    tokens: MeterReading
    charge: int


def usage_groups(
    organization_id: int,
    since: datetime,
    until: datetime,
    *,
    edges: Sequence[int] = (),
    keys_apart: Collection[int] = (),
) -> list[UsageGroup]:
    """One query, however many requests there are. `edges` are numbers of input tokens, ascending."""
    records = UsageRecord.objects.filter(organization_id=organization_id, created_at__gte=since, created_at__lt=until)
    total = F("input_tokens") + F("cache_read_tokens") + F("cache_write_tokens") + F("cache_write_1h_tokens")
    why = Cast("why", TextField())
    rows = (
        records.order_by()
        .annotate(total=total, why_text=why)
        .annotate(
            ref=Case(
                When(why_text__startswith='"', then=Substr("why_text", 2, REF_LENGTH)),
                default=Value(""),
                output_field=CharField(),
            ),
            bucket=Case(
                *(When(total__lte=edge, then=Value(number)) for number, edge in enumerate(edges)),
                default=Value(len(edges)),
                output_field=IntegerField(),
            ),
            key=Case(
                When(api_key_id__in=list(keys_apart), then=F("api_key_id")),
                default=Value(0),
                output_field=IntegerField(),
            )
            if keys_apart
            else Value(0),
        )
        .values("ref", "route", "model", "requested_model", "key", "bucket")
        .annotate(
            requests=Count("*"),
            input=Sum("input_tokens"),
            cache_read=Sum("cache_read_tokens"),
            cache_write=Sum("cache_write_tokens"),
            cache_write_1h=Sum("cache_write_1h_tokens"),
            output=Sum("output_tokens"),
            searches=Sum("web_searches"),
            charged=Sum("charge"),
        )
    )
    return [
        UsageGroup(
            ref=row["ref"],
            route=row["route"],
            model=row["model"],
            requested_model=row["requested_model"],
            api_key_id=row["key"],
            bucket=row["bucket"],
            requests=row["requests"],
            tokens=MeterReading(
                input=int(row["input"]),
                cache_read=int(row["cache_read"]),
                cache_write=int(row["cache_write"]),
                cache_write_1h=int(row["cache_write_1h"]),
                output=int(row["output"]),
                web_searches=int(row["searches"]),
            ),
            charge=int(row["charged"]),
        )
        for row in rows
    ]
