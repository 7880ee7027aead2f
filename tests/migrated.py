"""A migrated SQLite database, made once and then copied: migrating takes seconds, and many tests start a CCM."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

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
