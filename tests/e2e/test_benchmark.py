"""The benchmark itself works: every answer is checked, and the books are in order afterwards."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_short_benchmark_ends_with_its_books_in_order(project: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.run", "--rounds", "1", "--seconds", "0.3", "--json", str(report)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done
    told = json.loads(report.read_text())
    assert told["wrong"] == []
    assert told["requests"] > 4
    assert [row["name"] for row in told["scenarios"]][:5] == ["small", "large", "stream", "openai", "openai_chat"]
    assert all(row["ccm"]["cpu_ms"] > 0 for row in told["scenarios"])


def test_a_provider_that_dies_under_load_is_not_noticed(project: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.failover", "--seconds", "2", "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert all(phase["requests"] > 4 for phase in told["phases"].values())
