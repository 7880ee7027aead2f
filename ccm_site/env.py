"""Typed readers for environment variables.

Every secret may also come from a file named by `<NAME>_FILE`. A value that makes no
sense raises `ImproperlyConfigured` with the variable's name, so that a start with a
wrong setting stops with one clear line.
"""

import os
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from accounts.types import Limits
from credits.errors import InvalidAmount
from credits.money import usd_to_nanos
from credits.payments.amounts import Terms

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


def load_env_file(file: Path) -> None:
    """Set what `file` (lines `NAME=value`) names and the environment does not.

    `make run` writes this file, so that `manage.py` in another shell meets the same
    secrets and services."""
    if not file.is_file():
        return
    for line in file.read_text().splitlines():
        name, found, value = line.partition("=")
        if found and not name.startswith("#"):
            os.environ.setdefault(name.strip(), value.strip())


def env_str(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def env_bool(name: str, *, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.strip().lower() in TRUE:
        return True
    if value.strip().lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")


def env_int(name: str, default: int, *, minimum: int = 0, maximum: int = 2**31) -> int:
    value = os.environ.get(name)
    if value is None or value == "":
        return default
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must be between {minimum} and {maximum}, not {number}.")
    return number


def env_usd(name: str, default: str) -> int:
    """Nanos; the variable says dollars, such as 0.05."""
    value = os.environ.get(name) or default
    try:
        nanos = usd_to_nanos(value)
    except InvalidAmount:
        nanos = None
    if nanos is None or nanos < 0:
        raise ImproperlyConfigured(f"{name} must be an amount in US dollars, such as 0.05, not {value!r}.")
    return nanos


def limits(prefix: str) -> Limits:
    """From `<prefix>_REQUESTS`, `_TOKENS`, `_INPUT_TOKENS`, `_OUTPUT_TOKENS` (per minute) and `_CONCURRENCY`."""
    return Limits(**{name: env_int(f"{prefix}_{name.upper()}", 0) for name in Limits.__struct_fields__})


def env_basis_points(name: str, default: str) -> int:
    """Hundredths of a percent; the variable says percent, such as 2.5."""
    value = os.environ.get(name) or default
    try:
        points = Decimal(value) * 100
    except InvalidOperation:
        points = Decimal(-1)
    if not points.is_finite() or points != int(points) or not 0 <= points <= 10_000:
        raise ImproperlyConfigured(f"{name} must be a percentage from 0 to 100, such as 5 or 2.5, not {value!r}.")
    return int(points)


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def env_secret(name: str, default: str | None = None) -> str:
    """The value of `name`, or the text of the file that `<name>_FILE` points to."""
    if value := os.environ.get(name):
        return value
    if file := os.environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}.") from None
    if default is None:
        raise ImproperlyConfigured(f"Set {name} (or {name}_FILE).")
    return default


SEARCH_NEEDS = {"": "", "searxng": "CCM_SEARCH_URL", "brave": "CCM_SEARCH_KEY", "tavily": "CCM_SEARCH_KEY"}
"""The search engines, and the variable that each cannot do without."""


def search_engine(name: str, url: str, key: str) -> tuple[str, str, str]:
    """The search engine's name, address and key, once they make sense together."""
    name, url = name.strip().lower(), url.strip()
    if name not in SEARCH_NEEDS:
        names = ", ".join(filter(None, SEARCH_NEEDS))
        raise ImproperlyConfigured(f"CCM_SEARCH_BACKEND must be one of {names}, not {name!r}.")
    needed = SEARCH_NEEDS[name]
    if needed and not {"CCM_SEARCH_URL": url, "CCM_SEARCH_KEY": key}[needed]:
        raise ImproperlyConfigured(f"CCM_SEARCH_BACKEND={name} needs {needed}.")
    if url and not url.startswith(("http://", "https://")):
        raise ImproperlyConfigured("CCM_SEARCH_URL must begin with http:// or https://.")
    if not (key.isascii() and key.isprintable()):
        raise ImproperlyConfigured("CCM_SEARCH_KEY holds a character that no key has.")
    return name, url, key


@dataclass(frozen=True, slots=True)
class Stripe:
    """How Stripe is spoken to. `api_base` is "" for Stripe itself; only the demo has another (`demo_stripe`)."""

    secret_key: str = field(default="", repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    automatic_tax: bool = False
    api_base: str = ""


def stripe(*, demo: bool) -> Stripe:
    """The operator's Stripe account, else in the demo the one that `make run` plays (`DEMO_STRIPE_*`)."""
    key, secrets = env_secret("STRIPE_SECRET_KEY", ""), env_secret("STRIPE_WEBHOOK_SECRET", "")
    tax = env_bool("STRIPE_AUTOMATIC_TAX", default=False)
    if not key and demo and env_str("DEMO_STRIPE_URL"):
        url = env_str("DEMO_STRIPE_URL")
        return Stripe(env_secret("DEMO_STRIPE_KEY"), (env_secret("DEMO_STRIPE_SECRET"),), tax, url)
    webhook_secrets = tuple(part.strip() for part in secrets.split(",") if part.strip())
    if key and not key.startswith(("sk_", "rk_")):
        raise ImproperlyConfigured("STRIPE_SECRET_KEY must begin with sk_ or rk_: it is the secret key that is needed.")
    if len(webhook_secrets) > 2 or any(not secret.startswith("whsec_") for secret in webhook_secrets):
        raise ImproperlyConfigured("STRIPE_WEBHOOK_SECRET must be one or two secrets that begin with whsec_, by comma.")
    if bool(key) != bool(webhook_secrets):
        missing = "STRIPE_WEBHOOK_SECRET" if key else "STRIPE_SECRET_KEY"
        raise ImproperlyConfigured(f"{missing} is missing: payments need both.")
    return Stripe(key, webhook_secrets, tax)


def top_up_terms() -> Terms:
    """What customers may buy and at which fee."""
    terms = Terms(
        minimum=env_usd("CCM_TOP_UP_MIN_USD", "5"),
        maximum=env_usd("CCM_TOP_UP_MAX_USD", "5000"),
        fee_basis_points=env_basis_points("CCM_TOP_UP_FEE_PERCENT", "5"),
        fee_minimum=env_usd("CCM_TOP_UP_FEE_MIN_USD", "0.50"),
    )
    if not 0 < terms.minimum <= terms.maximum:
        raise ImproperlyConfigured("CCM_TOP_UP_MIN_USD must be above zero and at most CCM_TOP_UP_MAX_USD.")
    return terms


def database(url: str, sqlite_file: Path) -> dict[str, object]:
    """The DATABASES entry for `url` (`postgres://user:password@host:port/name?option=value`,
    or `sqlite:///file?timeout=seconds`); no url, or one without a file, means the SQLite file."""
    parts = urlsplit(url)
    if not url or parts.scheme == "sqlite":
        name = unquote(parts.path[1:]) if parts.path[1:] else str(sqlite_file)
        return sqlite_database(name, dict(parse_qsl(parts.query)).get("timeout", "20"))
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must begin with postgres:// or sqlite:///.")
    try:
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured("DATABASE_URL has a port that is not a number.") from None
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            # A lock that is not to be had must fail, not hang a customer's request.
            "options": "-c lock_timeout=5s -c statement_timeout=30s -c idle_in_transaction_session_timeout=30s",
            **options,
        },
    }


