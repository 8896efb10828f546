"""CPU and memory of processes, from /proc."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_S = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, its threads included, its children not."""
    # The command's name stands in brackets and may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def tree(pid: int) -> Iterator[int]:
    """The process and what descends from it. A child that is a mere copy before its `exec` is left out: it shares every
    page with its parent.
    """
    yield pid
    own = _command(pid)
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if _command(int(child)) != own:
                    yield from tree(int(child))


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def status_bytes(pid: int, key: str) -> int:
    """A size of /proc/PID/status, such as VmRSS or VmHWM; 0 for a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024
    return 0


def resident(pid: int) -> int:
    """Bytes of the whole tree. Pages that processes share are counted once for each of them."""
    return sum(status_bytes(process, "VmRSS") for process in tree(pid))


@dataclass(slots=True)
class Peak:
    """The most that a process and its descendants held at one time, as the sum of their own high-water marks."""

    bytes: int = 0
    parts: dict[int, int] = field(default_factory=dict)


@contextlib.contextmanager
def sampled(pid: int) -> Iterator[Peak]:
    """Looks every 10 ms for as long as the context lasts."""
    peak, over = Peak(), threading.Event()
    sampler = threading.Thread(target=_sample, args=(pid, peak, over), daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        over.set()
        sampler.join()


def _sample(pid: int, peak: Peak, over: threading.Event) -> None:
    while not over.wait(SAMPLE_S):
        parts = {process: status_bytes(process, "VmHWM") for process in tree(pid)}
        if sum(parts.values()) > peak.bytes:
            peak.bytes, peak.parts = sum(parts.values()), parts


def settle(pids: list[int], *, busy: float = 0.05, over_s: float = 0.5, within_s: float = 15.0) -> bool:
    """Wait until these processes together use less than this share of a core. Whether they came to rest in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        before = sum(map(cpu_seconds, pids))
        time.sleep(over_s)
        if sum(map(cpu_seconds, pids)) - before <= busy * over_s:
            return True
    return False
