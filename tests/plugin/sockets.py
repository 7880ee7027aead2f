"""Tests talk to this machine only."""

import ipaddress
import socket
from typing import Any

NAMES = {"localhost", ""}


class OutsideConnection(RuntimeError):
    """A test tried to reach another machine. No OSError, so that no code takes it for a
    provider that is down."""


def is_local(family: int, address: Any) -> bool:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    host = address[0]
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def guard() -> None:
    """Refuse every connection of this process that leaves it for anything but loopback."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(self: socket.socket, address: Any) -> None:
        if not is_local(self.family, address):
            raise OutsideConnection(f"A test tried to connect to {address!r}; only loopback is allowed.")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign,assignment]
