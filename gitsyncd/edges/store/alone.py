"""One daemon per state directory: two would overwrite each other's facts and do everything twice."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitsyncd.edges.store.files import local_error
from gitsyncd.model.errors import LocalError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for as long as the context lasts; a crash lets go of it, too.

    A full disk, on which the lock cannot even be made, keeps no daemon from running.
    Raises `LocalError` when another daemon holds the folder, or when it cannot be used at all.
    """
    lock = _open(folder)
    try:
        if lock is not None:
            _take(lock, folder)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(folder / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno in _FULL:
            return None
        raise local_error(error, folder) from error


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
            return  # a file system without locks
        raise LocalError(
            f"{folder} is in use by another daemon",
            hint="Stop that one (or ask it to look now: `gitsyncd sync`), or give this one its own `agent.state_dir` "
            "and `agent.socket`.",
        ) from error