def sqlite_database(name: str, timeout: str = "20") -> dict[str, object]:
    """SQLite as it must be set up to carry money under concurrency (architecture, decision 9). Whoever
    wants to write waits for the lock for `timeout` seconds at most."""
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise ImproperlyConfigured("DATABASE_URL has a timeout that is not a number of seconds.")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": seconds,
            "transaction_mode": "IMMEDIATE",
            "init_command": (
                f"PRAGMA busy_timeout={int(seconds * 1000)}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "PRAGMA foreign_keys=ON; PRAGMA recursive_triggers=ON; PRAGMA cache_size=-4000"
            ),
        },
        "TEST": {"NAME": f"{name}.test"},
    }


@dataclass(frozen=True, slots=True)
class Mail:
    """How mail leaves; `starttls` begins in the clear, `tls` does not."""

    backend: str
    host: str = "localhost"
    port: int = 25
    user: str = ""
    password: str = ""
    starttls: bool = False
    tls: bool = False


def mail(url: str, *, demo: bool) -> Mail:
    """The mail server of `url` (`smtp://user:password@host:587?tls=1` for STARTTLS, `smtps://host`). Without
    one, the demo prints mail into its log and any other installation sends none."""
    if not url:
        kind = "console" if demo else "dummy"
        return Mail(f"django.core.mail.backends.{kind}.EmailBackend")
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ImproperlyConfigured("EMAIL_URL must begin with smtp:// or smtps:// and name a host.")
    try:
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured("EMAIL_URL has a port that is not a number.") from None
    options = dict(parse_qsl(parts.query))
    starttls = options.pop("tls", "0") in TRUE
    if options or (starttls and parts.scheme == "smtps"):
        raise ImproperlyConfigured("EMAIL_URL takes only the option tls=1, and only with smtp://.")
    tls = parts.scheme == "smtps"
    return Mail(
        backend="django.core.mail.backends.smtp.EmailBackend",
        host=parts.hostname,
        port=port or (465 if tls else 587 if starttls else 25),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        starttls=starttls,
        tls=tls,
    )


def social_log_ins(credentials: dict[str, tuple[str, str]]) -> tuple[list[str], dict[str, dict[str, object]]]:
    """The apps and settings of allauth for those of GitHub and Google whose client id and secret are set."""
    apps, settings = [], {}
    scopes = {"github": ["user:email"], "google": ["openid", "email"]}
    for name, (client_id, secret) in credentials.items():
        if bool(client_id) != bool(secret):
            missing = "CLIENT_SECRET" if client_id else "CLIENT_ID"
            raise ImproperlyConfigured(f"{name.upper()}_{missing} is missing: signing in with {name} needs both.")
        if client_id:
            apps.append(f"allauth.socialaccount.providers.{name}")
            app = {"client_id": client_id, "secret": secret}
            settings[name] = {"APPS": [app], "SCOPE": scopes[name], "VERIFIED_EMAIL": False}
    return apps, settings
