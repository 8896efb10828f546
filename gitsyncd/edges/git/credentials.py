"""Files of credentials: read at each use, and how one sees that they were replaced."""

from __future__ import annotations

import errno
from pathlib import Path

from gitsyncd.edges.named_file import read_named
from gitsyncd.model.errors import SourceDenied

SECRET_BYTES = 64 << 10
"""Of a password, a token, a key: more is not read."""

FileState = tuple[tuple[int, ...] | None, ...]


def read_file(path: Path, *, what: str, key: str, shown: str, limit: int = SECRET_BYTES) -> bytes:
    """The content, without line ends after it, and never empty. `what` is its name in words, `key` in the agent file.

    Raises `SourceDenied`.
    """
    try:
        content = read_named(path, limit)
        content = content.rstrip(b"\r\n")
        if not content:
            raise OSError(errno.ENODATA, "it is empty")
        return content
    except OSError as error:
        raise SourceDenied(
            f"{shown}: the {what} {path} cannot be read: {error.strerror}",
            hint=f"Check `{key}` of this source, and that the agent's user may read it.",
        ) from error


def file_state(*paths: Path | None) -> FileState:
    """Equal as long as none of these files was written or replaced. A file that is not there has a state too."""
    return tuple(_state(path) for path in paths)


def _state(path: Path | None) -> tuple[int, ...] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return ()
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
