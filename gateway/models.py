"""The one thing that the gateway stores: the text of requests, for organisations that want it kept."""

from django.db import models
from django.utils import timezone

from accounts.models import Organization


class RequestText(models.Model):
    """A request and its answer, compressed and encrypted (`texts.py`). Deleted after TEXT_RETENTION_DAYS, and at once
    when the organisation switches prompt logging off."""

    request_id = models.CharField("request ID", primary_key=True, max_length=64)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    created_at = models.DateTimeField(default=timezone.now)
    sealed = models.TextField()

    class Meta:
        indexes = (
            models.Index(fields=("organization", "request_id"), name="gateway_text_of_org"),
            models.Index(fields=("created_at",), name="gateway_text_by_age"),
        )

    def __str__(self) -> str:
        return self.request_id
