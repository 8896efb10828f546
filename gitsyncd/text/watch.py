"""The status again and again: in place on a terminal, and elsewhere whatever is new.

Belongs here: when it is asked for, when it is shown, and what a terminal is told. Does not belong here: how the status
reads (`status`).
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from gitsyncd.model.errors import GitsyncdError
from gitsyncd.model.immutable import immutable
from gitsyncd.text.layout import Paint, clipped, columns, duration, flat, wrapped
from gitsyncd.text.status import View, status_text

Item = Mapping[str, Any]
EVERY_S = 1.0
_PASSING = frozenset({"last_turn", "answered"})
"""Keys that move although nothing happened."""
_COLOUR = re.compile(r"\033\[[0-9;]*m")
_ENTER, _LEAVE = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
_TERMINATED = 128 + signal.SIGTERM


@immutable(kw_only=False)
class Look:
    """What is known now: the last answer of the daemon, and why there is none since, if there is none."""

    answer: Item
    trouble: GitsyncdError | None = None
    old_s: float = 0.0
    """Seconds since that answer."""

    def news(self) -> Any:
        """What makes it worth showing again."""
        return _lasting(self.answer), str(self.trouble or "")


Display = Callable[[Look], None]
"""Where each look is shown."""


def watch(ask: Callable[[], Item], display: Display) -> Look:
    """Ask and show, about once a second, until Ctrl-C. The last look.

    Raises what the first question raises; later a daemon that does not answer is shown as such, and asked again.
    """
    look = Look(ask())
    answered = time.monotonic()
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        while True:
            display(look)
            time.sleep(EVERY_S)
            try:
                look = Look(ask())
                answered = time.monotonic()
            except GitsyncdError as error:
                look = Look(look.answer, error, time.monotonic() - answered)
    except KeyboardInterrupt:
        return look
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: Any) -> None:
    """So that the terminal is put back as it was."""
    del number, frame
    raise SystemExit(_TERMINATED)


def _lasting(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lasting(item) for key, item in value.items() if key not in _PASSING}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


# --- text and JSON ----------------------------------------------------------------------------------------------------


def frame(look: Look, view: View) -> str:
    """A look as text: when, what keeps the daemon from answering, and its last answer."""
    paint = Paint(on=view.colours)
    lines = [paint(view.now.astimezone().strftime("%Y-%m-%d %H:%M:%S"), "dim")]
    if look.trouble is not None:
        lines += [paint(line, "red") for line in wrapped(flat(look.trouble), view.width, first="", rest="  ")]
        lines += wrapped(f"fix: {flat(look.trouble.hint)}", view.width, first="  ", rest="    ")
        lines += [f"It is asked again every second. What it said {duration(look.old_s)} ago:", ""]
    return "\n".join([*lines, status_text(look.answer, view)])


def document(look: Look) -> Item:
    """A look as a program reads it: an answer of `status`, or why there is none."""
    if look.trouble is None:
        return look.answer
    return {"error": str(look.trouble), "remedy": look.trouble.remedy, "hint": look.trouble.hint}


def when_new(show: Callable[[Look], None]) -> Display:
    """Show a look only if it says something that the one before did not."""
    shown: list[Any] = []

    def display(look: Look) -> None:
        news = look.news()
        if shown != [news]:
            shown[:] = [news]
            show(look)

    return display


# --- the terminal -----------------------------------------------------------------------------------------------------


@contextmanager
def window(out: IO[str]) -> Iterator[Callable[[str], None]]:
    """A screen of its own, on which each text takes the place of the one before; the last one is left behind."""
    last = ""

    def show(text: str) -> None:
        nonlocal last
        last = text
        out.write(drawn(text, *os.get_terminal_size(out.fileno())))
        out.flush()

    out.write(_ENTER)
    try:
        yield show
    finally:
        out.write(f"{_LEAVE}{last}\n")
        out.flush()


def drawn(text: str, width: int, height: int) -> str:
    """What puts a text in the place of another, without clearing first: a terminal that is cleared flickers."""
    shown: list[str] = []
    lines = text.split("\n")
    left = height
    for index, line in enumerate(lines):
        size = columns(_COLOUR.sub("", line))
        rows = max(1, -(-size // width))
        more = len(lines) - index - 1
        if rows + (more > 0) > left:
            shown.append(f"{clipped(f'… {more + 1} more lines', width - 1)}\033[K")
            break
        left -= rows
        # In a full line the cursor still stands on its last sign.
        shown.append(line if size and size % width == 0 else f"{line}\033[K")
    return "\033[H" + "\n".join(shown) + "\033[J"
