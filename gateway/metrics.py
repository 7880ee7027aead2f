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
ATTEMPTS = Counter("ccm_attempts_total", "Calls to providers, by how they ended.", ["provider", "outcome"])
RETRIES = Counter("ccm_retries_total", "Calls that repeat one to the same provider.", ["provider", "reason"])
FAILOVERS = Counter("ccm_failovers_total", "Requests served by another target than the first one tried.", ["model"])
COOL_DOWNS = Counter("ccm_credential_cool_downs_total", "Credentials that a provider limited or refused.",
                     ["provider", "reason"])  # fmt: skip
BREAKERS = Gauge("ccm_breaker_state", "0 closed, 1 half open, 2 open: by mapping.", ["provider", "model", "mapping"],
                 multiprocess_mode="livemostrecent")  # fmt: skip
BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}
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
_attempt = functools.lru_cache(maxsize=1024)(ATTEMPTS.labels)
_first_token = functools.lru_cache(maxsize=64)(FIRST_TOKEN.labels)


def request(route: str, model: str, provider: str, status: int) -> None:
    _request(route, model, provider, str(status)).inc()


def first_token(route: str, seconds: float) -> None:
    _first_token(route).observe(seconds)


def refusal(status: int, code: str) -> None:
    REFUSALS.labels(str(status), code).inc()


def upstream_failure(provider: str, error: str) -> None:
    UPSTREAM_FAILURES.labels(provider, error).inc()


def attempt(provider: str, outcome: str) -> None:
    _attempt(provider, outcome).inc()


def retry(provider: str, reason: str) -> None:
    RETRIES.labels(provider, reason).inc()


def failover(model: str) -> None:
    FAILOVERS.labels(model).inc()


def cool_down(provider: str, reason: str) -> None:
    COOL_DOWNS.labels(provider, reason).inc()


def breaker(provider: str, model: str, mapping_id: int, state: str) -> None:
    BREAKERS.labels(provider, model, str(mapping_id)).set(BREAKER_STATES[state])


def web_search(engine: str, outcome: str) -> None:
    WEB_SEARCHES.labels(engine, outcome).inc()


def render() -> bytes:
    """The exposition text: of every worker where PROMETHEUS_MULTIPROC_DIR is set, else of this one."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()
