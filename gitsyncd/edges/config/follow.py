"""Noticing that the agent file was replaced or written, without asking more of the system than one `stat` a second."""

from __future__ import annotations

import os
from pathlib import Path

Stamp = tuple[int, int, int, int]


class Follower:
    """One file, whether it is there or not."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = self._last = _stamp(file)

    def settled_anew(self) -> bool:
        """Whether it is another one than was last told of, and has stayed the same since the last look.

        An editor, or a copy over a slow line, writes piece by piece: half a file may be a valid one.
        """
        now = _stamp(self._file)
        calm, self._last = now == self._last, now
        if not calm or now == self._read or now is None:
            return False
        self._read = now
        return True

    def unread(self) -> None:
        """What was told of last could not be read, for want of something else: it is news again."""
        self._read = None

    def taken(self) -> None:
        """It was read just now, for another reason."""
        self._read = self._last = _stamp(self._file)


def _stamp(file: Path) -> Stamp | None:
    """None while there is none: it is being replaced, or gone, and what was read from it goes on to be true."""
    try:
        status = os.stat(file)  # noqa: PTH116 - one system call, each second
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
