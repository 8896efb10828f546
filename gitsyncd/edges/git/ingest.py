"""Inside the fetch child: from the bytes of a pack to a verified pack and index, or a `Refusal` that says why not.

Three looks, each bounded: every entry inflated and thrown away, to hold the caps against what is really there;
every object resolved, hashed and indexed; everything that objects refer to looked for, so that nothing
incomplete is admitted.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from dulwich.object_format import SHA1
from dulwich.objects import parse_tree
from dulwich.pack import PackData, PackIndexer, UnpackedObject, load_pack_index, write_pack_index_v2

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.format import (
    COMMIT,
    GITLINK,
    NAMES,
    OFS_DELTA,
    REF_DELTA,
    TAG,
    TREE,
    delta_sizes,
    entry_head,
    object_digest,
    parse_commit,
)

_HEADER = 12
_TRAILER = 20
_WINDOW = 1 << 12
_PIECE = 1 << 20


class Refusal(Exception):
    """A pack that is not admitted. `kind` is `large`, `garbage` or `damaged` (what was there before is)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def ingest(pack: Path, index: Path, mirror_packs: Iterable[Path], caps: Caps) -> str:
    """Verify the pack, write its index beside it, both safe on disk. Returns the pack's checksum. Raises `Refusal`."""
    if pack.stat().st_size < _HEADER + _TRAILER:
        raise Refusal("garbage", "what was sent is not a pack")
    with pack.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as contents:
        checksum = _check_frame(contents, caps)
        _check_entries(contents, caps)
    indexer = _index(pack, caps)
    _check_closed(indexer, mirror_packs)
    with index.open("wb") as target:
        write_pack_index_v2(target, sorted(indexer.entries), checksum)
        target.flush()
        os.fsync(target.fileno())
    with pack.open("rb") as file:
        os.fsync(file.fileno())
    return checksum.hex()


def _check_frame(contents: mmap.mmap, caps: Caps) -> bytes:
    if contents[:4] != b"PACK":
        raise Refusal("garbage", "what was sent is not a pack")
    version, count = int.from_bytes(contents[4:8], "big"), int.from_bytes(contents[8:12], "big")
    if version != 2:
        raise Refusal("garbage", f"the pack has the unknown version {version}")
    if count > caps.objects:
        raise Refusal("large", f"{count} objects in one fetch, and {caps.objects} are allowed")
    digest = hashlib.sha1(usedforsecurity=False)
    end = len(contents) - _TRAILER
    for position in range(0, end, _PIECE):
        digest.update(contents[position : min(position + _PIECE, end)])
    if digest.digest() != contents[end:]:
        raise Refusal("garbage", "the pack does not match its checksum: it was cut short or changed on the way")
    return digest.digest()


def _check_entries(contents: mmap.mmap, caps: Caps) -> None:
    """Inflate each entry once, a window at a time, and hold the caps against it."""
    count = int.from_bytes(contents[8:12], "big")
    end = len(contents) - _TRAILER
    position, inflated = _HEADER, 0
    for number in range(count):
        try:
            kind, size, start = entry_head(contents[position : min(position + 64, end)])
        except IndexError:
            raise Refusal("garbage", f"the pack ends in entry {number + 1} of {count}") from None
        if kind not in NAMES and kind not in {OFS_DELTA, REF_DELTA}:
            raise Refusal("garbage", f"entry {number + 1} of the pack has the unknown type {kind}")
        if size > caps.object_bytes:
            raise _too_large(contents, position + start, end, kind, size, caps)
        first, position = _inflate(contents, position + start, end, size, number)
        inflated += size
        if kind in {OFS_DELTA, REF_DELTA}:
            inflated += _check_delta(first, number, caps)
        if inflated > caps.inflated_bytes:
            raise Refusal("large", f"more than {in_words(caps.inflated_bytes)} of objects in one fetch")
    if position != end:
        raise Refusal("garbage", "the pack goes on after its last entry")


def _check_delta(first: bytes, number: int, caps: Caps) -> int:
    try:
        _, size = delta_sizes(first)
    except IndexError:
        raise Refusal("garbage", f"entry {number + 1} of the pack is no delta") from None
    if size > caps.object_bytes:
        raise Refusal(
            "large", f"an object of {in_words(size)} (a delta), and {in_words(caps.object_bytes)} are allowed"
        )
    return size


def _inflate(contents: mmap.mmap, position: int, end: int, size: int, number: int) -> tuple[bytes, int]:
    """The first bytes of what an entry inflates to, and where the next entry begins."""
    stream = zlib.decompressobj()
    first, length = b"", 0
    try:
        for piece, read_to in _pieces(stream, contents, position, end):
            first = first or piece[:20]
            length += len(piece)
            position = read_to
            if length > size:
                raise Refusal("garbage", f"entry {number + 1} of the pack is longer than it says")
    except zlib.error:
        raise Refusal("garbage", f"entry {number + 1} of the pack cannot be inflated") from None
    if not stream.eof or length != size:
        raise Refusal("garbage", f"entry {number + 1} of the pack is shorter than it says")
    return first, position - len(stream.unused_data)


def _pieces(stream: Any, contents: mmap.mmap, position: int, end: int) -> Iterator[tuple[bytes, int]]:
    """What a compressed stream inflates to, never much at a time, and how far it has been read. Ends early when cut."""
    window = _WINDOW
    while not stream.eof:
        data: bytes = stream.unconsumed_tail
        if not data:
            # Small entries are most: they must not cost a copy of a large window.
            data = contents[position : min(position + window, end)]
            position += len(data)
            window = min(window * 4, _PIECE)
        piece = stream.decompress(data, _PIECE)
        if not data and not piece:
            return
        yield piece, position


