"""Inside the fetch child, for repositories on this machine: the missing objects of a local repository as a pack.

The pack then takes the same way as a server's, through `ingest`. Every object is measured before it is read.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dulwich.object_format import SHA1
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, hex_to_filename, parse_tree
from dulwich.pack import pack_object_header

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.format import COMMIT, GITLINK, NAMES, TREE, declared_size, parse_commit
from gitsyncd.edges.git.ingest import Refusal

_DIRECTORY = 0o040000


def export(objects: Path, wants: Sequence[str], pack: Path, has: Callable[[str], bool], caps: Caps) -> None:
    """Write a pack with what `wants` refer to and the mirror does not have. Raises `Refusal`, `OSError`."""
    store = DiskObjectStore(str(objects), object_format=SHA1, loose_object_size_limit=caps.object_bytes)
    try:
        with pack.open("wb+") as file:
            file.write(b"PACK" + (2).to_bytes(4, "big") + bytes(4))
            count, size = 0, 12
            for kind, content in _Walk(store, objects, has, caps).objects(wants):
                header = bytes(pack_object_header(kind, None, len(content), SHA1))
                piece = header + zlib.compress(content, 1)
                file.write(piece)
                count, size = count + 1, size + len(piece)
                if count > caps.objects:
                    raise Refusal("large", f"more than {caps.objects} objects in one fetch")
                if size > caps.pack_bytes:
                    raise Refusal("large", f"more than {in_words(caps.pack_bytes)} in one fetch")
            _finish(file, count)
    finally:
        # After damage an exception may still hold a mapped pack, which then cannot be closed.
        with suppress(BufferError):
            store.close()


def _finish(file: BinaryIO, count: int) -> None:
    file.seek(8)
    file.write(count.to_bytes(4, "big"))
    file.seek(0)
    digest = hashlib.sha1(usedforsecurity=False)
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0, os.SEEK_END)
    file.write(digest.digest())


class _Walk:
    """Commits, then their trees and blobs, each once. What the mirror has, it has with everything below."""

    def __init__(self, store: DiskObjectStore, objects: Path, has: Callable[[str], bool], caps: Caps) -> None:
        self._store = store
        self._objects = objects
        self._has = has
        self._caps = caps
        self._packs = list(store.packs)  # each look at the property lists the folder again
        self._seen: set[str] = set()

    def objects(self, wants: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        todo = list(wants)
        while todo:
            name = todo.pop()
            if not self._first_time(name):
                continue
            content = self._read(name, COMMIT, "")
            try:
                commit = parse_commit(content)
            except ValueError as error:
                raise Refusal("garbage", f"commit {name}: {error}") from error
            yield COMMIT, content
            yield from self._tree(commit.tree, "")
            todo.extend(commit.parents)

    def _tree(self, tree: str, path: str) -> Iterator[tuple[int, bytes]]:
        todo = [(tree, path, _DIRECTORY)]
        while todo:
            name, here, mode = todo.pop()
            if mode == GITLINK or not self._first_time(name):
                continue
            kind = TREE if mode == _DIRECTORY else 3
            content = self._read(name, kind, here)
            yield kind, content
            if kind == TREE:
                for entry, child_mode, child in parse_tree(content, 20):
                    shown = entry.decode("utf-8", "replace")
                    todo.append((child.decode("ascii"), f"{here}/{shown}" if here else shown, child_mode))

    def _first_time(self, name: str) -> bool:
        if name in self._seen or self._has(name):
            return False
        self._seen.add(name)
        return True

    def _read(self, name: str, kind: int, path: str) -> bytes:
        what = f"{NAMES[kind]} {name}" + (f" ({path})" if path else "")
        try:
            size = self._size(name)
            if size > self._caps.object_bytes:
                raise Refusal(
                    "large", f"{what} has {in_words(size)}, and {in_words(self._caps.object_bytes)} are allowed"
                )
            found, content = self._store.get_raw(ObjectID(name.encode()))
        except KeyError as error:
            raise Refusal("garbage", f"{what} is missing in the repository") from error
        except (MemoryError, OSError, Refusal):
            raise
        except Exception as error:
            # A damaged repository meets the format's reader with any kind of exception.
            raise Refusal("garbage", f"{what} cannot be read ({type(error).__name__})") from error
        if found != kind:
            raise Refusal("garbage", f"{what} is a {NAMES.get(found, 'delta')}")
        return bytes(content)

    def _size(self, name: str) -> int:
        """Without inflating it. Raises `KeyError` when it is not there."""
        key = ObjectID(name.encode())
        for pack in self._packs:
            try:
                offset = pack.index.object_offset(key)
            except KeyError:
                continue
            return declared_size(pack.data._buffer()[offset : offset + 128])  # noqa: SLF001 - mapped already
        try:
            with Path(hex_to_filename(str(self._objects), key)).open("rb") as file:
                head = zlib.decompressobj().decompress(file.read(128), 64)
        except FileNotFoundError:
            return 0  # in an alternate: measured by the reader there, and again when the pack is taken in
        return int(head.split(b"\0")[0].split(b" ")[1])
