"""What the resources have in common: pages, histories, exact amounts, and the model's own checks."""

from decimal import Decimal
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import models, transaction
from rest_framework import serializers
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.request import Request

from adminui.operators.errors import refused
from credits.money import nanos_to_usd, usd_to_nanos

LARGEST_ID = 2**63 - 1
IDS = r"[0-9]{1,18}"
"""What a number in an address looks like."""


class Pages(PageNumberPagination):
    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"


class NewestFirst(CursorPagination):
    """For tables that are too long to be counted."""

    page_size = 50
    max_page_size = 500
    page_size_query_param = "page_size"
    ordering = "-pk"


class Usd(serializers.DecimalField):
    """Nano-USD, told and taken as US dollars: exact, as text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=19, decimal_places=9, **options)

    def to_internal_value(self, data: Any) -> Any:
        return usd_to_nanos(super().to_internal_value(data))

    def to_representation(self, nanos: Any) -> str:
        return nanos_to_usd(nanos)


class AmountAboveZero(Usd):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def to_internal_value(self, data: Any) -> Any:
        nanos = super().to_internal_value(data)
        if nanos <= 0:
            raise serializers.ValidationError("An amount is more than zero.")
        return nanos


class CheckedSerializer(serializers.ModelSerializer):
    """Stores a row after the model's own checks, which the admin's forms make too."""

    def create(self, validated_data: dict[str, Any]) -> Any:
        return self.store(self.Meta.model(), validated_data)

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        return self.store(instance, validated_data)

    def store(self, row: models.Model, values: dict[str, Any]) -> models.Model:
        for name, value in values.items():
            setattr(row, name, value)
        try:
            row.full_clean()
        except DjangoValidationError as error:
            raise refused(error) from None
        row.save()
        return row


class Recorded:
    """Writes each change into the row's history, which its page in the admin shows."""

    request: Request

    def perform_create(self, serializer: Any) -> None:
        with transaction.atomic():
            self.record(serializer.save(), ADDITION)

    def perform_update(self, serializer: Any) -> None:
        with transaction.atomic():
            self.record(serializer.save(), CHANGE, ", ".join(serializer.validated_data))

    def perform_destroy(self, instance: models.Model) -> None:
        with transaction.atomic():
            self.record(instance, DELETION)
            instance.delete()

    def record(self, row: models.Model, flag: int, what: str = "") -> None:
        told = f"By the API. {what}".strip()
        LogEntry.objects.log_actions(self.request.user.pk, [row], flag, change_message=told, single_object=True)


def limit_fields() -> dict[str, Any]:
    """Options of the columns `limit_…`."""
    return {"allow_null": True, "required": False, "min_value": 0, "max_value": 2**31 - 1}


NOTHING = Decimal(0)
