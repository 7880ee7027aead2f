"""The API on a running CCM: the processes, the network and the gateway's runtime are the real ones."""

from tests.gateway.conftest import email, world

__all__ = ["email", "world"]
