"""What the files of claude-code-mux and claude-code-router have in common: they were written for one person's
machine, and CCM may be a service for many."""

from urllib.parse import urlsplit

from providers.addresses import is_public

LOCAL_NAMES = (".localhost", ".local", ".internal", ".lan")


def host_of(url: str) -> str:
    """Lower case, without the port; "" for what is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_local(url: str) -> bool:
    """Whether the address itself says that it leads into a private network. (A name that only
    resolves to a private address is refused when CCM connects.)"""
    host = host_of(url)
    if host == "localhost" or host.endswith(LOCAL_NAMES):
        return True
    try:
        return not is_public(host)
    except ValueError:
        return False
