"""Starting, feeding, limiting and ending child processes, from the parent's side.

A child gets a session and process group of its own, an empty environment plus what is named, limits, a deadline and a
cap on what it may answer. However the call ends (answer, deadline, cancellation), the whole group is killed and the
child is reaped before it returns, and a child dies with this process should that be killed. What its answer means is
the caller's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from gitsyncd.edges.child.command import Limits, command
from gitsyncd.edges.child.launch import OUT_OF_MEMORY
from gitsyncd.model.errors import LocalError
from gitsyncd.model.immutable import immutable

STARTING = "child starting"
"""Name of the tasks that have to come to their end, a millisecond or two later, before everything may be cancelled.

What connects the pipes of a child is a task of asyncio's own. Without it, or when the start itself is cancelled,
asyncio waits for the exit of a child that is not quite started, and so for ever (seen on 3.11).
"""
_STDERR_KEPT = 4096
_LAST_WORDS_S = 5.0
"""How long to hear out the streams of a dead child. Only a grandchild that left the group can keep them open."""


class Ending(StrEnum):
    """How a child came to its end."""

    EXITED = "exited"
    """By itself; `code` is its exit code."""
    SIGNALLED = "signalled"
    """By a signal that this module did not send: a crash, a limit of CPU time, the kernel short of memory."""
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    """A module of ours met its limit. Other programs show that in ways of their own."""
    OVERFLOWED = "overflowed"
    """It answered more than the caller wanted to hold."""


@immutable
class ChildResult:
    """What came of a child. `stdout` is what it answered until then, whole only when it exited."""

    ending: Ending
    code: int
    """Exit code, or the number of the signal."""
    stdout: bytes = field(repr=False)
    stderr_tail: bytes = field(repr=False)
    """At most the last 4 KiB. It may quote whatever the child was given: never shown or logged as it is."""

    @classmethod
    def of(cls, returncode: int, *, ending: Ending | None, stdout: bytes, stderr_tail: bytes = b"") -> ChildResult:
        """With `ending` for a reason that is known already."""
        if ending is None:
            ending = Ending.SIGNALLED if returncode < 0 else Ending.EXITED
        if ending is Ending.EXITED and returncode == OUT_OF_MEMORY:
            ending = Ending.OUT_OF_MEMORY
        return cls(ending=ending, code=abs(returncode), stdout=stdout, stderr_tail=stderr_tail)

    @property
    def succeeded(self) -> bool:
        return self.ending is Ending.EXITED and self.code == 0

    def __str__(self) -> str:
        """For messages: `exit code 3`, `signal SIGSEGV`, `timed out`."""
        if self.ending is Ending.EXITED:
            return f"exit code {self.code}"
        if self.ending is Ending.SIGNALLED:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(self.code).name}"
            return f"signal {self.code}"
        return self.ending.value


async def run_child(
    argv: Sequence[str],
    *,
    limits: Limits,
    deadline: timedelta,
    max_output: int,
    stdin: bytes | Iterable[bytes] = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ChildResult:
    """Run one child to its end. `argv` is `python_module(…)`, or an absolute program and its arguments.

    `stdin` is taken piece by piece as the child reads it; `max_output` is in bytes. A child that dies, hangs or talks
    too much is a result and no exception. Raises `LocalError` when no process can be started at all, and what `stdin`
    raises.
    """
    child = await WaitingChild.start(argv, limits=limits, max_output=max_output, env=env, cwd=cwd)
    return await child.run(stdin, deadline=deadline)


class WaitingChild:
    """A child that was started and reads its standard input, where nothing is yet.

    Whoever starts one either has it `run` or `end`, once.
    """

    def __init__(self, transport: asyncio.SubprocessTransport, child: _Child) -> None:
        self._transport = transport
        self._child = child

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        limits: Limits,
        max_output: int,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """As for `run_child`. Raises `LocalError`."""
        starting = asyncio.create_task(
            asyncio.get_running_loop().subprocess_exec(
                lambda: _Child(max_output),
                *command(argv, limits),
                env=dict(env or {}),
                cwd=cwd or "/",
                start_new_session=True,
            ),
            name=STARTING,
        )
        try:
            return cls(*await asyncio.shield(starting))
        except OSError as error:
            raise LocalError(
                f"no child process can be started: {error.strerror}",
                hint="Check the limits of processes, descriptors and memory of the agent's service.",
            ) from error
        except asyncio.CancelledError:
            while not starting.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({starting})
            if starting.exception() is None:
                await cls(*starting.result()).end()
            raise

    async def run(self, stdin: bytes | Iterable[bytes], *, deadline: timedelta) -> ChildResult:
        """As `run_child`; `deadline` counts from now on."""
        child = self._child
        alarm = asyncio.get_running_loop().call_later(deadline.total_seconds(), child.end, Ending.TIMED_OUT)
        feeding = asyncio.create_task(child.feed((stdin,) if isinstance(stdin, bytes) else stdin))
        try:
            await child.exited.wait()
            child.kill()  # grandchildren, and with them the last holders of the streams
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await child.heard_out.wait()
        finally:
            alarm.cancel()
            feeding.cancel()
            await self.end()
        if feeding.done() and not feeding.cancelled() and (failure := feeding.exception()):
            raise failure
        return child.result(self._transport.get_returncode() or 0)

    @property
    def is_over(self) -> bool:
        return self._child.exited.is_set()

    async def end(self) -> None:
        """It and all that it started is gone afterwards."""
        self._child.kill()
        try:
            await _reaped(self._child)
        finally:
            self._transport.close()


class ChildAhead:
    """A child that is started while what it will read is still collected. It takes a twentieth of a second or more."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, WaitingChild]]) -> None:
        self._start = start
        self._starting = asyncio.create_task(start())
        self._used = False

    async def run(self, stdin: bytes | Iterable[bytes], *, deadline: timedelta) -> ChildResult:
        """As `run_child`, once at most. Raises `LocalError` when it could not be started."""
        child = await self._starting
        if child.is_over:  # the kernel took it while it waited: that says nothing of what it would have read
            await self.end()
            child = await self._start()
        self._used = True
        return await child.run(stdin, deadline=deadline)

    async def end(self) -> None:
        """Whether it was needed or not."""
        if not self._used:
            with contextlib.suppress(LocalError):
                await (await self._starting).end()


