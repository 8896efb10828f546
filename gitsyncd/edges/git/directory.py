"""The mirror's directory: its layout, whose turn it is to change it, what a crash leaves, and setting it aside.

    <directory>/objects/pack/pack-*.pack, .idx    complete and verified packs, never changed, only joined or added to
    <directory>/packed-refs                       the heads as last fetched: hints for the next fetch, never trusted
    <directory>/incoming/                         work in progress; nothing in it survives a turn
    <directory>/HEAD, config                      for people who look at it with git; never read
    <directory>.lock                              held (flock) while anything above is changed
    <directory>.damaged-<n>                       the last mirror that was found damaged

Several processes may share one mirror (a daemon, and `plan` beside it): changing it is done in turns, reading needs
none, because packs are immutable and an open pack stays readable when it is removed.
Objects only ever come as packs that were closed when they were added (whatever they refer to was there), so whatever is
there is there with all of its history.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gitsyncd.model.errors import LocalError

_HEAD = "ref: refs/heads/main\n"
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_REF = re.compile(r"([0-9a-f]{40}) refs/heads/(\S+)")
_LOCK_POLL_SECONDS = 0.02


def private(path: str, flags: int) -> int:
    """An `opener` for files of the mirror: for its owner alone, and never through a link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def local_error(what: str, error: OSError) -> LocalError:
    """An operating system's refusal, in words."""
    reason = error.strerror or type(error).__name__
    return LocalError(f"{what}: {reason}", hint="Check disk space, permissions and limits of `agent.state_dir`.")


class MirrorDirectory:
    """Where a mirror lives. Blocking calls, all of them short."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packs = root / "objects" / "pack"
        self.incoming = root / "incoming"

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Alone in changing the directory, which is swept and complete when the turn begins. Waits for others.

        The caller has the deadline. Raises `LocalError`.
        """
        lock = self._open_lock()
        try:
            # Polled, because a thread that waits in flock could not be called back.
            while not _try_lock(lock):  # noqa: ASYNC110 - another process is waited for, not a task
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            await asyncio.to_thread(self.prepare)
            yield
        finally:
            os.close(lock)

    def _open_lock(self) -> int:
        path = self.root.with_name(self.root.name + ".lock")
        try:
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise local_error(f"the mirror's lock {path} cannot be opened", error) from error

    def prepare(self) -> None:
        """Make what is missing, sweep what a crash left. Only within a turn. Raises `LocalError`."""
        try:
            for folder in (self.root, self.packs.parent, self.packs):
                folder.mkdir(mode=0o700, exist_ok=True)
            shutil.rmtree(self.incoming, ignore_errors=True)
            self.incoming.mkdir(mode=0o700, exist_ok=True)
            for name, text in (("HEAD", _HEAD), ("config", _CONFIG)):
                if not (self.root / name).exists():
                    with open(self.root / name, "w", encoding="ascii", opener=private) as file:
                        file.write(text)
            (self.root / "refs").mkdir(mode=0o700, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise local_error(f"the mirror {self.root} cannot be prepared", error) from error

    def clear_incoming(self) -> None:
        """Remove what did not become part of the mirror. What cannot be removed now is swept in the next turn."""
        with contextlib.suppress(OSError):
            for path in self.incoming.iterdir():
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Locks, temporary files and halves of packs: of a turn that ended in the middle, since turns are exclusive."""
        for folder in (self.root, self.packs):
            for path in folder.iterdir():
                if path.suffix in {".lock", ".tmp"}:
                    path.unlink(missing_ok=True)
        for path in self.packs.iterdir():
            partner = {".pack": ".idx", ".idx": ".pack"}.get(path.suffix)
            if partner is None or not path.with_suffix(partner).exists():
                path.unlink(missing_ok=True)

    def pack_names(self) -> list[str]:
        """Of complete packs, without suffix."""
        names = {entry.name for entry in os.scandir(self.packs)}
        return sorted(name[:-4] for name in names if name.endswith(".idx") and name[:-4] + ".pack" in names)

    def state(self) -> tuple[int, ...]:
        """Changes when packs come or go, or when this is another directory. Empty when there is none."""
        try:
            status = self.packs.stat()
        except OSError:
            return ()
        return (status.st_dev, status.st_ino, status.st_mtime_ns)

    def admit(self, pack: Path, index: Path, checksum: str) -> None:
        """Make a finished pack, which is safe on disk already, part of the mirror. Raises `LocalError`."""
        name = f"pack-{checksum}"
        try:
            pack.rename(self.packs / f"{name}.pack")
            index.rename(self.packs / f"{name}.idx")  # from here on it counts
            _sync_folder(self.packs)
        except OSError as error:
            raise local_error(f"a pack cannot be added to the mirror {self.root}", error) from error

    def retire(self, names: list[str]) -> None:
        """Remove packs whose objects are all in another one."""
        try:
            for name in names:
                (self.packs / f"{name}.idx").unlink(missing_ok=True)  # first: without it the pack does not count
                (self.packs / f"{name}.pack").unlink(missing_ok=True)
            _sync_folder(self.packs)
        except OSError as error:
            raise local_error(f"joined packs cannot be removed from the mirror {self.root}", error) from error

    def heads(self) -> dict[str, str]:
        """Branch to commit, as last written. Lines that are damaged are left out."""
        try:
            text = (self.root / "packed-refs").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        return {match[2]: match[1] for line in text.splitlines() if (match := _REF.fullmatch(line))}

    def write_heads(self, heads: Mapping[str, str]) -> None:
        """Replace all of them, at once. Raises `LocalError`."""
        lines = sorted((f"refs/heads/{branch}", commit) for branch, commit in heads.items())
        text = "# pack-refs with: sorted \n" + "".join(f"{commit} {ref}\n" for ref, commit in lines)
        temporary = self.root / "packed-refs.tmp"
        try:
            with open(temporary, "w", encoding="utf-8", opener=private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.root / "packed-refs")
            _sync_folder(self.root)
        except OSError as error:
            raise local_error(f"the heads of the mirror {self.root} cannot be written", error) from error

    def set_aside(self, state: tuple[int, ...]) -> bool:
        """Move the mirror out of the way, if it is still the one in that state's directory. Keeps the last one only."""
        now = self.state()
        if not now or now[:2] != state[:2]:
            return False
        earlier = sorted(self.root.parent.glob(f"{self.root.name}.damaged-*"))
        numbers = [int(path.suffix[9:]) for path in earlier if path.suffix[9:].isdigit()]
        try:
            self.root.rename(self.root.with_name(f"{self.root.name}.damaged-{max(numbers, default=0) + 1}"))
        except OSError as error:
            raise local_error(f"the damaged mirror {self.root} cannot be moved aside", error) from error
        for path in earlier:
            shutil.rmtree(path, ignore_errors=True)
        return True


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
