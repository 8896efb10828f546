"""One small JSON file per fact, written to a temporary name, synchronised to disk, and renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from gitsyncd.model.errors import LocalError

_MAX_BYTES = 1 << 20


class FileStore:
    """Facts in a folder that only the agent may read. Satisfies the engine's `Store`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> Mapping[str, Any]:
        """Empty when the file is missing, unreadable or damaged: a fact that is lost is asked for again."""
        try:
            # Not through a link, and without waiting for whoever writes to a pipe that lies there.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._folder / f"{name}.json", flags), "rb") as file:
                value = orjson.loads(file.read(_MAX_BYTES))
        except (OSError, orjson.JSONDecodeError):
            return {}
        return value if isinstance(value, dict) else {}

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        """Atomic and durable. Raises `LocalError` when the disk is full or may not be written."""
        final = self._folder / f"{name}.json"
        temporary = self._folder / f".{name}.json.new"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise local_error(error, self._folder) from error


class MemoryStore:
    """Facts for one command only, on top of those that a daemon left: nothing is written to disk."""

    def __init__(self, below: FileStore | None = None) -> None:
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._below = below

    def load(self, name: str) -> Mapping[str, Any]:
        if name in self._facts:
            return self._facts[name]
        return self._below.load(name) if self._below is not None else {}

    def save(self, name: str, value: Mapping[str, Any]) -> None:
        self._facts[name] = dict(value)


def local_error(error: OSError, folder: Path) -> LocalError:
    """What the operating system refused, in words with a fix."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LocalError(f"the disk of {folder} is full", hint="Free some space; gitsyncd goes on by itself.")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return LocalError(
            f"{folder} may not be written: {error.strerror}",
            hint="Set `agent.state_dir` to a folder that belongs to the user the agent runs as.",
        )
    return LocalError(f"{folder}: {error.strerror or error}", hint="Check `agent.state_dir` in the agent file.")
