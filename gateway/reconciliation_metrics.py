"""The last reconciliation, for Prometheus. The worker runs it and any web process is asked: so it is read from
the database when it is asked for, and at most every few seconds."""

import math
import threading
import time
from collections.abc import Iterator
from datetime import datetime

from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from credits.models import ReconciliationRun
from credits.reconcile import Finding
from credits.selectors import last_reconciliation

CACHE_SECONDS = 5.0


class ReconciliationMetrics:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = -math.inf
        self._runs: tuple[ReconciliationRun | None, ReconciliationRun | None] = (None, None)

    def render(self) -> bytes:
        """The exposition text. Raises DatabaseError."""
        with self._lock:
            if time.monotonic() - self._read_at >= CACHE_SECONDS:
                self._runs = (last_reconciliation(), last_reconciliation(full=True))
                self._read_at = time.monotonic()
            registry = CollectorRegistry()
            registry.register(_Runs(*self._runs, now=timezone.now()))
        return generate_latest(registry)


class _Runs(Collector):
    def __init__(self, last: ReconciliationRun | None, last_full: ReconciliationRun | None, *, now: datetime) -> None:
        self._last, self._last_full, self._now = last, last_full, now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        age = "Since the last reconciliation{} ended; +Inf when there was none."
        yield GaugeMetricFamily("ccm_reconciliation_age_seconds", age.format(""), value=self._age(self._last))
        yield GaugeMetricFamily(
            "ccm_reconciliation_full_age_seconds", age.format(" of the whole ledger"), value=self._age(self._last_full)
        )
        if self._last is None:
            return
        yield GaugeMetricFamily("ccm_reconciliation_ok", "1 if no check failed.", value=int(self._last.ok))
        labels = ["check", "severity"]
        ok = GaugeMetricFamily("ccm_reconciliation_check_ok", "1 if the check held.", labels=labels)
        rows = GaugeMetricFamily("ccm_reconciliation_check_rows", "Rows that the check found.", labels=labels)
        off = GaugeMetricFamily("ccm_reconciliation_check_difference_nanos", "By how much they are off.", labels=labels)
        for result in self._last.results:
            finding = Finding(**result)
            for family, value in ((ok, int(finding.ok)), (rows, finding.count), (off, finding.difference)):
                family.add_metric([finding.check, finding.severity], value)
        yield from (ok, rows, off)

    def _age(self, run: ReconciliationRun | None) -> float:
        return (self._now - run.finished_at).total_seconds() if run else math.inf
