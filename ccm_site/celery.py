"""The Celery app: everything that is not the request (architecture, decision 10)."""

import logging
import os

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ccm_site.settings")

app = Celery("ccm")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def schedule(sender: Celery, **_: object) -> None:
    """Beat's schedule: what each app wants done regularly."""
    from adminui.tasks import BEAT_SCHEDULE as OF_PAGES
    from credits.tasks import BEAT_SCHEDULE as OF_CREDITS
    from gateway.tasks import BEAT_SCHEDULE as OF_GATEWAY
    from providers.tasks import BEAT_SCHEDULE as OF_PROVIDERS

    sender.conf.beat_schedule = {**OF_CREDITS, **OF_PROVIDERS, **OF_GATEWAY, **OF_PAGES}


@signals.setup_logging.connect
def set_up_logging(**_: object) -> None:
    """The project's own logs instead of Celery's; that a task arrived is not worth a line beside its end."""
    from django.conf import settings

    from ccm_site.logs import configure

    configure(settings.LOGGING)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
