"""The environment of tests and checks: throw-away secrets, nothing of the developer's own."""

import base64
import os
import tempfile
from pathlib import Path

SECRETS = {
    "DJANGO_SECRET_KEY": "only-for-tests-" + "0123456789" * 5,
    "CCM_ENCRYPTION_KEYS": base64.urlsafe_b64encode(b"only for tests".ljust(32)).decode(),
    "CCM_KEY_PEPPER": "only-for-tests",
}
# What a developer's shell may hold and no test may depend on.
UNSET = (
    "DEBUG", "CCM_DEMO", "HOST", "PORT", "WORKERS", "CCM_PUBLIC_URL", "ALLOWED_HOSTS", "EMAIL_URL", "LOG_LEVEL",
    "CCM_ALLOW_PRIVATE_UPSTREAMS", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "DEMO_STRIPE_URL",
    "ANTHROPIC_API_KEY", "OPENAI_API_KEY",
    "GEMINI_API_KEY", "COHERE_API_KEY", "OPENROUTER_API_KEY", "CCM_SEARCH_BACKEND", "CCM_SEARCH_URL", "CCM_SEARCH_KEY",
)  # fmt: skip


def set_secrets() -> None:
    os.environ.update(SECRETS)
    for name in UNSET:
        os.environ.pop(name, None)


def make_data_dir() -> Path:
    """A new data directory. In memory where the machine has such a place: SQLite waits for
    the disk at each commit, and a test's data need not survive a power cut."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="ccm-tests-", dir=parent))
