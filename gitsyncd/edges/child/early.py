"""A child that is started before there is an event loop, and told only later what to do.

Starting Python and importing what reads takes it a third of a second, in which its parent has as much to import. Every
other child is run by `process`, which promises more: here what a child answers is held in memory whole before it is
measured, and a descendant that leaves its process group is not waited for but not ended either. Good enough for our own
program reading the operator's own files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gitsyncd.edges.child.command import Limits, command

if TYPE_CHECKING:
    from datetime import timedelta

    from gitsyncd.edges.child.process import ChildResult


_LAST_WORDS_S = 5.0
"""For the streams of a child that was killed. Only a descendant that left its group can keep them open."""


class EarlyChild:
    """One child, which waits for its standard input. It dies with this process, as any other."""

    def __init__(self, argv: Sequence[str], *, limits: Limits, env: Mapping[str, str]) -> None:
        """Raises `OSError` when no process can be started."""
        self._process = subprocess.Popen(
            command(argv, limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )

    async def answer(self, stdin: bytes, *, deadline: timedelta, max_output: int) -> ChildResult:
        """Tell it what to do, and wait for its end. To be called once."""
        import asyncio

        try:
            return await asyncio.to_thread(self._communicate, stdin, deadline.total_seconds(), max_output)
        finally:
            self._kill()  # when nobody waits for it any more, neither may the thread

    def _communicate(self, stdin: bytes, within_s: float, max_output: int) -> ChildResult:
        from gitsyncd.edges.child.process import ChildResult, Ending

        ending: Ending | None = None
        try:
            stdout, _ = self._process.communicate(stdin, timeout=within_s)
        except subprocess.TimeoutExpired:
            ending = Ending.TIMED_OUT
            self._kill()
            try:
                stdout, _ = self._process.communicate(timeout=_LAST_WORDS_S)
            except subprocess.TimeoutExpired as error:
                stdout = error.stdout or b""
        if len(stdout) > max_output:
            ending, stdout = Ending.OVERFLOWED, b""
        returncode = self._process.poll()
        return ChildResult.of(-signal.SIGKILL if returncode is None else returncode, ending=ending, stdout=stdout)

    def _kill(self) -> None:
        """Every process of its group. None left is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
