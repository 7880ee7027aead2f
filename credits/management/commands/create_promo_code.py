from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from credits import promos
from credits.entries import DEFAULT_PRIORITY
from credits.errors import CreditsError
from credits.money import usd_to_nanos


class Command(BaseCommand):
    help = "Make promo codes and print them, one a line."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--amount", required=True, metavar="USD", help="what each code gives, e.g. 5 or 2.50")
        parser.add_argument("--code", default="", help="the code's words, e.g. WELCOME (default: drawn at random)")
        parser.add_argument("--count", type=int, default=1, help="how many random codes (default: 1)")
        parser.add_argument(
            "--max-redemptions", type=int, default=1, metavar="N",
            help="how many organisations may redeem each code; 0: any number, each once (default: 1)",
        )  # fmt: skip
        parser.add_argument(
            "--expires-in-days", type=int, default=settings.PROMO_EXPIRY_DAYS, metavar="DAYS",
            help="how long the credits last; 0: for ever (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--valid-from", metavar="TIME", help="ISO 8601, UTC unless it says otherwise (default: now)"
        )
        parser.add_argument("--valid-until", metavar="TIME", help="ISO 8601; the code is refused from then on")
        parser.add_argument("--priority", type=int, default=DEFAULT_PRIORITY, help="lower is used first (%(default)s)")
        parser.add_argument("--note", default="", help="what it is for; customers do not see it")

    def handle(self, *_args: Any, **options: Any) -> None:
        if options["code"] and options["count"] != 1:
            raise CommandError("--code makes one code: leave --count away.")
        try:
            terms = terms_of(options)
            if options["code"]:
                codes = [promos.create_code(options["code"], terms).code]
            else:
                codes = [promos.grouped(promo.code) for promo in promos.generate_codes(options["count"], terms)]
        except CreditsError as error:
            raise CommandError(str(error)) from None
        for code in codes:
            self.stdout.write(code)


def terms_of(options: dict[str, Any]) -> promos.Terms:
    for name, least in (("max_redemptions", 0), ("expires_in_days", 0), ("priority", 0)):
        if not least <= options[name] <= 30_000:
            raise CommandError(f"--{name.replace('_', '-')} must be between {least} and 30000.")
    return promos.Terms(
        amount=usd_to_nanos(options["amount"]),
        max_redemptions=options["max_redemptions"] or None,
        expires_in_days=options["expires_in_days"] or None,
        valid_from=time_of(options["valid_from"]),
        valid_until=time_of(options["valid_until"]),
        priority=options["priority"],
        note=options["note"],
    )


def time_of(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a time: write 2026-12-31 or 2026-12-31T18:00+01:00.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
