"""The pages' work beside the requests."""

from smtplib import SMTPException

from celery import shared_task


@shared_task(
    name="adminui.send_mail",
    autoretry_for=(SMTPException, OSError),
    retry_backoff=10,
    retry_backoff_max=600,
    max_retries=8,
)
def send_mail(to: list[str], subject: str, text: str) -> None:
    from adminui.mail import message

    message(to, subject, text).send()
