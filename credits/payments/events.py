"""The inbox of Stripe's events: each is stored once and handled by Celery. What no webhook told is found by reading
Stripe's own list."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, connection
from django.db.models import F, Q
from django.utils import timezone

from credits.errors import CreditsError
from credits.payments import handlers, reading
from credits.payments.client import is_on, stripe_api
from credits.payments.models import StripeEvent, StripeProgress, TopUp
from credits.payments.types import SeenEvent

log = structlog.get_logger("ccm.payments")

WEBHOOK, POLL = "webhook", "poll"
POLL_NAME = "events"
OVERLAP = timedelta(hours=1)
"""Events are read again from this long before the last reading: some appear late in the list."""
LOOK_BACK = timedelta(days=3)
"""How far the first reading goes back, which is how long Stripe repeats a webhook."""
FRESH = timedelta(minutes=2)
"""An event so new may still be on its way as a webhook."""
SWEEP_LIMIT = 100
FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(hours=1)


def parse(body: bytes) -> SeenEvent | None:
    """The event of a webhook's body; None for what is none, or is about something that is not handled."""
    try:
        found = json.loads(body)
        if not isinstance(found, Mapping) or found.get("object") != "event":
            return None
        seen = reading.event(found)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return None
    return seen


def store(seen: SeenEvent, source: str) -> bool:
    """Whether it is new (ON CONFLICT DO NOTHING: a duplicate is no error and takes no lock)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO credits_stripeevent (id, type, object_id, payload, source, created_at, received_at, outcome, "
            "attempts, error) VALUES (%s, %s, %s, %s, %s, %s, %s, '', 0, '') ON CONFLICT (id) DO NOTHING",
            (
                seen.id[:255],
                seen.type[:80],
                seen.object_id[:255],
                json.dumps(seen.payload),
                source,
                connection.ops.adapt_datetimefield_value(seen.created_at),
                connection.ops.adapt_datetimefield_value(timezone.now()),
            ),
        )
        return bool(cursor.rowcount == 1)


def handle(event_id: str) -> None:
    """Handle a stored event, unless that was done. What it does may be done twice. Raises what the handler raises."""
    event = StripeEvent.objects.filter(pk=event_id, handled_at=None).first()
    if event is None:
        return
    unhandled = StripeEvent.objects.filter(pk=event_id, handled_at=None)
    try:
        outcome = handlers.handle(event)
    except (CreditsError, DatabaseError, TopUp.DoesNotExist, KeyError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        unhandled.update(attempts=F("attempts") + 1, tried_at=timezone.now(), error=why)
        log.warning("stripe_event_not_handled", event_id=event_id, type=event.type, error=type(error).__name__)
        raise
    unhandled.update(handled_at=timezone.now(), outcome=outcome, attempts=F("attempts") + 1, error="")
    log.info("stripe_event_handled", event_id=event_id, type=event.type, outcome=outcome)


def sweep(now: datetime | None = None) -> int:
    """Try again what could not be handled, each after a longer pause, and what a lost task left; how many."""
    now = now or timezone.now()
    waiting = StripeEvent.objects.filter(handled_at=None).filter(
        Q(tried_at=None, received_at__lt=now - FIRST_PAUSE) | Q(tried_at__lt=now - FIRST_PAUSE)
    )
    handled = 0
    for event in waiting.order_by("received_at")[:SWEEP_LIMIT]:
        pause = min(FIRST_PAUSE * 2 ** min(event.attempts, 10), LONGEST_PAUSE)
        if event.tried_at is not None and event.tried_at > now - pause:
            continue
        try:
            handle(event.pk)
            handled += 1
        except Exception as error:
            log.info("stripe_event_waits", event_id=event.pk, error=type(error).__name__)
    return handled


def poll(now: datetime | None = None) -> int:
    """Read Stripe's list of events since the last reading, and store what no webhook has told; how many those were.
    Raises PaymentsUnavailable."""
    if not is_on():
        return 0
    now = now or timezone.now()
    progress = StripeProgress.objects.filter(pk=POLL_NAME).first()
    since = progress.read_to - OVERLAP if progress else now - LOOK_BACK
    found = [seen for seen in stripe_api().events(since, sorted(handlers.HANDLERS)) if seen.created_at <= now - FRESH]
    missed = sum(store(seen, POLL) for seen in sorted(found, key=lambda seen: seen.created_at))
    StripeProgress.objects.update_or_create(
        pk=POLL_NAME, defaults={"read_to": now, "read_at": now, "missed": missed if progress else 0}
    )
    if missed:
        log.warning("stripe_events_missed", count=missed)
    return missed
