"""The journal: what a killed process leaves behind, and what a living one does not."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from credits import journal
from credits.journal import Journal, recover
from credits.types import MeterReading, UsageSource

ROOT = Path(__file__).resolve().parents[2]
READING = MeterReading(
    input=10, cache_read=20, cache_write=30, cache_write_1h=40, output=50, reasoning=5, web_searches=1
)


def kill_mid_stream(folder: Path) -> None:
    """A process writes its slot, moves its output on, and is killed without any chance to tidy up."""
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from credits.journal import Journal
        from credits.types import MeterReading
        journal = Journal(Path({str(folder)!r}), "victim")
        slot, done = journal.open(), journal.open()
        slot.write("req_1", MeterReading(input=10, cache_read=20, cache_write=30, cache_write_1h=40,
                                         output=1, reasoning=5, web_searches=1))
        done.write("req_2", MeterReading(input=1))
        done.close()
        slot.write_output(50)
        print("written", flush=True)
        sys.stdin.read()
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"written\n"
    with recover(folder) as readings:
        assert readings == {}, "a living process's file is its own"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_killed_process_leaves_its_last_count(tmp_path: Path) -> None:
    kill_mid_stream(tmp_path)
    with recover(tmp_path) as readings:
        assert set(readings) == {"req_1"}, "the closed slot is gone"
        left = readings["req_1"]
    assert left.source is UsageSource.CHECKPOINT
    assert (left.input, left.cache_read, left.cache_write, left.cache_write_1h) == (10, 20, 30, 40)
    assert (left.output, left.reasoning, left.web_searches) == (50, 5, 1)
    with recover(tmp_path) as readings:
        assert readings == {}


def test_what_could_not_be_stored_is_kept_for_the_next_recovery(tmp_path: Path) -> None:
    kill_mid_stream(tmp_path)
    with pytest.raises(RuntimeError), recover(tmp_path):
        raise RuntimeError("the database is down")
    with recover(tmp_path) as readings:
        assert set(readings) == {"req_1"}


def test_two_recoveries_at_once_do_not_both_read_a_file(tmp_path: Path) -> None:
    kill_mid_stream(tmp_path)
    with recover(tmp_path) as first, recover(tmp_path) as second:
        assert set(first) == {"req_1"}
        assert second == {}


def test_slots_are_used_again_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SLOTS", 2)
    own = Journal(tmp_path, "own")
    first, second = own.open(), own.open()
    assert first is not None
    assert second is not None
    assert own.open() is None
    first.write("req_1", READING)
    first.close()
    assert own.open() is not None
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    with recover(tmp_path / "absent") as readings:
        assert readings == {}
