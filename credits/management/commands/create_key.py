import secrets
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts.errors import AccountsError
from accounts.services import create_key
from credits.budgets import WINDOWS
from credits.errors import CreditsError, InvalidAmount
from credits.key_budgets import set_key_budget
from credits.money import format_usd, usd_to_nanos
from credits.services import grant, open_account
from credits.types import Nanos


class Command(BaseCommand):
    help = "Make an API key and print it, alone, on standard output; the user and organisation too if they are new."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--email", required=True, help="whose key it is")
        parser.add_argument("--org", default="", help="the organisation's name (default: the user's personal one)")
        parser.add_argument("--credits", default="", metavar="USD", help="credits to grant, e.g. 5 or 2.50; 0: none")
        parser.add_argument("--name", default="command line", help="the key's name")
        for window in WINDOWS:
            when = "in all" if window == "total" else f"per {window} (UTC)"
            parser.add_argument(f"--limit-{window}", default="", metavar="USD", help=f"what the key may spend {when}")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            amount = amount_of(options["credits"])
            limits = {window: usd_to_nanos(usd) for window in WINDOWS if (usd := options[f"limit_{window}"])}
            self.stdout.write(self._create(options["email"], options["org"], amount, options["name"], limits))
        except (AccountsError, CreditsError) as error:
            raise CommandError(str(error)) from None

    @transaction.atomic
    def _create(self, email: str, organization_name: str, amount: Nanos, name: str, limits: Mapping[str, Nanos]) -> str:
        account = open_account(email=email, organization_name=organization_name)
        if account.created:
            self.stderr.write(f"Created the user {account.user.email}.")
        if amount:
            reason, once = "manage.py create_key", secrets.token_hex(16)
            grant(account.organization.pk, amount, reason=reason, idempotency_key=once)
            self.stderr.write(f"Granted {format_usd(amount)} to {account.organization.name}.")
        key = create_key(organization=account.organization, name=name, created_by=account.user)
        if limits:
            set_key_budget(account.organization.pk, key.id, limits)
        return key.secret


def amount_of(usd: str) -> Nanos:
    """The credits to grant; none for "" and 0. Raises InvalidAmount."""
    nanos = usd_to_nanos(usd or 0)
    if nanos < 0:
        raise InvalidAmount(f"{usd!r} cannot be granted: give an amount of 0 or more.")
    return nanos
