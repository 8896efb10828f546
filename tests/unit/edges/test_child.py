"""Children are contained: what they use, what they keep, how they end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.child.command import Limits
from gitsyncd.edges.child.early import EarlyChild
from gitsyncd.edges.child.process import STARTING, ChildResult, Ending, run_child, started_ahead
from gitsyncd.model.errors import LocalError

LIMITS = Limits(memory_bytes=1 << 30, cpu_seconds=20)


async def run(code: str, *, limits: Limits = LIMITS, seconds: float = 20, **more: object) -> ChildResult:
    return await run_child(
        (sys.executable, "-I", "-c", code),
        limits=limits,
        deadline=timedelta(seconds=seconds),
        max_output=1 << 20,
        **more,  # type: ignore[arg-type]
    )


def runs(pid: int) -> bool:
    """Whether the process does anything. An orphan that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int, seconds: float = 5) -> bool:
    """Whether the process is gone, within the deadline."""
    until = time.monotonic() + seconds
    while runs(pid):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.01)
    return True


def children() -> set[str]:
    """Direct children of this process, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_what_is_written_to_a_child_comes_back_as_its_answer() -> None:
    pieces = [b"x" * 70_000, b"y" * 70_000, b"z"]

    result = await run("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())", stdin=pieces)

    assert result.succeeded
    assert result.stdout == b"".join(pieces)


async def test_a_child_sees_no_environment_but_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")

    result = await run("import os; print(sorted(k for k in os.environ if k != 'LC_CTYPE'))", env={"NAMED": "1"})

    assert result.stdout == b"['NAMED']\n"


async def test_a_child_that_crashes_is_a_result_that_names_the_signal() -> None:
    result = await run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")

    assert (result.ending, str(result)) == (Ending.SIGNALLED, "signal SIGSEGV")


async def test_a_child_cannot_use_more_memory_than_its_limit() -> None:
    result = await run("b = bytearray(300 << 20)", limits=Limits(memory_bytes=256 << 20, cpu_seconds=5))

    assert (result.ending, result.code) == (Ending.EXITED, 1)
    assert b"MemoryError" in result.stderr_tail


async def test_a_child_cannot_use_more_cpu_time_than_its_limit() -> None:
    result = await run("while True: pass", limits=Limits(memory_bytes=1 << 30, cpu_seconds=1))

    assert result.ending is Ending.SIGNALLED


async def test_a_child_leaves_no_core_dump_and_has_a_session_and_no_network_of_its_own() -> None:
    code = """
import os, resource
print(resource.getrlimit(resource.RLIMIT_CORE)[1], os.getsid(0) == os.getpgid(0) == os.getpid())
print([line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]])
"""

    result = await run(code)

    assert result.stdout == b"1 True\n['lo']\n"


async def test_a_child_that_writes_no_files_cannot_write_one(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'f')!r}, 'wb', buffering=0).write(b'x')"

    result = await run(code)

    assert b"File too large" in result.stderr_tail


async def test_a_child_that_forbids_itself_new_descriptors_can_open_neither_file_nor_socket() -> None:
    code = """
import socket
from gitsyncd.edges.child.launch import forbid_new_descriptors
forbid_new_descriptors()
for attempt in (lambda: open('/proc/self/stat'), socket.socket):
    try:
        attempt()
        print('opened')
    except OSError as error:
        print(error.errno)
"""

    result = await run(code)

    assert result.stdout == b"24\n24\n"


async def test_a_child_that_does_not_end_is_killed_with_all_its_children_at_the_deadline() -> None:
    code = """
import os, subprocess, sys, time
other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
print(os.getpid(), other.pid, flush=True)
time.sleep(600)
"""
    before = children()

    result = await run(code, seconds=1)

    assert result.ending is Ending.TIMED_OUT
    assert [await gone(int(pid)) for pid in result.stdout.split()] == [True, True]
    assert children() <= before


async def test_a_child_that_says_too_much_is_killed() -> None:
    result = await run("import sys\nwhile True: sys.stdout.write('x' * 65536)")

    assert result.ending is Ending.OVERFLOWED
    assert len(result.stdout) <= 1 << 20


async def test_a_child_that_floods_its_standard_error_is_remembered_by_its_last_words() -> None:
    result = await run("import sys\nfor _ in range(10_000): sys.stderr.write('x' * 1000)\nsys.stderr.write('end')")

    assert result.succeeded
    assert len(result.stderr_tail) <= 4096
    assert result.stderr_tail.endswith(b"end")


async def test_a_child_that_does_not_read_its_input_is_no_error() -> None:
    result = await run("print(1)", stdin=[b"x" * (1 << 20)] * 4)

    assert (result.succeeded, result.stdout) == (True, b"1\n")


async def test_a_grandchild_that_keeps_the_streams_open_is_not_waited_for() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"

    began = time.monotonic()
    result = await run(code, seconds=60)

    assert result.succeeded
    assert time.monotonic() - began < 10


async def test_cancelling_kills_and_reaps_the_child(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    before = children()
    code = f"import os, time; open({str(ready)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    task = asyncio.create_task(run(code, limits=Limits(memory_bytes=1 << 30, cpu_seconds=5, file_bytes=1 << 20)))
    pid = int(await asyncio.to_thread(ready.read_text))
    task.cancel()
    outcome = await asyncio.gather(task, return_exceptions=True)

    assert isinstance(outcome[0], asyncio.CancelledError)
    assert await gone(pid)
    assert children() <= before


async def test_a_child_dies_with_its_parent() -> None:
    # The child says its number on the standard output of its parent, which is ours to read.
    code = """