def _too_large(contents: mmap.mmap, position: int, end: int, kind: int, size: int, caps: Caps) -> Refusal:
    """With the id of the object where it can be had: hashed in pieces, never held."""
    words = f"{in_words(size)}, and {in_words(caps.object_bytes)} are allowed"
    if kind not in NAMES or size > caps.inflated_bytes:
        return Refusal("large", f"an object of {words}")
    digest = hashlib.sha1(b"%s %d\0" % (NAMES[kind].encode(), size), usedforsecurity=False)
    try:
        for piece, _ in _pieces(zlib.decompressobj(), contents, position, end):
            digest.update(piece)
    except zlib.error:
        return Refusal("large", f"an object of {words}")
    return Refusal("large", f"{NAMES[kind]} {digest.hexdigest()} has {words}")


class _Indexer(PackIndexer):
    """Index entries, and by the way everything that commits, trees and tags refer to."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.entries: list[tuple[bytes, int, int]] = []
        self.referenced: set[bytes] = set()
        self.commit_bytes = 0

    def _result(self, unpacked: UnpackedObject) -> Any:
        entry = super()._result(unpacked)
        self.entries.append(entry)  # type: ignore[arg-type]
        if unpacked.obj_type_num in {COMMIT, TREE, TAG}:
            self._note(unpacked.obj_type_num, b"".join(unpacked.obj_chunks or ()))
        return entry

    def _note(self, kind: int, content: bytes) -> None:
        if kind == TREE:
            self.referenced.update(
                bytes.fromhex(name.decode()) for _, mode, name in parse_tree(content, 20) if mode != GITLINK
            )
        elif kind == COMMIT:
            if len(content) > self.commit_bytes:
                # Commits are read in the daemon, many of them at once.
                name = object_digest(COMMIT, content)
                allowed = in_words(self.commit_bytes)
                raise Refusal("large", f"commit {name} has {in_words(len(content))}, and {allowed} are allowed")
            commit = parse_commit(content)
            self.referenced.update(bytes.fromhex(name) for name in (commit.tree, *commit.parents))
        elif content.startswith(b"object ") and len(content) > 47:
            self.referenced.add(bytes.fromhex(content[7:47].decode()))


def _index(pack: Path, caps: Caps) -> _Indexer:
    try:
        with PackData(str(pack), SHA1) as data:
            indexer: _Indexer = _Indexer.for_pack_data(data)  # type: ignore[assignment]
            indexer.commit_bytes = caps.commit_bytes
            for _ in indexer:
                pass
            return indexer
    except (MemoryError, OSError, Refusal):
        raise
    except Exception as error:
        # The format's reader meets hostile bytes with any kind of exception.
        raise Refusal("garbage", f"the pack cannot be resolved ({type(error).__name__})") from error


def _check_closed(indexer: _Indexer, mirror_packs: Iterable[Path]) -> None:
    """Everything referred to is in this pack, or was in the mirror before."""
    missing = indexer.referenced - {entry[0] for entry in indexer.entries}
    for base in mirror_packs:
        if not missing:
            return
        try:
            with closing(load_pack_index(f"{base}.idx", SHA1)) as index:
                missing = {name for name in missing if not _holds(index, name)}
        except Exception as error:
            raise Refusal("damaged", f"the index of {base.name} cannot be read ({type(error).__name__})") from error
    if missing:
        raise Refusal("garbage", f"the pack lacks {len(missing)} objects that it needs, such as {min(missing).hex()}")


def _holds(index: Any, name: bytes) -> bool:
    try:
        index.object_offset(name)
    except KeyError:
        return False
    return True


def join(bases: list[Path], pack: Path, index: Path) -> str:
    """All packs in one file, byte for byte: deltas point backwards within their own part, so they stay right.

    Returns the checksum. Nothing is inflated. Raises `Refusal` when a part is not what its index says.
    """
    entries: list[tuple[bytes, int, int]] = []
    digest = hashlib.sha1(usedforsecurity=False)
    total = sum(_count(base) for base in bases)
    with pack.open("wb") as target:

        def write(piece: bytes) -> None:
            digest.update(piece)
            target.write(piece)

        write(b"PACK" + (2).to_bytes(4, "big") + total.to_bytes(4, "big"))
        for base in bases:
            shift = target.tell() - _HEADER
            _copy_body(base, write)
            with closing(load_pack_index(f"{base}.idx", SHA1)) as old:
                entries.extend((bytes(name), offset + shift, crc or 0) for name, offset, crc in old.iterentries())
        target.write(digest.digest())
        target.flush()
        os.fsync(target.fileno())
    with index.open("wb") as file:
        write_pack_index_v2(file, sorted(entries), digest.digest())
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _count(base: Path) -> int:
    with Path(f"{base}.pack").open("rb") as file:
        return int.from_bytes(file.read(_HEADER)[8:12], "big")


def _copy_body(base: Path, write: Any) -> None:
    """Everything between header and trailer, whose checksum is verified on the way."""
    path = Path(f"{base}.pack")
    digest = hashlib.sha1(usedforsecurity=False)
    left = path.stat().st_size - _HEADER - _TRAILER
    with path.open("rb") as file:
        digest.update(file.read(_HEADER))
        while left > 0 and (piece := file.read(min(_PIECE, left))):
            digest.update(piece)
            write(piece)
            left -= len(piece)
        if digest.digest() != file.read(_TRAILER):
            raise Refusal("damaged", f"{path.name} does not match its checksum")
