"""Whether a program that an operator has named may be run: nobody else must be able to put another in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path


def by_name(name: str, listed: Sequence[Path]) -> Path | None:
    """The one listed program of that name; where two have it, none."""
    found = [program for program in listed if program.name == name]
    return found[0] if len(found) == 1 else None


def why_unsafe(program: Path) -> str:
    """What speaks against running this absolute name; empty when nothing does. Links are followed.

    The file must belong to root or to the agent's user and be writable by nobody else, and no folder that leads to it
    may be open to everybody. A group may write to a folder: on Debian `staff` has /usr/local, and is as good as root.
    """
    try:
        real = program.resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError, ValueError):
        return "does not exist, or cannot be reached"
    if not stat.S_ISREG(found.st_mode):
        return "is no file"
    if not os.access(real, os.X_OK):
        return "cannot be executed by the agent's user"
    if not _is_ours(found.st_uid):
        return "belongs to neither root nor the agent's user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by its group or by everybody"
    for folder in {*program.parents, *real.parents}:
        if why := _why_open(folder):
            return why
    return ""


def _why_open(folder: Path) -> str:
    found = folder.stat()
    if not _is_ours(found.st_uid):
        return f"is in {folder}, which belongs to neither root nor the agent's user"
    # In a sticky folder, as /tmp, nobody can replace what belongs to others.
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        return f"is in {folder}, which everybody can write to"
    return ""


def _is_ours(owner: int) -> bool:
    return owner in {0, os.geteuid()}
