"""Where log lines go: a descriptor whose reader may be slow, stop reading, or go away. None of it stops the daemon.

Belongs here: the queue before that descriptor, and what journald is told. Does not belong here: how a line looks
(`logs`).
"""

from __future__ import annotations

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO, TextIO

MOST = 2 * 1024 * 1024
"""Characters that wait for a reader. Some 8,000 lines: minutes of a busy daemon, and no burden on a small machine."""
_END_WITHIN_S = 1.0


def to_journald(stream: IO[str], environment: Mapping[str, str]) -> bool:
    """Whether the stream leads to systemd's journal, as JOURNAL_STREAM says (systemd.exec(5)).

    The variable is inherited, also by those whose output was sent elsewhere, hence the comparison.
    """
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class Lines:
    """Whole lines for a descriptor, written by a thread of its own, so that a reader that stalls stalls that alone.

    What does not fit the queue is lost and counted; the count is written where the lines would stand.
    """

    def __init__(self, stream: TextIO, lost: Callable[[int], object]) -> None:
        """`lost` logs how many were lost, which comes here as a line like any other.

        Raises `OSError` for a stream without descriptor.
        """
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding or "utf-8"
        self._tell = lost
        self._waiting: deque[str] = deque()
        self._size = 0
        self._lost = 0
        self._news = threading.Condition()
        self._writer: threading.Thread | None = None
        self._writing = False
        self._gone = False
        stream.flush()

    def write(self, text: str) -> int:
        """Never waits for the reader."""
        with self._news:
            if self._gone:
                return len(text)
            if self._size + len(text) > MOST:
                self._lost += 1
                return len(text)
            self._own_up()
            self._waiting.append(text)
            self._size += len(text)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                self._writer.start()
                atexit.register(self.finish)
            self._news.notify_all()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: each line is on its way."""

    def finish(self, within_s: float = _END_WITHIN_S) -> None:
        """Until everything is written, or nobody reads it in time."""
        with self._news:
            self._own_up()
            self._news.wait_for(lambda: self._gone or not (self._waiting or self._writing), within_s)

    def _own_up(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            self._tell(lost)

    def _write_on(self) -> None:
        while not self._gone:
            with self._news:
                self._writing = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting)
                text = self._waiting.popleft()
                self._size -= len(text)
                self._writing = True
            try:
                self._deliver(text.encode(self._encoding, "backslashreplace"))
            except BrokenPipeError:
                # Nobody reads the log any more. That must not stop a daemon from doing its work.
                with self._news:
                    self._gone = True
                    self._waiting.clear()
                    self._news.notify_all()
            except OSError:  # such as a full disk, which may be mended
                with self._news:
                    self._lost += 1

    def _deliver(self, rest: bytes) -> None:
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the descriptor made it so
                select.select([], [self._descriptor], [])
