"""A migrated database, made once and then copied: migrating takes seconds, and many tests start a CCM."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests.plugin import environment

PROJECT = Path(__file__).resolve().parent.parent
APPS = ("accounts", "adminui", "credits", "gateway", "providers")
PACKAGES = ("django", "django-allauth")


def copy_to(file: Path, migrate: Callable[[], None]) -> None:
    """Put a migrated database at `file`; `migrate` makes the first one there."""
    made = Path(tempfile.gettempdir()) / f"ccm-migrated-{os.getuid()}-{_fingerprint()}.sqlite3"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_file():
            migrate()
            with tempfile.NamedTemporaryFile(dir=made.parent, delete=False) as unfinished:
                shutil.copyfile(file, unfinished.name)
            Path(unfinished.name).rename(made)
            return
    shutil.copyfile(made, file)


def template(url: str) -> str:
    """The name of a migrated database on the PostgreSQL server of `url`, for CREATE DATABASE ... TEMPLATE."""
    import psycopg
    from psycopg import sql

    name = f"ccm_migrated_{_fingerprint()}"
    unfinished = f"{name}_unfinished"
    with psycopg.connect(url, autocommit=True) as connection:
        # One process makes it, the others wait for it.
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
            return name
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(unfinished)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
        command = [sys.executable, "manage.py", "migrate", "-v0"]
        settings = {**os.environ, **environment.SECRETS, "DATABASE_URL": beside(url, unfinished)}
        subprocess.run(command, cwd=PROJECT, env=settings, check=True)
        names = sql.Identifier(unfinished), sql.Identifier(name)
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
    return name


def beside(url: str, name: str) -> str:
    """The address of the database `name` on the server of `url`."""
    head, question, options = url.partition("?")
    return head.rpartition("/")[0] + "/" + name + question + options


def _fingerprint() -> str:
    """Of everything that decides what a migrated database looks like."""
    digest = hashlib.sha256("".join(f"{name}{version(name)}" for name in PACKAGES).encode())
    for app in APPS:
        for source in sorted((PROJECT / app).glob("migrations/*.py")):
            digest.update(source.name.encode() + source.read_bytes())
    # Migrations install what stands here.
    for source in (PROJECT / "credits" / "guards.py", PROJECT / "ccm_site" / "settings.py"):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]