import asyncio, sys
from datetime import timedelta
from gitsyncd.edges.child.command import Limits
from gitsyncd.edges.child.process import run_child
child = "import os, time; print(os.getpid(), file=open(f'/proc/{os.getppid()}/fd/1', 'w')); time.sleep(600)"
limits = Limits(memory_bytes=1 << 30, cpu_seconds=5, file_bytes=1 << 20)
asyncio.run(run_child((sys.executable, "-I", "-c", child), limits=limits, deadline=timedelta(minutes=1), max_output=100))
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())

    parent.kill()
    await parent.wait()

    assert await gone(pid)


async def test_input_that_fails_while_it_is_read_is_the_callers_error_and_ends_the_child() -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise ValueError("unreadable")

    with pytest.raises(ValueError, match="unreadable"):
        await run("import sys; sys.stdin.read()", stdin=pieces())


async def test_a_place_that_does_not_exist_is_a_local_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError):
        await run("pass", cwd=tmp_path / "missing")


async def test_a_process_that_forbids_core_dumps_forbids_them_to_programs_as_well_and_for_ever() -> None:
    code = (
        "import resource; from gitsyncd.edges.child.launch import forbid_core_dumps; forbid_core_dumps();"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)

    assert (await done.communicate())[0] == b"(1, 1)\n"


@pytest.mark.parametrize(
    "everything", [False, True], ids=["whoever started it is cancelled", "everything is cancelled"]
)
async def test_a_start_that_is_cancelled_at_any_moment_comes_to_an_end_and_leaves_no_child(everything: bool) -> None:
    """asyncio alone would wait for ever for a child that is not quite started."""
    before, mine = children(), asyncio.all_tasks()

    async def work() -> None:
        async with started_ahead((sys.executable, "-I", "-c", "input()"), limits=LIMITS, max_output=100):
            await asyncio.sleep(60)

    for number in range(40):
        working = asyncio.create_task(work())
        for _ in range(number % 8):
            await asyncio.sleep(0)
        if number >= 16:
            await asyncio.sleep(number * 0.0001)
        while everything and (starting := [task for task in asyncio.all_tasks() if task.get_name() == STARTING]):
            await asyncio.wait(starting)
        for task in asyncio.all_tasks() - mine if everything else {working}:
            task.cancel()
        ended, _ = await asyncio.wait({working}, timeout=20)
        assert ended, f"cancelled at moment {number}, it did not end"

    assert children() <= before


# --- one that is started before there is an event loop -------------------------------------------------------------

WAITS = "import sys; text = sys.stdin.read(); "
SOON = timedelta(seconds=20)


def early(code: str) -> EarlyChild:
    return EarlyChild((sys.executable, "-I", "-c", WAITS + code), limits=LIMITS, env={"A": "b"})


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; print(text, os.environ['A'], end='')", (Ending.EXITED, 0, b"what to do b")),
        ("print(text, end=''); sys.exit(3)", (Ending.EXITED, 3, b"what to do")),
        ("import os; os.kill(os.getpid(), 11)", (Ending.SIGNALLED, 11, b"")),
    ],
)
async def test_an_early_child_ends_as_others_do(code: str, expected: tuple[Ending, int, bytes]) -> None:
    result = await early(code).answer(b"what to do", deadline=SOON, max_output=100)

    assert (result.ending, result.code, result.stdout) == expected


async def test_an_early_child_that_takes_too_long_is_ended_with_all_that_it_started() -> None:
    code = "import os, time; os.fork(); print(os.getpid(), flush=True); time.sleep(600)"

    result = await early(code).answer(b"", deadline=timedelta(seconds=4), max_output=100)

    assert result.ending is Ending.TIMED_OUT
    pids = [int(line) for line in result.stdout.split()]
    assert len(pids) == 2
    for pid in pids:
        assert await gone(pid)


async def test_an_early_child_that_is_over_does_not_keep_its_descendants(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = (
        f"import os, time; os.fork() and os._exit(0); open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    child = EarlyChild(
        (sys.executable, "-I", "-c", WAITS + code),
        limits=Limits(memory_bytes=1 << 30, cpu_seconds=20, file_bytes=100),
        env={},
    )

    begun = time.monotonic()
    await child.answer(b"", deadline=timedelta(seconds=4), max_output=100)

    assert time.monotonic() - begun < 20
    assert await gone(int(pid.read_text()))


async def test_an_early_child_that_says_too_much_is_told_as_such() -> None:
    result = await early("print('x' * 101)").answer(b"", deadline=SOON, max_output=100)

    assert (result.ending, result.stdout) == (Ending.OVERFLOWED, b"")


async def test_an_early_child_ends_when_nobody_waits_for_it_any_more() -> None:
    before = children()
    child = early("import time; time.sleep(600)")
    (pid,) = children() - before

    waiting = asyncio.create_task(child.answer(b"", deadline=SOON, max_output=100))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await gone(int(pid))
