"""Objects of a mirror by their ids. Nothing leaves here that does not hash to the id that was asked for.

A store is opened for one piece of work and closed after it: no descriptor and no mapping is held in between, and it
always sees the packs as they are. Blocking; meant for a thread or a child.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import MutableSet
from pathlib import Path
from types import TracebackType
from typing import Self

from dulwich.object_format import SHA1
from dulwich.objects import ObjectID
from dulwich.pack import Pack, PackFileDisappeared

from gitsyncd.edges.git.directory import MirrorDirectory
from gitsyncd.edges.git.format import NAMES, declared_size, entry_head, object_digest
from gitsyncd.model.errors import LocalError, MirrorDamaged

_DELTA_CACHE_BYTES = 4 << 20
_HEAD_BYTES = 4096
_SMALL_BYTES = 64 << 10
"""Inflated, of what is read so. More is left to dulwich, as is what is longer than its head."""
_ATTEMPTS = 5
"""At packs that change while they are listed and opened."""

IndexChecks = MutableSet[tuple[str, int, int, int]]
"""Index files whose checksum was right: name, inode, size, time of change."""


class ObjectMissing(Exception):
    """No pack has this object. Whether that is a fault depends on who asked for it."""


class ObjectStore:
    """The packs of one mirror, open. Use as a context manager."""

    def __init__(self, directory: MirrorDirectory, checked: IndexChecks) -> None:
        """Raises `MirrorDamaged` (also when there is no mirror), `LocalError`."""
        self._directory = directory
        self._checked = checked
        self._packs: list[_OpenPack] = []
        self._last: _Place | None = None
        """Where the last object was: what asks for a size asks for the content next."""
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                for name in self._directory.pack_names():
                    self._packs.append(_OpenPack(self._directory.packs / name))
                break
            except (FileNotFoundError, PackFileDisappeared) as error:
                # Another process may join packs between listing and opening: then others are there now.
                self.close()
                if attempt == _ATTEMPTS - 1 or not self._directory.packs.exists():
                    raise self._damaged("it is missing, or parts of it are") from error
            except OSError as error:
                raise LocalError(f"the mirror {self._directory.root} cannot be read: {error.strerror}") from error
            except Exception as error:
                raise self._damaged(f"a pack cannot be opened ({type(error).__name__})") from error
        self.check_indexes()

    def _reopen(self) -> bool:
        """Whether the packs are others now. A folder that changes while it is listed may show neither old nor new."""
        try:
            if self._directory.pack_names() == [pack.name for pack in self._packs]:
                return False
        except FileNotFoundError:
            return False
        self.close()
        self._open()
        return True

    def check_indexes(self, *, again: bool = False) -> None:
        """Raises `MirrorDamaged` if an index is not what was written. Looks once, and `again` only if asked."""
        for pack in self._packs:
            key = pack.identity()
            if again or key not in self._checked:
                if not pack.index_is_sound():
                    raise self._damaged(f"the index of {pack.name} does not match its checksum")
                self._checked.add(key)

    def _damaged(self, how: str) -> MirrorDamaged:
        return MirrorDamaged(
            f"the mirror {self._directory.root} is damaged: {how}",
            hint="Nothing to do: it is cloned afresh at the next look. If it happens again, check the disk.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for pack in self._packs:
            pack.close()
        self._packs.clear()
        self._last = None

    def __contains__(self, object_id: str) -> bool:
        return self._locate(object_id) is not None

    def _locate(self, object_id: str) -> _Place | None:
        if self._last is not None and self._last.object_id == object_id:
            return self._last
        key = ObjectID(object_id.encode())
        for _ in range(_ATTEMPTS):
            for pack in self._packs:
                try:
                    self._last = _Place(object_id, pack, pack.pack.index.object_offset(key))
                    return self._last
                except KeyError:
                    continue
                except Exception as error:
                    raise self._damaged(f"the index of {pack.name} cannot be read ({type(error).__name__})") from error
            if not self._reopen():
                break
        return None

    def beginning(self, digits: str) -> set[str]:
        """Ids of objects that begin with these hexadecimal digits, two at least. Raises `MirrorDamaged`."""
        whole_bytes = bytes.fromhex(digits[: len(digits) // 2 * 2])
        found: set[str] = set()
        for pack in self._packs:
            try:
                found.update(name.hex() for name in pack.pack.index.iter_prefix(whole_bytes))
            except Exception as error:
                raise self._damaged(f"the index of {pack.name} cannot be read ({type(error).__name__})") from error
        return {name for name in found if name.startswith(digits)}

    def find(self, object_id: str) -> tuple[int, bytes]:
        """Type and content. Raises `ObjectMissing`, `MirrorDamaged`."""
        found = self._locate(object_id)
        if found is None:
            # An index whose bytes changed since it was checked may hide an object that is there.
            self.check_indexes(again=True)
            raise ObjectMissing(object_id)
        kind, content = self._read(found)
        if kind not in NAMES or object_digest(kind, content) != object_id:
            raise self._damaged(f"the bytes of object {object_id} are not its own")
        return kind, content

    def _read(self, place: _Place) -> tuple[int, bytes]:
        try:
            return place.small() or place.pack.pack.get_raw(ObjectID(place.object_id.encode()))
        except Exception as error:  # noqa: BLE001 - damaged bytes end in any of them, down to those of struct and zlib
            how = type(error).__name__
        # Not chained: the other exception holds on to the mapped pack, which then could not be closed.
        raise self._damaged(f"object {place.object_id} cannot be read ({how})")

    def get(self, object_id: str, kind: int) -> bytes:
        """Content of an object that something in the mirror refers to. Raises `MirrorDamaged`."""
        try:
            found, content = self.find(object_id)
        except ObjectMissing as error:
            raise self._damaged(f"{NAMES[kind]} {object_id} is missing") from error
        if found != kind:
            raise self._damaged(f"object {object_id} is a {NAMES[found]} and not a {NAMES[kind]}")
        return content

    def size(self, object_id: str) -> int:
        """Inflated size as the pack declares it, without inflating. Raises `MirrorDamaged`."""
        found = self._locate(object_id)
        if found is None:
            self.check_indexes(again=True)
            raise self._damaged(f"object {object_id} is missing")
        try:
            return declared_size(found.head)
        except (IndexError, zlib.error, OSError) as error:
            raise self._damaged(f"object {object_id} cannot be read ({type(error).__name__})") from error


class _Place:
    """Where an object is, and what was read of it so far."""

    __slots__ = ("_head", "_offset", "object_id", "pack")

    def __init__(self, object_id: str, pack: _OpenPack, offset: int) -> None:
        self.object_id = object_id
        self.pack = pack
        self._offset = offset
        self._head = b""

    @property
    def head(self) -> bytes:
        """Raises `OSError`."""
        if not self._head:
            self._head = self.pack.head(self._offset)
        return self._head

    def small(self) -> tuple[int, bytes] | None:
        """Type and content of an entry that is whole in its first bytes and no delta, as nearly all manifests are.

        A third of what dulwich takes for it, which maps and inflates piece by piece. Raises what damaged bytes lead to.
        """
        kind, size, start = entry_head(self.head)
        if kind not in NAMES or size > _SMALL_BYTES:
            return None
        inflate = zlib.decompressobj()
        content = inflate.decompress(self.head[start:], size + 1)
        return (kind, content) if inflate.eof and len(content) == size else None


class _OpenPack:
    """One pack and its index, mapped."""

    def __init__(self, base: Path) -> None:
        self.name = base.name
        self._status = Path(f"{base}.idx").stat()
        self._file = os.open(f"{base}.pack", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.pack = Pack(str(base), object_format=SHA1, delta_base_cache_limit=_DELTA_CACHE_BYTES)
        try:
            # Opened now, so that a pack that is removed meanwhile stays readable.
            _ = self.pack.index
            _ = self.pack.data
        except BaseException:
            self.close()
            raise

    def identity(self) -> tuple[str, int, int, int]:
        return (self.name, self._status.st_ino, self._status.st_size, self._status.st_mtime_ns)

    def index_is_sound(self) -> bool:
        index = self.pack.index
        try:
            self.pack.check_length_and_checksum()
            return bool(index.calculate_checksum() == index.get_stored_checksum())  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - whatever damaged bytes lead to
            return False

    def head(self, offset: int) -> bytes:
        """The first bytes of an entry: enough for its type and size, also of a delta, and for all of a small one."""
        return os.pread(self._file, _HEAD_BYTES, offset)

    def close(self) -> None:
        self.pack.close()
        # These refer back to the pack, which would wait for the garbage collector: a mirror is opened at each look.
        self.pack._idx_load = self.pack._data_load = None  # noqa: SLF001 - for want of another way
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
