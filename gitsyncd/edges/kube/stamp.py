"""Whether a file is still the one that was read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
