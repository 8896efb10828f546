"""A child that is started before there is an event loop, and told only later what to do.

Starting Python and importing what reads takes it a third of a second, in which its parent has as much to import. Every
other child is run by `process`, which has the same promises and more.
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

    async def answer(self, stdin: bytes, *, deadline: timedelta) -> ChildResult:
        """Tell it what to do, and wait for its end. To be called once."""
        import asyncio

        from gitsyncd.edges.child.process import ChildResult, Ending

        def communicate() -> ChildResult:
            ending: Ending | None = None
            try:
                stdout, _ = self._process.communicate(stdin, timeout=deadline.total_seconds())
            except subprocess.TimeoutExpired:
                ending = Ending.TIMED_OUT
                self._kill()
                stdout, _ = self._process.communicate()
            return ChildResult.of(self._process.returncode, ending=ending, stdout=stdout)

        try:
            return await asyncio.to_thread(communicate)
        finally:
            self._kill()  # when nobody waits for it any more, neither may the thread

    def _kill(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
