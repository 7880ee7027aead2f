"""Which network addresses an upstream may have when private ones are not allowed."""

import ipaddress
import socket
from typing import Any

NAT64 = ipaddress.ip_network("64:ff9b::/96")

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]


class ForbiddenAddress(OSError):
    """The upstream's host name or address leads into a private network."""


def is_public(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6 text) is reachable by everyone on the internet.

    An IPv6 address that only wraps an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by
    the IPv4 address, since that is where the packets end up."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is None and ip in NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def public_socket(address: AddrInfo) -> socket.socket:
    """A socket for `address`; raises ForbiddenAddress when it is not public.

    Called for each address right before connecting, after names have been resolved, so a
    name cannot be checked as one address and then connected to as another."""
    family, kind, protocol, _, sockaddr = address
    if not is_public(str(sockaddr[0])):
        raise ForbiddenAddress("a private address")
    return socket.socket(family=family, type=kind, proto=protocol)