@contextlib.asynccontextmanager
async def started_ahead(argv: Sequence[str], *, limits: Limits, max_output: int) -> AsyncIterator[ChildAhead]:
    """One that is gone when the context ends."""
    child = ChildAhead(lambda: WaitingChild.start(argv, limits=limits, max_output=max_output))
    try:
        yield child
    finally:
        await child.end()


async def _reaped(child: _Child) -> None:
    """Wait until a killed child is gone. It takes no longer than the kernel needs; a cancellation must not skip it."""
    cancelled: asyncio.CancelledError | None = None
    while not child.exited.is_set():
        try:
            await child.exited.wait()
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled


class _Child(asyncio.SubprocessProtocol):
    """What asyncio tells about one child: what it said, when it may be told more, and when it is gone."""

    def __init__(self, max_output: int) -> None:
        self.exited = asyncio.Event()
        self.heard_out = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._listening = True
        self._open_streams = {1, 2}
        self._room = max_output
        self._stdout: list[bytes] = []
        self._stderr = b""
        self._ending: Ending | None = None
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._stderr = (self._stderr + data)[-_STDERR_KEPT:]
        elif len(data) > self._room:
            self._room = 0
            self.end(Ending.OVERFLOWED)
        else:
            self._room -= len(data)
            self._stdout.append(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if fd == 0:
            # A child that stops listening is no error: how it ends says what happened.
            self._listening = False
            self._writable.set()
        self._open_streams.discard(fd)
        if not self._open_streams:
            self.heard_out.set()

    def process_exited(self) -> None:
        self.exited.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def feed(self, pieces: Iterable[bytes]) -> None:
        """Write all input as the child takes it, then close its standard input."""
        assert self._transport is not None
        stdin = self._transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        try:
            for piece in pieces:
                await self._writable.wait()
                if not self._listening:
                    return
                stdin.write(piece)
        except BaseException:
            self.kill()  # it would take half of its input for the whole, or wait for the rest
            raise
        stdin.close()

    def end(self, ending: Ending) -> None:
        """Kill it, for this reason. The first reason counts."""
        if self._ending is None and not self.exited.is_set():
            self._ending = ending
        self.kill()

    def kill(self) -> None:
        """Every process of the child's group. None left is fine."""
        assert self._transport is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def result(self, returncode: int) -> ChildResult:
        return ChildResult.of(returncode, ending=self._ending, stdout=b"".join(self._stdout), stderr_tail=self._stderr)
