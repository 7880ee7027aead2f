"""Mail to people: text and the same as HTML, sent by the worker, which tries again when the server is away."""

import structlog
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from kombu.exceptions import OperationalError

from adminui import tasks

log = structlog.get_logger("ccm.mail")


def send(to: list[str], subject: str, text: str) -> None:
    """Send once the present transaction is committed; at once where there is none. Never raises: who signs up
    must not see a stack trace because a mail server is away."""
    transaction.on_commit(lambda: _hand_over(to, subject, text))


def send_template(to: list[str], template: str, context: dict[str, object]) -> None:
    """`mail/<template>.txt`, whose first line is the subject."""
    subject, _, text = render_to_string(f"mail/{template}.txt", context).strip().partition("\n")
    send(to, subject.strip(), text.strip())


def _hand_over(to: list[str], subject: str, text: str) -> None:
    try:
        tasks.send_mail.delay(to, subject, text)
    except OperationalError:  # no broker: the mail is worth a moment of waiting
        try:
            message(to, subject, text).send()
        except OSError as error:
            log.error("mail_not_sent", error=type(error).__name__)


def message(to: list[str], subject: str, text: str) -> EmailMultiAlternatives:
    mail = EmailMultiAlternatives(subject, text, to=to)
    mail.attach_alternative(render_to_string("mail/frame.html", {"subject": subject, "text": text}), "text/html")
    return mail
