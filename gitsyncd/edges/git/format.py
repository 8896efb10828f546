"""The bytes of commits and of pack entries. Pure, standard library only: the fetch child starts by importing this."""

from __future__ import annotations

import hashlib
import re
import zlib
from datetime import UTC, datetime

from gitsyncd.model.immutable import immutable

COMMIT, TREE, BLOB, TAG, OFS_DELTA, REF_DELTA = 1, 2, 3, 4, 6, 7
NAMES = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}
GITLINK = 0o160000
"""Mode of a submodule: a commit of another repository."""

_PERSON = re.compile(rb"(.*)> (-?[0-9]{1,18}) [+-][0-9]{4}\Z")
_HEX = re.compile(r"[0-9a-f]{40}")
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z, the last that a datetime can hold


@immutable
class Commit:
    """What is used of a commit."""

    tree: str
    parents: tuple[str, ...]
    committed_at: datetime
    committer: str
    """The committer's address."""
    message: str


def parse_commit(content: bytes) -> Commit:
    """Raises `ValueError` for what is no commit."""
    head, _, message = content.partition(b"\n\n")
    tree, parents, email, when = "", [], b"", 0
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        match key:
            case b"tree" if not tree:
                tree = value.decode("ascii")
            case b"parent":
                parents.append(value.decode("ascii"))
            case b"committer" if match := _PERSON.match(value):
                email, when = match[1].rpartition(b"<")[2], int(match[2])
            case _:
                pass
    if not all(is_id(name) for name in (tree, *parents)):
        raise ValueError("a commit without a tree, or with a parent that is no id")
    return Commit(
        tree=tree,
        parents=tuple(parents),
        committed_at=datetime.fromtimestamp(min(max(when, 0), _LAST_SECOND), UTC),
        committer=email.decode("utf-8", "replace"),
        message=message.decode("utf-8", "replace"),
    )


def is_id(text: str) -> bool:
    """Whether this is a whole SHA-1 id."""
    return _HEX.fullmatch(text) is not None


def object_digest(kind: int, content: bytes) -> str:
    """The id that this content has."""
    digest = hashlib.sha1(b"%s %d\0" % (NAMES[kind].encode(), len(content)), usedforsecurity=False)
    digest.update(content)
    return digest.hexdigest()


def entry_head(head: bytes) -> tuple[int, int, int]:
    """Type, declared size, and where the compressed bytes begin. Raises `IndexError` when `head` is too short."""
    byte = head[0]
    kind, size, shift, position = (byte >> 4) & 7, byte & 15, 4, 1
    while byte & 0x80:
        byte = head[position]
        size |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    if kind == REF_DELTA:
        position += 20
    elif kind == OFS_DELTA:
        while head[position] & 0x80:
            position += 1
        position += 1
    return kind, size, position


def delta_sizes(start: bytes) -> tuple[int, int]:
    """Size of the base and of the result, from the first inflated bytes of a delta. Raises `IndexError`."""
    sizes = []
    position = 0
    for _ in range(2):
        size = shift = 0
        while True:
            byte = start[position]
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        sizes.append(size)
    return sizes[0], sizes[1]


def declared_size(head: bytes) -> int:
    """Inflated size of an entry from its first bytes. Raises `IndexError`, `zlib.error`."""
    kind, size, position = entry_head(head)
    if kind not in {OFS_DELTA, REF_DELTA}:
        return size
    return delta_sizes(zlib.decompressobj().decompress(head[position:], 20))[1]
