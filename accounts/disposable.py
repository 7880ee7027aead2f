"""Addresses that are thrown away, and addresses that are one and the same. Pure but for the list it reads."""

import functools
from importlib import import_module

DOTS_MEAN_NOTHING = frozenset({"gmail.com", "googlemail.com"})


@functools.lru_cache(maxsize=1)
def _domains() -> frozenset[str]:
    return frozenset(import_module("disposable_email_domains").blocklist)


def is_disposable(email: str) -> bool:
    """Whether the address belongs to a service of mailboxes for a minute, or to a part of one."""
    labels = email.rpartition("@")[2].lower().split(".")
    return any(".".join(labels[start:]) in _domains() for start in range(len(labels) - 1))


def canonical(email: str) -> str:
    """The mailbox behind an address: what stands after a plus, and Gmail's dots, make no other mailbox."""
    name, _, domain = email.strip().lower().rpartition("@")
    name = name.partition("+")[0]
    if domain in DOTS_MEAN_NOTHING:
        return name.replace(".", "") + "@gmail.com"
    return f"{name}@{domain}"
