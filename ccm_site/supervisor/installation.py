"""The data directory of an installation: its secrets, its lock, and who may read them."""

import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from ccm_site.supervisor.processes import free_port, port_is_taken

ENV_HEADER = "# Written by `make run`; read by every process of this installation. Keep it secret, keep it safe."
ANY_ADDRESS = {"0.0.0.0", "::"}  # noqa: S104


class CannotStart(Exception):
    """The product cannot start; the text is one line for the person at the terminal."""


@dataclass(frozen=True)
class Installation:
    """Where an installation lives and how its processes are configured.

    `environment` is the whole environment for child processes. `workers` is the number of web
    processes. `valkey_port` is None when the operator named a Redis of their own."""

    data_dir: Path
    environment: Mapping[str, str]
    host: str
    port: int
    workers: int
    valkey_port: int | None

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host in ANY_ADDRESS else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def valkey_password(self) -> str:
        return urlsplit(self.environment["REDIS_URL"]).password or ""

    def write_valkey_config(self) -> Path:
        """Valkey's configuration file: a password in an argument could be read by every user."""
        file = self.data_dir / "valkey.conf"
        write_secret(file, f"requirepass {self.valkey_password}\n")
        return file


def prepare(environment: Mapping[str, str], default_data_dir: Path) -> Installation:
    """Make or complete the data directory. The caller holds its lock (`lock`)."""
    environment = {name: value for name, value in environment.items() if value}
    data_dir = data_dir_of(environment, default_data_dir)
    stored = read_env(data_dir / "env")
    needed: dict[str, Callable[[], str]] = {
        "DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(50),
        "CCM_ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "CCM_KEY_PEPPER": lambda: secrets.token_urlsafe(32),
        "CCM_DEMO": lambda: "1",
    }
    missing = [name for name in needed if name not in stored and f"{name}_FILE" not in environment]
    complete = stored | {name: needed[name]() for name in missing}
    valkey_port = None
    if not environment.get("REDIS_URL"):
        complete["REDIS_URL"] = redis_url(complete.get("REDIS_URL", ""))
        valkey_port = urlsplit(complete["REDIS_URL"]).port
    if plays_stripe({**complete, **environment}):
        complete |= demo_stripe(complete, {**complete, **environment})
    if complete != stored:
        write_secret(data_dir / "env", "\n".join([ENV_HEADER, *(f"{k}={v}" for k, v in complete.items()), ""]))
    whole = {**complete, **environment, "CCM_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
    installation = Installation(
        data_dir=data_dir,
        environment=whole,
        host=whole.get("HOST") or "127.0.0.1",
        port=number("PORT", whole.get("PORT") or "8000", 65535),
        workers=number("WORKERS", whole.get("WORKERS") or "1", 256),
        valkey_port=valkey_port,
    )
    whole["DEMO_STRIPE_WEBHOOK"] = f"{installation.url}/webhooks/stripe"
    return installation


def plays_stripe(settings: Mapping[str, str]) -> bool:
    """Whether the demo has a stand-in for Stripe: never beside a real account, never outside the demo."""
    return settings.get("CCM_DEMO") == "1" and not (
        settings.get("STRIPE_SECRET_KEY") or settings.get("STRIPE_SECRET_KEY_FILE")
    )


def demo_stripe(stored: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The stand-in's secrets and address, kept from start to start while its port is free. Customers' browsers go
    there too, so it has the name that CCM has."""
    public = urlsplit(settings.get("CCM_PUBLIC_URL", "")).hostname
    host = settings.get("HOST") or "127.0.0.1"
    name = public or ("127.0.0.1" if host in ANY_ADDRESS else host)
    port = urlsplit(stored.get("DEMO_STRIPE_URL", "")).port
    if port is None or port_is_taken(host, port):
        port = free_port()
    shown = f"[{name}]" if ":" in name else name
    return {
        "DEMO_STRIPE_KEY": stored.get("DEMO_STRIPE_KEY") or f"sk_test_{secrets.token_hex(16)}",
        "DEMO_STRIPE_SECRET": stored.get("DEMO_STRIPE_SECRET") or f"whsec_{secrets.token_hex(16)}",
        "DEMO_STRIPE_URL": f"http://{shown}:{port}",
    }


def data_dir_of(environment: Mapping[str, str], default: Path) -> Path:
    """The data directory, made if new; nobody but its owner may look inside."""
    data_dir = Path(environment.get("CCM_DATA_DIR") or default).resolve()
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        (data_dir / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"The data directory {data_dir} cannot be used: {error.strerror}. Set CCM_DATA_DIR."
        ) from None
    return data_dir


def lock(data_dir: Path) -> TextIO:
    """Claim `data_dir` for this process as long as the returned file stays open."""
    file = (data_dir / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise CannotStart(
            f"CCM already runs on {data_dir} (process {holder}). Stop it first, or set CCM_DATA_DIR for another one."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def number(name: str, text: str, largest: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= largest:
        raise CannotStart(f"{name} must be a number from 1 to {largest}, not {text!r}.")
    return int(text)


def require_free_port(installation: Installation) -> None:
    if port_is_taken(installation.host, installation.port):
        following = installation.port + 1 if installation.port < 65535 else 8000
        raise CannotStart(f"Port {installation.port} is taken: PORT={following} make run")


def redis_url(previous: str) -> str:
    """The URL of the bundled Valkey: the previous one while its port is free, else a new port."""
    parts = urlsplit(previous)
    password = parts.password or secrets.token_urlsafe(24)
    port = parts.port
    if port is None or port_is_taken("127.0.0.1", port):
        port = free_port()
    return f"redis://:{password}@127.0.0.1:{port}/0"


def read_env(file: Path) -> dict[str, str]:
    """The settings in `file`, lines `NAME=value`; empty when there is no file yet."""
    if not file.exists():
        return {}
    lines = (line.partition("=") for line in file.read_text().splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, found, value in lines if found}


def write_secret(file: Path, text: str) -> None:
    """Write `file` whole or not at all, readable by its owner only."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
