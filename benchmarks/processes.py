"""What Linux tells about a process and its children."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1024


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid` and its living descendants, all threads."""
    return sum(_ticks(each) for each in tree(pid)) / TICKS


def memory_mib(pid: int) -> float:
    """The largest resident set among `pid` and its descendants (a profiler may be its parent)."""
    return max(_resident(each) for each in tree(pid)) / MIB


def peak_mib(pid: int) -> float:
    """The largest that any of them has ever been."""
    return max(_resident(each, "VmHWM:") for each in tree(pid)) / MIB


def tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _resident(pid: int, name: str = "VmRSS:") -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
