"""Files that say how a cluster is reached: their text, and whether they are still those that were read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from gitsyncd.model.errors import ConfigError

MAX_BYTES = 4 * 2**20
Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp:
    """Device and inode are not enough: a token is often rewritten in place. A missing file has a stamp, too."""
    try:
        found = file.stat()  # follows links: the kubelet and systemd swap a link to a new folder
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    """Of each."""
    return {file: stamp(file) for file in files}


def content(file: Path, what: str, *, subject: str = "") -> str:
    """The text of a file. Raises `ConfigError` that names it as `what`, and the cluster as `subject`."""
    try:
        # Not to wait for whoever writes to a pipe: this is an event loop.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(f"{what} {file} is not a regular file", subject=subject)
            found = stream.read(MAX_BYTES + 1)
        if len(found) > MAX_BYTES:
            raise ConfigError(f"{what} {file} is larger than 4 MiB", subject=subject)
        return found.decode()
    except OSError as error:
        raise ConfigError(
            f"{what} {file} cannot be read: {error.strerror}",
            subject=subject,
            hint="Check the name, and that the agent's user may read it.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} {file} is no text", subject=subject) from error
