"""Which pages a search may find: Anthropic's `allowed_domains` and `blocked_domains`. Pure.

An entry is a domain, which stands for its subdomains too, and perhaps the beginning of a path,
in which one `*` stands for anything: `example.com`, `docs.example.com/api`, `example.com/*/news`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from providers.errors import ProvidersError

HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)+")
MAX_ENTRY = 500


class InvalidDomain(ProvidersError):
    """An entry that is no domain; says what one looks like."""

    code = "invalid_domain"


@dataclass(frozen=True, slots=True)
class Domains:
    """As `normalised` gives them. Either list may be empty: then it restricts nothing."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def restrict(self) -> bool:
        return bool(self.allowed or self.blocked)

    def admit(self, url: str) -> bool:
        """Whether the page at `url` may be shown. Only web addresses ever are."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        if parts.scheme not in {"http", "https"} or not host:
            return False
        if any(_covers(entry, host, parts.path) for entry in self.blocked):
            return False
        return not self.allowed or any(_covers(entry, host, parts.path) for entry in self.allowed)


def normalised(entry: str) -> str:
    """`entry` in lower case as far as it is a host, without a scheme. Raises InvalidDomain."""
    host, slash, path = entry.strip().removeprefix("https://").removeprefix("http://").partition("/")
    host = host.lower().rstrip(".")
    if len(entry) > MAX_ENTRY or not HOST.fullmatch(host) or path.count("*") > 1:
        raise InvalidDomain(
            f"{entry[:80]!r} is not a domain: write it like example.com or docs.example.com/api, without a port, "
            "with at most one * and that in the path."
        )
    return host + slash + path if path else host


def host_of(entry: str) -> str:
    return entry.partition("/")[0]


def _covers(entry: str, host: str, path: str) -> bool:
    named, _, beginning = entry.partition("/")
    if host != named and not host.endswith("." + named):
        return False
    return not beginning or _path(beginning).match(path.removeprefix("/")) is not None


@lru_cache(maxsize=512)
def _path(beginning: str) -> re.Pattern[str]:
    text = ".*".join(re.escape(part) for part in beginning.rstrip("/").split("*"))
    return re.compile(text + r"(?=[/?#]|$)" if not beginning.endswith("*") else text)
