"""The tables that are made from usage records (credits/models.py has the records themselves).

Sums are nanos, tokens, milliseconds and counts. Everything here but `UsageArchive` can be made
anew from the records at any time (`rollups.rebuild`).
"""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from accounts.models import ApiKey, Organization


class UsageSums(models.Model):
    """What a row adds up. The margin is `charge` - `cost`."""

    requests = models.BigIntegerField()
    errors = models.BigIntegerField(help_text="Requests with a status of 400 or more.")
    input_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    cache_write_1h_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    web_searches = models.BigIntegerField()
    charge = models.BigIntegerField()
    cost = models.BigIntegerField()
    total_ms = models.BigIntegerField()
    first_token_ms = models.BigIntegerField(help_text="Of the requests that had a first token.")
    first_tokens = models.BigIntegerField(help_text="How many requests had a first token.")

    class Meta:
        abstract = True

    @property
    def margin(self) -> int:
        return self.charge - self.cost


class RollupPeriod(models.TextChoices):
    HOUR = "hour", "Hour"
    DAY = "day", "Day"


class UsageRollup(UsageSums):
    """The usage of one hour or day (UTC) that one API key had of one model, provider and route.

    The hour or day that is running holds what was settled before `RollupProgress.rolled_until`."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="organisation"
    )
    period = models.CharField(max_length=4, choices=RollupPeriod.choices)
    starts_at = models.DateTimeField()
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="API key"
    )
    model = models.CharField(max_length=200)
    provider = models.CharField(max_length=120, blank=True)
    route = models.CharField(max_length=20, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("organization", "period", "starts_at", "api_key", "model", "provider", "route"),
                name="credits_rollup_once",
            ),
            models.CheckConstraint(condition=Q(period__in=RollupPeriod.values), name="credits_rollup_period"),
        )
        indexes = (models.Index(fields=("period", "starts_at"), name="credits_rollup_of_time"),)

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} {self.model}"


class PlatformDay(UsageSums):
    """The usage of all organisations on one day (UTC), by model and provider: the operators' rollup."""

    starts_at = models.DateTimeField()
    model = models.CharField(max_length=200)
    provider = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("starts_at", "model", "provider"), name="credits_platform_day_once"),
        )

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d} {self.model}"


class SessionSlice(UsageSums):
    """What one agent of a client's session used in one hour; `agent_id` is empty for the main thread."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="organisation"
    )
    session_id = models.CharField(max_length=128)
    starts_at = models.DateTimeField()
    agent_id = models.CharField(max_length=128, blank=True)
    parent_agent_id = models.CharField(max_length=128, blank=True)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("organization", "session_id", "starts_at", "agent_id"), name="credits_slice_once"
            ),
        )
        indexes = (models.Index(fields=("starts_at",), name="credits_slice_of_time"),)

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} {self.session_id}"


class UsageSession(UsageSums):
    """A client's session in all: the sum of its slices."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="organisation"
    )
    session_id = models.CharField(max_length=128)
    subagents = models.BigIntegerField()
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("organization", "session_id"), name="credits_session_once"),)
        indexes = (models.Index(fields=("organization", "-last_seen", "-session_id"), name="credits_session_newest"),)

    def __str__(self) -> str:
        return self.session_id


class RollupProgress(models.Model):
    """How far the rollups have come: one row. Whoever writes rollups takes the next `version` first,
    so that of two that read the records at once only one writes."""

    version = models.BigIntegerField(default=0)
    rolled_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(pk=1), name="credits_progress_single"),)

    def __str__(self) -> str:
        return f"rolled up until {self.rolled_until}"


class TargetPeriod(models.TextChoices):
    SLOT = "slot", "Five minutes"
    HOUR = "hour", "Hour"
    DAY = "day", "Day"


class TargetRow(models.Model):
    """Of the attempts at one provider's model that ended in these five minutes, this hour or this day
    (UTC). Slots are kept for hours, hours for days, and days, once they are over, for a week
    (`targets.py`)."""

    period = models.CharField(max_length=4, choices=TargetPeriod.choices)
    starts_at = models.DateTimeField()
    provider = models.CharField(max_length=120)
    model = models.CharField(max_length=200, help_text="The provider's own name for it.")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} {self.provider} {self.model}"


class TargetRollup(TargetRow):
    """How many attempts ended in one way, and what those that were answered streamed."""

    outcome = models.CharField(max_length=60, help_text="ok, unfinished, or the class of the error.")
    attempts = models.BigIntegerField()
    output_tokens = models.BigIntegerField(help_text="Of streamed answers.")
    stream_ms = models.BigIntegerField(help_text="From the first token to the end, of streamed answers.")

    class Meta:
        default_permissions = ("view",)
        verbose_name = "provider status"
        verbose_name_plural = "provider status"
        constraints = (
            models.UniqueConstraint(
                fields=("period", "starts_at", "provider", "model", "outcome"), name="credits_target_rollup_once"
            ),
        )


class TargetLatency(TargetRow):
    """How many answered attempts took so many milliseconds: a histogram, exact where there are few."""

    measure = models.CharField(max_length=12, help_text="first_token (of streams) or total, from its beginning.")
    ms = models.BigIntegerField()
    attempts = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=("period", "starts_at", "provider", "model", "measure", "ms"), name="credits_target_latency_once"
            ),
        )


class TargetProgress(models.Model):
    """How far the targets' rows have come: one row. As `RollupProgress`, whose lock it is likewise."""

    version = models.BigIntegerField(default=0)
    rolled_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()
        constraints = (models.CheckConstraint(condition=Q(pk=1), name="credits_target_progress_single"),)

    def __str__(self) -> str:
        return f"rolled up until {self.rolled_until}"


class UsageArchive(models.Model):
    """A file that holds an organisation's usage records of one month, written and read back before this
    row was made. Only records that such a row covers can be deleted (guards.py)."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, verbose_name="organisation"
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    path = models.CharField(max_length=200, help_text="Below CCM_DATA_DIR/archive.")
    records = models.BigIntegerField()
    charge = models.BigIntegerField()
    sha256 = models.CharField("SHA-256", max_length=64)
    created_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True, help_text="When the last of its records was deleted.")

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=("organization", "starts_at"), name="credits_archive_once"),
            models.CheckConstraint(condition=Q(records__gt=0, charge__gte=0), name="credits_archive_counts"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="credits_archive_span"),
        )

    def __str__(self) -> str:
        return self.path
