"""The journal: what a killed process leaves behind, and what a living one does not."""

import contextlib
import errno
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from credits import journal
from credits.errors import LedgerUnavailable
from credits.journal import Journal, recover, standing
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
        slot, done = journal.claim("req_1"), journal.claim("req_2")
        slot.write(MeterReading(input=10, cache_read=20, cache_write=30, cache_write_1h=40,
                                output=1, reasoning=5, web_searches=1))
        done.write(MeterReading(input=1))
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
    assert left is not None
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


def left_by(journal: Journal) -> dict[str, MeterReading | None]:
    """What its process would leave if it died now."""
    journal.let_go()
    with recover(journal._path.parent) as readings:
        return readings


def test_slots_are_used_again_and_leave_nothing(tmp_path: Path) -> None:
    own = Journal(tmp_path, "own")
    free = len(own.free)
    for number in range(3):
        slot = own.claim(f"req_{number}")
        slot.write(READING)
        slot.close()
    assert len(own.free) == free
    own.close()
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_has_not_come_to_anything_stands_in_the_journal_too(tmp_path: Path) -> None:
    own = Journal(tmp_path, "own")
    own.claim("req_1")
    own.claim("req_2").write(MeterReading(source=UsageSource.PROVIDER))
    assert standing(tmp_path) == {"req_1", "req_2"}
    left = left_by(own)
    assert left["req_1"] is None
    assert left["req_2"] == MeterReading(source=UsageSource.CHECKPOINT), "its provider has told of no usage"


def test_a_slot_s_next_request_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    own = Journal(tmp_path, "own")
    slot = own.claim("req_1" + "x" * 40)
    slot.write(READING)
    slot.write(READING)
    slot.close()
    own.claim("req_2")
    assert left_by(own) == {"req_2": None}


def test_there_is_a_slot_for_every_request(tmp_path: Path) -> None:
    own = Journal(tmp_path, "own")
    ids = {f"req_{number}" for number in range(2 * journal.CHUNK_SLOTS + 1)}
    for id_ in ids:
        own.claim(id_).write(MeterReading(output=7))
    assert standing(tmp_path) == ids
    left = left_by(own)
    assert left.keys() == ids
    assert {reading.output for reading in left.values() if reading} == {7}


@pytest.mark.parametrize("stores", range(9))
def test_a_process_that_dies_while_it_writes_leaves_the_reading_before(tmp_path: Path, stores: int) -> None:
    """Killed after so many of the eight words that make up a reading."""
    own = Journal(tmp_path, "own")
    slot = own.claim("req_1")
    slot.write(READING)
    slot.write_output(51)

    class Dies:
        def __init__(self) -> None:
            self.left = stores

        def __getitem__(self, at: int) -> int:
            return own._chunks[0].words[at]

        def __setitem__(self, at: int, value: int) -> None:
            if not self.left:
                raise InterruptedError
            self.left -= 1
            own._chunks[0].words[at] = value

    whole = MeterReading(1, 2, 3, 4, 5, 6, 7)
    slot._chunk = SimpleNamespace(words=Dies())  # type: ignore[assignment]
    with contextlib.suppress(InterruptedError):
        slot.write(whole)
    (left,) = left_by(own).values()
    assert left == replace(whole if stores == 8 else replace(READING, output=51), source=UsageSource.CHECKPOINT)


def test_absurd_counts_fit_into_their_words(tmp_path: Path) -> None:
    own = Journal(tmp_path, "own")
    own.claim("req_1").write(MeterReading(input=2**70, output=-1))
    assert left_by(own) == {"req_1": MeterReading(input=2**31 - 1, source=UsageSource.CHECKPOINT)}


def test_a_full_disk_refuses_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Journal(tmp_path, "own")
    own.free.clear()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal, "_Chunk", full)
    with pytest.raises(LedgerUnavailable):
        own.claim("req_1")
    monkeypatch.undo()
    own.close()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    with recover(tmp_path / "absent") as readings:
        assert readings == {}
