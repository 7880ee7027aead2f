"""The gateway's work beside the requests."""

from celery import shared_task
from celery.schedules import crontab


@shared_task(name="gateway.delete_old_texts")
def delete_old_texts() -> None:
    from gateway.texts import delete_old

    delete_old()


BEAT_SCHEDULE = {
    "gateway.delete_old_texts": {
        "task": "gateway.delete_old_texts",
        "schedule": crontab(minute=37),
        "options": {"expires": 1800},
    }
}
