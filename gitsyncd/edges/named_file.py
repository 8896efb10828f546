"""Files that the agent file names: passwords, tokens, keys. Read at each use, with a cap, and never waited for."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def read_named(path: Path, most: int) -> bytes:
    """The whole content, of at most so many bytes. Raises `OSError`, whose `strerror` says in words what is wrong."""
    # Not to wait for whoever writes to a pipe: this thread would be lost.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
        raise OSError(errno.EFBIG, f"it is larger than {size}")
    return content
