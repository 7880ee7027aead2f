"""Several web workers: what one measured of itself goes when it is replaced."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.processes import Ccm

TOKEN = "metrics-of-the-tests"


def live_gauges(directory: Path) -> set[int]:
    return {int(file.stem.rpartition("_")[2]) for file in directory.glob("gauge_live*_*.db")}


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_killed_worker_s_gauges_are_forgotten():
    settings = {"WORKERS": "2", "CCM_METRICS_TOKEN": TOKEN}
    with Ccm(settings=settings) as ccm:
        directory = ccm.data_dir / f"metrics-{ccm.port}"
        directory.mkdir()
        (directory / "gauge_livesum_1.db").write_bytes(b"left by an earlier start")
        ccm.start()
        eventually(lambda: len(live_gauges(directory)) == 2)
        assert 1 not in live_gauges(directory)
        killed = min(live_gauges(directory))
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: killed not in live_gauges(directory) and len(live_gauges(directory)) == 2)
        headers = {"authorization": f"Bearer {TOKEN}"}
        text = httpx.get(f"{ccm.url}/metrics", headers=headers, timeout=30, trust_env=False).text
        assert "ccm_active_requests 0.0" in text
        assert "ccm_reconciliation_age_seconds +Inf" in text
