"""What Prometheus sees. Labels are bounded: configured names and our own words only."""

import functools
import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

REQUESTS = Counter("ccm_requests_total", "Answered /v1/messages requests.", ["route", "model", "provider", "status"])
REFUSALS = Counter("ccm_refusals_total", "Requests refused before a provider was called.", ["status", "code"])
FIRST_TOKEN = Histogram(
    "ccm_first_token_seconds",
    "From the request's arrival to its first content.",
    ["route"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
UPSTREAM_FAILURES = Counter("ccm_upstream_failures_total", "Failed attempts.", ["provider", "error"])
WEB_SEARCHES = Counter("ccm_web_searches_total", "Web searches that models asked CCM for.", ["engine", "outcome"])
LOCAL_LIMITS = Counter("ccm_local_limits_total", "Requests whose limits were checked without Valkey.")
PINGS = Counter("ccm_pings_total", "Keep-alive events sent in silence.")
ACTIVE_STREAMS = Gauge("ccm_active_requests", "Held requests under way.", multiprocess_mode="livesum")
WRITER_DEPTH = Gauge(
    "ccm_ledger_writer_depth", "Operations waiting for the ledger writer.", multiprocess_mode="livesum"
)
HOLDS = Gauge("ccm_holds", "Holds by state.", ["state"], multiprocess_mode="livemostrecent")
CATALOGUE_AGE = Gauge(
    "ccm_catalogue_age_seconds", "Since the catalogue was last known to be current.", multiprocess_mode="livemax"
)

_request = functools.lru_cache(maxsize=4096)(REQUESTS.labels)
_first_token = functools.lru_cache(maxsize=64)(FIRST_TOKEN.labels)


def request(route: str, model: str, provider: str, status: int) -> None:
    _request(route, model, provider, str(status)).inc()


def first_token(route: str, seconds: float) -> None:
    _first_token(route).observe(seconds)


def refusal(status: int, code: str) -> None:
    REFUSALS.labels(str(status), code).inc()


def upstream_failure(provider: str, error: str) -> None:
    UPSTREAM_FAILURES.labels(provider, error).inc()


def web_search(engine: str, outcome: str) -> None:
    WEB_SEARCHES.labels(engine, outcome).inc()


def render() -> bytes:
    """The exposition text: of every worker where PROMETHEUS_MULTIPROC_DIR is set, else of this one."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()
