"""POST /api/v1/what-if: what recorded usage would have cost under another profile."""

from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema

from accounts.permissions import Permission
from adminui.api.auth import require
from adminui.api.errors import answers
from adminui.api.render import answer
from adminui.api.routing import ProfileIn
from adminui.catalogue import current_catalogue
from gateway.profiles import checked
from gateway.what_if import MOST_DAYS, WhatIf, what_if
from providers.profiles import profile_with

router = Router(tags=["Usage"])


class WhatIfIn(Schema, extra="forbid"):
    profile: ProfileIn
    days: int = Field(30, ge=1, le=MOST_DAYS)


class WhatIfOut(Schema):
    data: dict[str, Any]


@router.post("/what-if", summary="What usage would have cost under another profile", response=answers(WhatIfOut, 403))
async def price(request: HttpRequest, asked: WhatIfIn) -> HttpResponse:
    """`profile` stands in for the organisation's. Tokens stay as they were recorded; `unknown` says what cannot
    be known."""
    principal = await require(request, Permission.VIEW_USAGE)

    def priced() -> dict[str, Any]:
        catalogue = current_catalogue()
        profile = checked(profile_with(asked.profile.dict(exclude_none=True)), catalogue)
        now = timezone.now()
        found = what_if(principal.organization_id, profile, catalogue, now - timedelta(days=asked.days), now)
        return as_json(found)

    return answer({"data": await sync_to_async(priced)()})


def as_json(found: WhatIf) -> dict[str, Any]:
    """Amounts in US dollars, as exact numbers."""
    return {
        "since": found.since,
        "until": found.until,
        "requests": found.requests,
        "charged": found.usd(found.charged),
        "would_have_charged": found.usd(found.would),
        "saved": found.usd(found.charged - found.would),
        "changes": [
            {
                "route": each.route,
                "model": each.model,
                "would_route": each.would_route,
                "would_model": each.would_model,
                "requests": each.requests,
                "charged": found.usd(each.charged),
                "would_have_charged": found.usd(each.would),
            }
            for each in found.changes
        ],
        "unknown": [{"what": each.what, "requests": each.requests} for each in found.unknown],
    }
