"""A log whose reader is slow, stalls, goes away or is systemd's journal: with real pipes and sockets."""

import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from gitsyncd.edges import logs
from gitsyncd.edges.log_stream import MOST, Lines

FULL = MOST // 1000


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The end to read, and the stream that leads there."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0), open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - descriptors
        yield reader, stream


def read_all(reader: int) -> list[str]:
    """Until the text of a last line was read."""
    text = b""
    while not text.endswith(b"the end\n") and select.select([reader], [], [], 10)[0]:
        text += os.read(reader, 1 << 16)
    return text.decode().splitlines()


def test_nobody_waits_for_a_reader_that_does_not_read_and_nothing_is_lost_if_it_reads_again(
    pipe: tuple[int, TextIO],
) -> None:
    reader, stream = pipe
    lines = Lines(stream, lambda count: pytest.fail(f"{count} lost"))

    for number in range(FULL // 2):
        lines.write(f"{number:0999}\n")
    lines.write("the end\n")

    assert read_all(reader) == [*(f"{number:0999}" for number in range(FULL // 2)), "the end"]


def test_what_does_not_fit_is_lost_and_counted_where_it_is_missing(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    lines = Lines(stream, lambda count: lines.write(f"lost {count}\n"))
    for number in range(3 * FULL):
        lines.write(f"{number:0999}\n")
    first = os.read(reader, 1 << 16)
    while len(first) < 1 << 18:
        first += os.read(reader, 1 << 16)
    lines.write("the end\n")

    *said, end = (first.decode() + "\n".join(read_all(reader))).split("\n")
    number = 0
    for line in said:
        if line.startswith("lost "):
            number += int(line.removeprefix("lost "))
        else:
            assert int(line) == number
            number += 1
    assert (number, end) == (3 * FULL, "the end")
    assert len(said) < 2 * FULL, "most of it was lost"


def test_a_reader_that_goes_away_is_no_failure() -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        lines = Lines(stream, lambda count: pytest.fail(f"{count} lost"))
        os.close(reader)
        lines.write("one\n")
        lines.finish(10)

        for number in range(3 * FULL):
            lines.write(f"{number:0999}\n")


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    lost: list[int] = []
    with Path("/dev/full").open("w") as stream:
        lines = Lines(stream, lost.append)
        lines.write("one\n")
        lines.finish(10)
        lines.finish(0)

    assert lost == [1]


def test_what_was_logged_last_is_written_before_the_process_ends(pipe: tuple[int, TextIO]) -> None:
    reader, stream = pipe
    lines = Lines(stream, lambda count: pytest.fail(f"{count} lost"))
    lines.write("the end\n")

    lines.finish(10)

    assert os.read(reader, 100) == b"the end\n"


def sent(stream: TextIO, reader: socket.socket, level: str) -> str:
    log = logs.set_up("debug", json=True, stream=stream)
    getattr(log, level)("target in sync")
    reader.settimeout(10)
    return reader.recv(4096).decode()


@pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3)])
def test_the_journal_is_told_the_priority_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, level: str, priority: int
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(ours.fileno(), "w", encoding="utf-8", closefd=False) as stream:
        is_it = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{is_it.st_dev}:{is_it.st_ino}")
        journal = sent(stream, theirs, level)
        monkeypatch.setenv("JOURNAL_STREAM", f"{is_it.st_dev}:{is_it.st_ino + 1}")
        other = sent(stream, theirs, level)

    assert journal.startswith(f"<{priority}>{{")
    assert json.loads(journal.removeprefix(f"<{priority}>"))["level"] == json.loads(other)["level"] == level
