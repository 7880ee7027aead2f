"""The webhook: verified, stored, answered. Everything else is Celery's."""

import time

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError

from credits.payments import events, handlers
from credits.payments.signature import is_signed

log = structlog.get_logger("ccm.payments")

LARGEST_BODY = 512 * 1024


@csrf_exempt
@require_POST
def webhook(request: HttpRequest) -> HttpResponse:
    """200 once the event is stored, whether it is new or not; 400 for what Stripe did not sign, or not now; 404 where
    there is no secret to verify with; 503 when it could not be stored, so that Stripe tells it again."""
    if not settings.STRIPE.webhook_secrets:
        return _answer(404, "There is no webhook here: STRIPE_WEBHOOK_SECRET is not set.")
    if len(request.body) > LARGEST_BODY:
        return _answer(413, "No event of Stripe's is that large.")
    if not is_signed(
        request.body, request.headers.get("stripe-signature", ""), settings.STRIPE.webhook_secrets, time.time()
    ):
        log.warning("stripe_signature_refused")
        return _answer(400, "The signature is missing, wrong or old.")
    seen = events.parse(request.body)
    if seen is None:
        return _answer(400, "This is no event.")
    if seen.type not in handlers.HANDLERS:
        return _answer(200, "Ignored.")
    try:
        if events.store(seen, events.WEBHOOK):
            _enqueue(seen.id)
    except DatabaseError:
        log.exception("stripe_event_not_stored", event_id=seen.id)
        answer = _answer(503, "The event could not be stored. Tell it again.")
        answer["Retry-After"] = "30"
        return answer
    return _answer(200, "Stored.")


def _enqueue(event_id: str) -> None:
    """Without a broker the sweep finds it."""
    from credits.payments.tasks import handle_event

    try:
        handle_event.delay(event_id)
    except OperationalError:
        log.warning("stripe_event_not_enqueued", event_id=event_id)


def _answer(status: int, sentence: str) -> HttpResponse:
    return HttpResponse(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")
