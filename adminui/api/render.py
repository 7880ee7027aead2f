"""JSON as the gateway writes it: amounts are exact numbers, times are RFC 3339."""

from decimal import Decimal
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja.renderers import BaseRenderer

_encode = msgspec.json.Encoder(decimal_format="number").encode


class JsonRenderer(BaseRenderer):
    media_type = "application/json"

    def render(self, request: HttpRequest, data: Any, *, response_status: int) -> bytes:  # noqa: ARG002 - ninja's
        return _encode(data)


def usd(nanos: int) -> Decimal:
    """Exact US dollars."""
    return Decimal(nanos).scaleb(-9)


def answer(data: Any, status: int = 200) -> HttpResponse:
    """For answers that hold what pydantic does not know, such as JSON as it is."""
    response = HttpResponse(_encode(data), content_type="application/json", status=status)
    response["Cache-Control"] = "private, no-store"
    return response
