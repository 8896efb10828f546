"""When the status is shown again, what a terminal is told, and a daemon that goes away meanwhile."""

import contextlib
import json
import os
import pty
import re
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from gitsyncd.model.errors import GitsyncdError, LocalError
from gitsyncd.text import watch as module
from gitsyncd.text.progress import Line, progress_text
from gitsyncd.text.status import View
from gitsyncd.text.watch import Look, document, drawn, frame, watch, when_new, window
from tests.unit.text.answers import NEW, NOW, ago, answer, revision, source, target

GONE = LocalError("agent.sock: no daemon answers there", hint="Start one with `gitsyncd run`.")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)


def asking(*said: Any) -> Callable[[], Any]:
    """What the daemon says, one after the other; then Ctrl-C."""
    left = iter(said)

    def ask() -> Any:
        found = next(left, None)
        if found is None:
            raise KeyboardInterrupt
        if isinstance(found, GitsyncdError):
            raise found
        return found

    return ask


def test_a_daemon_that_stops_meanwhile_is_said_to_be_gone_and_found_again() -> None:
    looks: list[Look] = []

    last = watch(asking(answer([target()]), GONE, GONE, answer([target(state="syncing")])), looks.append)

    assert [str(look.trouble or "") for look in looks] == ["", str(GONE), str(GONE), ""]
    assert looks[1].answer == looks[0].answer
    assert last == looks[-1]


def test_without_a_daemon_there_is_nothing_to_watch() -> None:
    with pytest.raises(LocalError):
        watch(asking(GONE), lambda look: None)


def test_what_only_grew_older_is_not_shown_again() -> None:
    first = answer([target()])
    older = answer([target(last_turn=ago(seconds=1))], sources=[source(answered=ago(seconds=0))])
    moved = answer([target(revision=revision(NEW))])
    shown: list[Look] = []

    watch(asking(first, older, moved, GONE, GONE, moved), when_new(shown.append))

    assert [(look.answer, look.trouble) for look in shown] == [
        (first, None),
        (moved, None),
        (moved, GONE),
        (moved, None),
    ]


def test_a_program_reads_answers_and_why_there_is_none() -> None:
    said = answer([target()])

    assert document(Look(said)) == said
    assert json.loads(json.dumps(document(Look(said, GONE)))) == {
        "error": str(GONE),
        "remedy": "fix-config",
        "hint": GONE.hint,
    }


def test_while_no_daemon_answers_its_last_answer_is_shown_with_its_age() -> None:
    lines = frame(Look(answer([target()]), GONE, old_s=125), View(now=NOW, width=60)).split("\n")

    assert lines[1:4] == [
        "agent.sock: no daemon answers there",
        "  fix: Start one with `gitsyncd run`.",
        "It is asked again every second. What it said 2m ago:",
    ]
    assert any(line.startswith("web@eu-1") for line in lines)


# --- the terminal -----------------------------------------------------------------------------------------------------


class Terminal:
    """As much of a terminal as the texts drawn on it need: what stands where."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [" " * width for _ in range(height)]
        self.scrolled = 0

    def play(self, text: str) -> None:
        row = column = 0
        for part in re.findall(r"\033\[[0-9;]*[A-Za-z]|\n|[^\033\n]", text):
            if part == "\033[H":
                row = column = 0
            elif part == "\n":
                row, column = row + 1, 0
                if row == self.height:
                    self.scrolled += 1
                    row -= 1
            elif part == "\033[K":
                self.rows[row] = self.rows[row][:column].ljust(self.width)
            elif part == "\033[J":
                self.rows[row] = self.rows[row][:column].ljust(self.width)
                self.rows[row + 1 :] = [" " * self.width] * (self.height - row - 1)
            elif not part.startswith("\033"):
                if column == self.width:
                    row, column = row + 1, 0
                line = self.rows[row]
                self.rows[row] = line[:column] + part + line[column + 1 :]
                column += 1

    @property
    def text(self) -> list[str]:
        return [row.rstrip() for row in self.rows]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a longer line\nsecond\nthird", "short", ["short", "", "", ""]),
        ("x" * 20 + "\nnext", "y" * 10 + "\n\033[31mred\033[0m", ["y" * 10, "red", "", ""]),
        ("old", "z" * 14 + "\nnext", ["z" * 10, "zzzz", "next", ""]),
        ("old", "1\n2\n3\n4\n5", ["1", "2", "3", "… 2 more…"]),
        ("old", "1\n2\n3\n" + "w" * 15, ["1", "2", "3", "… 1 more…"]),
        ("old", "1\n2\n3\n4", ["1", "2", "3", "4"]),
    ],
)
def test_a_text_takes_the_place_of_the_one_before_and_nothing_of_that_is_left(
    before: str, after: str, expected: list[str]
) -> None:
    terminal = Terminal(10, 4)
    terminal.play(drawn(before, 10, 4))

    terminal.play(drawn(after, 10, 4))

    assert [row[:10] for row in terminal.text] == expected
    assert terminal.scrolled == 0


@contextmanager
def terminal(width: int, height: int) -> Iterator[tuple[IO[str], Callable[[], str]]]:
    """A real one: what is written to it, and what it was sent so far."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (height, width))
    with os.fdopen(theirs, "w", encoding="utf-8") as out:
        yield out, lambda: everything(out, ours)
    os.close(ours)


def everything(out: IO[str], ours: int) -> str:
    """What was sent, up to its end."""
    out.close()
    parts: list[bytes] = []
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 1 << 16):
            parts.append(part)
    return b"".join(parts).decode()


def test_the_window_gives_the_terminal_back_with_the_last_text_on_it() -> None:
    with terminal(40, 10) as (out, sent):
        with contextlib.suppress(KeyboardInterrupt), window(out) as show:
            show("first")
            show("last")
            raise KeyboardInterrupt

        text = sent()
    assert text.startswith("\033[?1049h\033[?25l")
    assert text.endswith("\033[?25h\033[?1049llast\r\n")


# --- progress ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (
            [target(state="syncing", progress={"done": 1, "total": 2})],
            "syncing web@eu-1 [============>           ] 1/2",
        ),
        (
            [
                target(state="syncing", progress={"done": 1, "total": 4}),
                target("db@eu-1", "syncing", progress={"done": 3, "total": 4}),
                target("ok@eu-1"),
            ],
            "syncing 2 targets [============>           ] 4/8, 1 of 3 targets in sync",
        ),
        ([target(state="syncing")], "looking"),
        (
            [target(health="in-progress", health_message="1 of 3\nreplicas")],
            "in sync, waiting for health: web@eu-1: 1 of 3 replicas",
        ),
    ],
)
def test_progress_in_one_line(targets: list[dict[str, Any]], expected: str) -> None:
    assert progress_text(targets) == expected


def test_the_progress_line_is_cut_to_the_terminal_and_gone_in_the_end() -> None:
    with terminal(12, 5) as (out, sent):
        line = Line(out)
        line.show("a text that is too long")
        line.clear()

        assert sent() == "\ra text tha…\033[K\r\r\033[K"
