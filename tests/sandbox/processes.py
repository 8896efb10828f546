"""Programs that the sandbox starts: ports, logs, pid files, and how they end.

What is here knows nothing of Kubernetes. A process is either *tethered*, then it dies with the Python process that
started it, or *detached*, then it lives until `python -m tests.sandbox down`. Either way a pid file tells it from an
unrelated process that got the same number later.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TETHER = Path(__file__).with_name("tether.py")

# The kernel sends the parent-death signal when the forking *thread* ends, so one thread that lives as long as the
# interpreter does all the forking; callers may come and go.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawner")


class ProcessEnded(Exception):
    """A program of the sandbox ended by itself. The message has the end of its log."""


@dataclass(slots=True, kw_only=True)
class Process:
    """One running program. Every signal goes to its whole process group."""

    name: str
    pid: int
    started: str
    """When the kernel says it started: pid and this together are unique until the next boot."""
    log: Path
    pid_file: Path
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    """None when another process started it: then it cannot be waited for, only watched."""

    def alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return start_of(self.pid) == self.started

    def check(self) -> None:
        """Raise ProcessEnded if it is not running."""
        if not self.alive():
            code = "" if self.child is None else f" with exit code {self.child.returncode}"
            raise ProcessEnded(f"{self.name} ended{code}; the end of {self.log} is:\n{tail(self.log)}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended already."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Stop all of its threads. A signal alone is on its way for a moment, in which one of them may still answer."""
        self.signal(signal.SIGSTOP)
        while any(_state(thread) not in "TtZX" for thread in Path(f"/proc/{self.pid}/task").glob("*/stat")):
            time.sleep(0.001)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it has ended within that time."""
        if self.child is not None:
            try:
                self.child.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                return False
            return True
        deadline = time.monotonic() + timeout_seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def forget(self) -> None:
        """Remove the pid file of a process that has ended."""
        self.pid_file.unlink(missing_ok=True)


def spawn(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    pid_file: Path,
    env: Mapping[str, str],
    cwd: Path,
    tethered: bool,
) -> Process:
    """Start a program in a session and process group of its own, with its output appended to `log`."""
    command = list(argv)
    if tethered:
        command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]

    def fork() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )

    child = _spawner.submit(fork).result()
    started = start_of(child.pid) or ""
    temporary = pid_file.with_suffix(".tmp")
    temporary.write_text(f"{child.pid} {started}\n")
    temporary.replace(pid_file)
    return Process(name=name, pid=child.pid, started=started, log=log, pid_file=pid_file, child=child)


def read_pid_files(directory: Path, logs: Path) -> Iterator[Process]:
    """The processes still running of which `directory` has pid files. Files of processes that are gone are removed."""
    for pid_file in sorted(directory.glob("*.pid")):
        name = pid_file.stem
        pid, _, started = pid_file.read_text().strip().partition(" ")
        process = Process(name=name, pid=int(pid), started=started, log=logs / f"{name}.log", pid_file=pid_file)
        if process.alive():
            yield process
        else:
            process.forget()


def end(processes: Iterable[Process], *, grace_seconds: float) -> None:
    """End them all: SIGTERM at once to each, SIGKILL to what is left after the grace (at once if it is 0)."""
    waiting = list(processes)
    if grace_seconds > 0:
        for process in waiting:
            # A stopped process does not see SIGTERM before it is continued.
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGCONT)
        deadline = time.monotonic() + grace_seconds
        for process in list(waiting):
            if process.wait(max(0.0, deadline - time.monotonic())):
                process.forget()
                waiting.remove(process)
    for process in waiting:
        process.signal(signal.SIGKILL)
    for process in waiting:
        if not process.wait(10):
            raise TimeoutError(f"{process.name} (pid {process.pid}) did not end on SIGKILL")
        process.forget()


def _state(stat: Path) -> str:
    """One letter, as proc(5) has it; X for what is gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def start_of(pid: int) -> str | None:
    """When a process started, as an opaque word; None if there is no such process or it is only waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name stands in brackets and may hold anything; fields are counted from behind it. See proc_pid_stat(5).
        fields = stat.rpartition(")")[2].split()
        state, started = fields[0], fields[19]
        if state in "ZX":
            return None
        return f"{started}@{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except (FileNotFoundError, ProcessLookupError):
        if sys.platform == "linux":
            return None
    # Elsewhere ps has to do; its resolution is a second.
    ps = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = ps.stdout.strip().partition(" ")
    return started.strip().replace(" ", "_") if state and not state.startswith("Z") else None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on just now.

    They are taken from below the ranges that kernels use for outgoing connections (from 32768 on Linux), so that a
    server which was stopped finds its port free again. Somebody may still be faster: starting is tried again then.
    """
    chosen: list[int] = []
    for port in random.sample(range(15000, 32000), 2000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise OSError(f"no {count} free ports between 15000 and 32000 on loopback")


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"
