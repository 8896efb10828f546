"""Commits, entries of packs, names and paths: the pure parts of reading a repository."""

from __future__ import annotations

import contextlib
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.git.caps import in_words
from gitsyncd.edges.git.format import BLOB, OFS_DELTA, REF_DELTA, declared_size, entry_head, parse_commit
from gitsyncd.edges.git.history import approvals, trailers, with_trailer
from gitsyncd.edges.git.tree import normal_path, why_refused
from gitsyncd.model.errors import ConfigError

TREE = "c" * 40


def commit(committer: bytes = b"A <a@b> 1700000000 +0100", message: bytes = b"one\n") -> bytes:
    return b"tree " + TREE.encode() + b"\nauthor A <a@b> 1 +0000\ncommitter " + committer + b"\n\n" + message


@pytest.mark.parametrize(
    ("committer", "expected"),
    [
        (b"A <a@b> 1700000000 +0100", datetime.fromtimestamp(1_700_000_000, UTC)),
        (b"A > B <x> 1700000000 -1145", datetime.fromtimestamp(1_700_000_000, UTC)),
        (b"A <a@b> -5 +0000", datetime.fromtimestamp(0, UTC)),
        (b"A <a@b> 999999999999999999 +0000", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (b"nonsense", datetime.fromtimestamp(0, UTC)),
    ],
)
def test_the_time_of_a_commit_is_utc_and_never_out_of_range(committer: bytes, expected: datetime) -> None:
    assert parse_commit(commit(committer)).committed_at == expected


@given(st.binary(max_size=300))
def test_bytes_that_are_no_commit_are_refused_and_nothing_else(noise: bytes) -> None:
    for content in (noise, b"tree " + noise, commit(noise), b"tree " + TREE.encode() + b"\nparent " + noise):
        with contextlib.suppress(ValueError):
            assert len(parse_commit(content).tree) == 40


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("subject\n\nbody\n\nGitsyncd-Approve: web@eu-1 prune=3\n", ("web@eu-1 prune=3",)),
        (
            "subject\n\nGitsyncd-Approve: a prune=1\nSigned-off-by: A <a@b>\ngitsyncd-approve:b prune=2",
            ("a prune=1", "b prune=2"),
        ),
        ("subject\r\n\r\nGitsyncd-Approve: a prune=1\r\n", ("a prune=1",)),
        ("subject\n\nGitsyncd-Approve: a\n  continued\n(cherry picked from commit abc)\n", ("a",)),
        # The subject is no trailer, a sentence is none, and neither is what stands before the last paragraph.
        ("Gitsyncd-Approve: a prune=1", ()),
        ("subject\n\nWe wrote\nGitsyncd-Approve: a prune=1\n", ()),
        ("subject\n\nGitsyncd-Approve: a prune=1\n\nlast words\n", ()),
        ("subject\n\n> Gitsyncd-Approve: a prune=1\n", ()),
        ("", ()),
    ],
)
def test_approvals_are_trailers_of_the_last_paragraph(message: str, expected: tuple[str, ...]) -> None:
    assert approvals(message) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("one", "one\n\nBy: me\n"),
        ("one\n", "one\n\nBy: me\n"),
        ("By: you", "By: you\n\nBy: me\n"),
        ("one\n\ntwo: 2, and\nthree\n", "one\n\ntwo: 2, and\nthree\n\nBy: me\n"),
        ("one\n\nA: 1\nB: 2\n", "one\n\nA: 1\nB: 2\nBy: me\n"),
    ],
)
def test_a_trailer_stands_at_the_end_of_those_that_are_there(message: str, expected: str) -> None:
    after = with_trailer(message, "By", "me")

    assert after == expected
    assert trailers(after, "by")[-1:] == ("me",)


@given(st.sampled_from([1, BLOB, OFS_DELTA, REF_DELTA]), st.integers(0, 2**40))
def test_the_head_of_an_entry_says_type_and_size(kind: int, size: int) -> None:
    rest, head = size >> 4, bytearray([kind << 4 | size & 15])
    while rest:
        head[-1] |= 0x80
        head.append(rest & 0x7F)
        rest >>= 7
    extra = {OFS_DELTA: b"\x85\x81\x01", REF_DELTA: b"x" * 20}.get(kind, b"")

    assert entry_head(bytes(head) + extra + b"rest") == (kind, size, len(head) + len(extra))


def test_the_size_of_a_delta_is_that_of_its_result() -> None:
    delta = zlib.compress(b"\x90\x4e" + b"\xa0\x8d\x06" + b"instructions")

    assert declared_size(bytes([REF_DELTA << 4 | 12]) + b"b" * 20 + delta) == 100_000


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x7f",
        "\x9b",
        ".git",
        ".GIT",
        ".gIt",
        ".git ",
        ".git.",
        ".git . .",
        ".git:x",
        "GIT~1",
        ".g\u200dit",
        "\ufeff.git",
    ],
)
def test_dangerous_names(name: str) -> None:
    assert why_refused(name)


@pytest.mark.parametrize(
    "name", ["a", ".github", ".gitignore", ".gitsyncdignore", "git", "café.yaml", "a b", "...", "-x", "git~2", "名前"]
)
def test_ordinary_names(name: str) -> None:
    assert why_refused(name) == ""


@pytest.mark.parametrize(("path", "parts"), [("", ()), (".", ()), ("./a//b/", ("a", "b")), ("a/./b", ("a", "b"))])
def test_paths_as_people_write_them(path: str, parts: tuple[str, ...]) -> None:
    assert normal_path(path) == parts


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "a/.."])
def test_paths_that_leave_the_repository(path: str) -> None:
    with pytest.raises(ConfigError):
        normal_path(path)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (400 << 20, "400 MiB"),
        (5 << 40, "5120 GiB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
