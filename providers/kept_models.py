"""What is kept beside the catalogue for a time: health probes, and uploads that wait for confirmation.

A change of these rows is no change of the catalogue.
"""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class HealthProbe(models.Model):
    """What one health probe of a provider found (`health_probes`). Kept for days; no part of the catalogue."""

    provider = models.ForeignKey(
        "providers.Provider", on_delete=models.CASCADE, related_name="health_probes", db_index=False
    )
    at = models.DateTimeField()
    ok = models.BooleanField()
    error = models.CharField(max_length=60, blank=True, help_text="The class of the error.")
    status = models.PositiveSmallIntegerField(null=True, help_text="The provider's HTTP status, if it answered.")
    milliseconds = models.PositiveIntegerField()
    free = models.BooleanField(help_text="It asked for the list of models, which costs nothing.")

    class Meta:
        default_permissions = ("view",)
        ordering = ("-at",)
        indexes = (
            models.Index(fields=("provider", "-at"), name="providers_probes_of_provider"),
            models.Index(fields=("at",), name="providers_probes_of_time"),
        )

    def __str__(self) -> str:
        return f"{self.provider} {self.at:%Y-%m-%d %H:%M}"


class ProbeSchedule(models.Model):
    """When a provider is to be probed next. Not on the provider, whose every change is one of the catalogue."""

    provider = models.OneToOneField("providers.Provider", primary_key=True, on_delete=models.CASCADE, related_name="+")
    due_at = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.provider} at {self.due_at:%Y-%m-%d %H:%M}"


class StagedImport(models.Model):
    """A configuration file that an operator has uploaded and not confirmed yet (`staged_imports`).
    Encrypted, since it may hold secrets; it goes when it is confirmed, or with time."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    file_name = models.CharField(max_length=120)
    sealed = models.TextField(editable=False)

    class Meta:
        default_permissions = ()
        ordering = ("created_at",)

    def __str__(self) -> str:
        return self.file_name
