"""What the fetch child makes of packs, good and bad: an index, or a refusal, and nothing else."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.format import BLOB, COMMIT, OFS_DELTA, REF_DELTA, TREE, object_digest
from gitsyncd.edges.git.ingest import Refusal, ingest, join

FILE = b"a: 1\n"
FILE_ID = object_digest(BLOB, FILE)
ROOT = b"100644 a.yaml\0" + bytes.fromhex(FILE_ID)
ROOT_ID = object_digest(TREE, ROOT)
HEAD = f"tree {ROOT_ID}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\none\n".encode()


def entry(kind: int, content: bytes, *, size: int | None = None, base: bytes = b"") -> bytes:
    size = len(content) if size is None else size
    rest, head = size >> 4, bytearray([kind << 4 | size & 15])
    while rest:
        head[-1] |= 0x80
        head.append(rest & 0x7F)
        rest >>= 7
    return bytes(head) + base + zlib.compress(content)


def pack_of(*entries: bytes, count: int | None = None, version: int = 2) -> bytes:
    body = b"PACK" + version.to_bytes(4, "big") + (len(entries) if count is None else count).to_bytes(4, "big")
    body += b"".join(entries)
    return body + hashlib.sha1(body).digest()


WHOLE = pack_of(entry(COMMIT, HEAD), entry(TREE, ROOT), entry(BLOB, FILE))


def taken(folder: Path, content: bytes, *, caps: Caps | None = None, mirror: tuple[Path, ...] = ()) -> str:
    (folder / "x.pack").write_bytes(content)
    return ingest(folder / "x.pack", folder / "x.idx", mirror, caps or Caps())


def test_a_whole_pack_is_indexed_and_named_by_its_checksum(tmp_path: Path) -> None:
    checksum = taken(tmp_path, WHOLE)

    assert checksum == WHOLE[-20:].hex()
    assert (tmp_path / "x.idx").read_bytes().count(bytes.fromhex(FILE_ID)) == 1


def test_what_the_mirror_has_already_need_not_be_sent(tmp_path: Path) -> None:
    taken(tmp_path, WHOLE)
    (tmp_path / "second").mkdir()
    later = HEAD.replace(b"one", b"two").replace(
        b"\nauthor", f"\nparent {object_digest(COMMIT, HEAD)}\nauthor".encode()
    )

    assert taken(tmp_path / "second", pack_of(entry(COMMIT, later)), mirror=(tmp_path / "x",))


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"", "garbage", "not a pack"),
        (b"<html>" * 10, "garbage", "not a pack"),
        (WHOLE[:-1], "garbage", "checksum"),
        (WHOLE[:40] + b"x" + WHOLE[41:], "garbage", "checksum"),
        (pack_of(entry(COMMIT, HEAD), version=3), "garbage", "version 3"),
        (pack_of(entry(BLOB, FILE), count=2), "garbage", "ends in entry 2"),
        (pack_of(entry(BLOB, FILE), b"more", count=1), "garbage", "goes on"),
        (pack_of(entry(BLOB, FILE, size=4)), "garbage", "longer than it says"),
        (pack_of(entry(BLOB, FILE, size=6)), "garbage", "shorter than it says"),
        (pack_of(entry(5, FILE)), "garbage", "unknown type 5"),
        (pack_of(entry(0, FILE)), "garbage", "unknown type 0"),
        (pack_of(entry(BLOB, FILE)[:-3]), "garbage", "shorter"),
        (pack_of(b"\x35not zlib at all"), "garbage", "inflated"),
        (pack_of(b"\xb5" + b"\xff" * 60), "garbage", ""),
        (pack_of(entry(COMMIT, HEAD), entry(TREE, ROOT)), "garbage", FILE_ID),
        (pack_of(entry(COMMIT, HEAD), entry(BLOB, FILE)), "garbage", ROOT_ID),
        (pack_of(entry(COMMIT, b"tree nonsense\n\n")), "garbage", "resolved"),
        (pack_of(entry(TREE, b"100644 no end")), "garbage", "resolved"),
        (pack_of(entry(REF_DELTA, b"\x05\x05\x90\x05", base=b"z" * 20)), "garbage", "resolved"),
        (pack_of(entry(OFS_DELTA, b"\x05\x05\x90\x05", base=b"\x7f")), "garbage", "resolved"),
        (pack_of(entry(BLOB, FILE), entry(OFS_DELTA, b"\x05\x09\x90\x05", base=b"\x0e")), "garbage", "resolved"),
        (pack_of(entry(OFS_DELTA, b"", base=b"\x01")), "garbage", "no delta"),
        (pack_of(entry(BLOB, FILE, size=1 << 50)), "large", "1048576 GiB"),
        (pack_of(entry(REF_DELTA, b"\x05" + b"\xff" * 5 + b"\x01", base=b"z" * 20)), "large", "(a delta)"),
        (pack_of(count=4_000_000_000), "large", "4000000000 objects"),
    ],
)
def test_packs_that_are_refused(tmp_path: Path, content: bytes, kind: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        taken(tmp_path, content)

    assert (caught.value.kind, words in caught.value.message) == (kind, True), caught.value.message
    assert not (tmp_path / "x.idx").exists()


def test_an_object_above_the_cap_is_named(tmp_path: Path) -> None:
    zeros = bytes(3 << 20)

    with pytest.raises(Refusal) as caught:
        taken(tmp_path, pack_of(entry(BLOB, zeros)), caps=Caps(object_bytes=1 << 20))

    assert object_digest(BLOB, zeros) in caught.value.message
    assert "3 MiB, and 1 MiB are allowed" in caught.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) - 21), st.integers(1, 255), st.booleans())
@example(position=155, change=4, repaired=True)
def test_a_changed_byte_changes_no_object_even_with_a_right_checksum(
    tmp_path: Path, position: int, change: int, repaired: bool
) -> None:
    body = bytearray(WHOLE[:-20])
    body[position] ^= change
    content = bytes(body) + (hashlib.sha1(body).digest() if repaired else WHOLE[-20:])

    try:
        taken(tmp_path, content)
    except Refusal:
        return
    # Some bits of a deflated stream mean nothing (RFC 1951, between a block's end and the next byte): git takes such a
    # pack as well, and finds the same objects in it.
    assert repaired
    assert (tmp_path / "x.idx").read_bytes()[_NAMES : _NAMES + 60] == b"".join(
        sorted(bytes.fromhex(name) for name in (object_digest(COMMIT, HEAD), ROOT_ID, FILE_ID))
    )


_NAMES = 8 + 256 * 4
"""Where an index of version 2 has the names of objects."""


def test_joined_packs_hold_everything_and_are_sound(tmp_path: Path) -> None:
    delta = pack_of(
        entry(BLOB, FILE * 20), entry(OFS_DELTA, b"\x64\x05\x90\x05", base=bytes([len(entry(BLOB, FILE * 20))]))
    )
    for name, content in (("one", WHOLE), ("two", delta)):
        (tmp_path / f"{name}.pack").write_bytes(content)
        ingest(tmp_path / f"{name}.pack", tmp_path / f"{name}.idx", (), Caps())

    checksum = join([tmp_path / "one", tmp_path / "two"], tmp_path / "x.pack", tmp_path / "x.idx")

    joined = (tmp_path / "x.pack").read_bytes()
    assert joined[-20:].hex() == checksum
    index = (tmp_path / "x.idx").read_bytes()
    assert taken(tmp_path, joined) == checksum
    assert (tmp_path / "x.idx").read_bytes() == index


def test_a_part_that_is_damaged_is_not_joined(tmp_path: Path) -> None:
    (tmp_path / "one.pack").write_bytes(WHOLE)
    ingest(tmp_path / "one.pack", tmp_path / "one.idx", (), Caps())
    (tmp_path / "one.pack").write_bytes(WHOLE[:50] + b"x" + WHOLE[51:])

    with pytest.raises(Refusal) as caught:
        join([tmp_path / "one"], tmp_path / "x.pack", tmp_path / "x.idx")

    assert caught.value.kind == "damaged"
