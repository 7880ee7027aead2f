"""Failover nobody notices: what is known of each target and credential, and what a request tries next.

`reading.troubles()` is what pages and tasks read; `Resilience` is what one process keeps.
"""

from gateway.resilience.registry import Attempt, Resilience
from gateway.resilience.shared import Sharing

__all__ = ["Attempt", "Resilience", "Sharing"]
