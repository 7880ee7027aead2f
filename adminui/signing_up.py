"""How people become customers: allauth's rules, with our organisations, wallets, guards and mail."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as allauth_context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest

from accounts import disposable
from accounts.models import User
from adminui import mail, welcome
from credits.services import open_account
from providers import crypto


class Adapter(DefaultAccountAdapter):
    def is_open_for_signup(self, _request: HttpRequest) -> bool:
        return bool(settings.SIGN_UP)

    def clean_email(self, email: str) -> str:
        email = str(super().clean_email(email)).strip().lower()
        if disposable.is_disposable(email):
            raise ValidationError(
                "Addresses that are thrown away cannot sign up: balances and receipts must reach you. "
                "Please use a lasting one."
            )
        return email

    @transaction.atomic
    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """A new user with their personal organisation and its wallet."""
        user = super().save_user(request, user, form, commit=commit)
        if commit:
            open_account(email=user.email)
        return user

    def confirm_email(self, request: HttpRequest, email_address: Any) -> bool:
        confirmed: bool = super().confirm_email(request, email_address)
        if confirmed:
            welcome.greet(email_address.user, address=self.get_client_ip(request))
        return confirmed

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        request = allauth_context.request
        prepared: EmailMessage = self.render_mail(
            template_prefix, email, {"request": request, "email": email, "current_site": Site(), **context}
        )
        mail.send(list(prepared.to), str(prepared.subject), str(prepared.body))


class Site:
    """What allauth's mails call the site."""

    name = "CCM"

    @property
    def domain(self) -> str:
        return str(settings.PUBLIC_URL)


class MfaAdapter(DefaultMFAAdapter):
    """The secrets of authenticator apps and recovery codes are encrypted at rest, under CCM_ENCRYPTION_KEYS."""

    def encrypt(self, text: str) -> str:
        return crypto.encrypt(text)

    def decrypt(self, encrypted_text: str) -> str:
        return crypto.decrypt(encrypted_text)
