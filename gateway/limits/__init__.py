"""How much a tenant may ask for: rates and concurrency per key and organisation, shared by all
processes through Valkey; and what a process that has too much to do refuses first."""

from gateway.limits.lease import Lease
from gateway.limits.limiter import Limiter
from gateway.limits.load import Load

__all__ = ["Lease", "Limiter", "Load"]
