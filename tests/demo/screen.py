"""What people see of the scripted demo: steps, what is done and expected, ticks with log lines and times."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WIDTH = 116


class Unexpected(Exception):
    """Something is not as the demo says it is."""


def expect(fact: bool, otherwise: str) -> None:
    """Raise `Unexpected` unless it is so."""
    if not fact:
        raise Unexpected(otherwise)


class Screen:
    """Writes to standard output; the demo's folder appears as $DEMO."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        on_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._colours = on_terminal
        self.passed = 0
        self.hidden: list[str] = []
        """Values that appear as `***`."""
        self._number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered step; its time stands at its end."""
        self._number += 1
        begun = time.monotonic()
        self.write()
        self.write(self._paint(f"{self._number}. {title}", "1"))
        yield
        self.write(self._paint(f"   done in {time.monotonic() - begun:.1f} s", "2"))

    def does(self, text: str) -> None:
        self._paragraph("does   ", text)

    def expects(self, text: str) -> None:
        self._paragraph("expects", text)

    def command(self, line: str) -> None:
        self.write(self._paint(f"   $ {self.tidy(line)}", "36"))

    def ok(self, text: str, line: str = "") -> None:
        """A tick: something that was expected and seen; with the log line that says the same."""
        self.passed += 1
        for number, part in enumerate(textwrap.wrap(self.tidy(text), _WIDTH - 5)):
            self.write(f"   {self._paint('✓', '32') if number == 0 else ' '} {part}")
        if line:
            wrapped = textwrap.wrap(self.tidy(line), _WIDTH - 11, break_long_words=False, break_on_hyphens=False)
            for number, part in enumerate(wrapped):
                self.write(self._paint(f"       {'log ' if number == 0 else '    '}{part}", "2"))

    def failed(self, text: str) -> None:
        self.write(f"   {self._paint('✗', '31')} {self.tidy(text)}")

    def write(self, text: str = "") -> None:
        print(text, flush=True)

    def tidy(self, text: str) -> str:
        """The demo's folder by its name, so that a line is short and the same on every machine; no hidden value."""
        for value in self.hidden:
            text = text.replace(value, "***")
        return text.replace(self._folder, "$DEMO")

    def _paragraph(self, label: str, text: str) -> None:
        indent = " " * (len(label) + 5)
        for line in textwrap.wrap(text, _WIDTH, initial_indent=f"   {label}  ", subsequent_indent=indent):
            self.write(line)

    def _paint(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text
