"""Colours, widths, tables and ages: what a line on a terminal is made of.

Texts come from clusters and repositories, so nothing is shown that a terminal would obey, and what is wide or has no
width of its own is counted as terminals show it. Does not belong here: what is said (`plan`, `status`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from gitsyncd.model.immutable import immutable
from gitsyncd.model.printable import masked

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
_GAP = 2
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_EMOJI_STYLE = "\ufe0f"
_COMMAND = ": gitsyncd "


class Paint:
    """Colours, or none."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self._on and colour and text else text


def clean(value: Any) -> str:
    """Text in which nothing is left that a terminal would obey."""
    return masked(str(value))


def flat(value: Any) -> str:
    """The same on one line: servers and parsers answer in several."""
    return masked(" ".join(str(value).split()))


# --- widths -----------------------------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """Columns that a terminal needs for it; rather one too many than one too few."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(sign: str) -> int:
    if sign == _EMOJI_STYLE:
        return 1  # it makes the sign before it wide
    if unicodedata.category(sign) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def clipped(text: str, width: int) -> str:
    """At most so many columns, with an ellipsis where something was left out."""
    if columns(text) <= width:
        return text
    kept, used = [], 1
    for sign in text:
        used += _columns(sign)
        if used > width:
            break
        kept.append(sign)
    return "".join(kept) + "…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Exactly so many columns."""
    text = clipped(text, width)
    space = " " * (width - columns(text))
    return space + text if right else text + space


def wrapped(text: str, width: int | None, *, first: str, rest: str) -> list[str]:
    """Lines of at most `width` columns (None: one line), led by `first` and `rest`.

    A command at the end that does not fit beside its words is one line, however long: a terminal that breaks it by
    itself lets it be copied as a whole.
    """
    if width is None or columns(first + text) <= width:
        return [first + text]
    words, found, command = text.partition(_COMMAND)
    if found:
        return [*wrapped(f"{words}:", width, first=first, rest=rest), f"{rest}gitsyncd {command}"]
    lines, line = [], first
    for word in text.split(" "):
        filled = line.strip() and line != first
        if filled and columns(line) + 1 + columns(word) > width:
            lines.append(line)
            line, filled = rest, False
        line += f" {word}" if filled else word
        while columns(line) > width > columns(rest) + 1:
            part = clipped(line, width + 1)[:-1]
            lines.append(part)
            line = rest + line[len(part) :]
    return [*lines, line]


# --- tables -----------------------------------------------------------------------------------------------------------


@immutable(kw_only=False)
class Column:
    """One column of a table."""

    head: str
    leaves: int = 0
    """The column with the highest number is the first to be left out where it is narrow; 0 stays."""
    shrinks: bool = False
    right: bool = False


_SHRUNK = 24
_TINY = 8


class Table:
    """Rows whose columns fit a width, with other lines between them where the caller wants some."""

    def __init__(self, heads: Sequence[Column], rows: Collection[Sequence[str]], width: int | None) -> None:
        self._heads = heads
        natural = [max(columns(head.head), *(columns(row[i]) for row in rows)) for i, head in enumerate(heads)]
        empty = {i for i in range(len(heads)) if heads[i].leaves and all(not row[i] for row in rows)}
        self._widths = {i: size for i, size in enumerate(natural) if i not in empty}
        if width is not None:
            self._fit(width)

    def _fit(self, width: int) -> None:
        while self._excess(width, _SHRUNK) > 0:
            leaves, index = max((self._heads[i].leaves, i) for i in self._widths)
            if not leaves:
                break
            del self._widths[index]
        floor = _SHRUNK if self._excess(width, _SHRUNK) <= 0 else _TINY
        while self._excess(width, None) > 0:
            size, index = max((size, i) for i, size in self._widths.items() if self._heads[i].shrinks)
            if size <= floor:
                break
            self._widths[index] -= 1

    def _excess(self, width: int, shrunk: int | None) -> int:
        """Columns too many, with those that shrink at no more than `shrunk`."""
        sizes = [
            min(size, shrunk) if shrunk is not None and self._heads[i].shrinks else size
            for i, size in self._widths.items()
        ]
        return sum(sizes) + _GAP * (len(sizes) - 1) - width

    def head(self, paint: Paint) -> str:
        return self.row([head.head for head in self._heads], paint, dict.fromkeys(self._widths, "dim"))

    def row(self, cells: Sequence[str], paint: Paint, colours: Mapping[int, str]) -> str:
        """One line; `colours` by the number of the column."""
        *most, last = self._widths
        shown = [paint(padded(cells[i], self._widths[i], right=self._heads[i].right), colours.get(i, "")) for i in most]
        end = padded(cells[last], self._widths[last], right=self._heads[last].right).rstrip()
        return (" " * _GAP).join([*shown, paint(end, colours.get(last, ""))]).rstrip()


# --- ages -------------------------------------------------------------------------------------------------------------


def moment_of(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def age(since: str | None, now: datetime) -> str:
    """`42s`, `3m`, `2h10m`, `5d`: how long ago, or until when."""
    moment = moment_of(since)
    if moment is None:
        return ""
    return duration(abs((now - moment).total_seconds()))


def duration(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in _UNITS:
        if whole >= size:
            count, left = divmod(whole, size)
            minutes = left // 60
            return f"{count}h{minutes}m" if unit == "h" and minutes and count < 10 else f"{count}{unit}"
    return f"{whole}s"


def bar(done: int, total: int, width: int) -> str:
    """`[=====>    ]`, in signs that every terminal has."""
    full = width * done // max(total, 1)
    return "[" + ("=" * full)[: width - 1] + (">" if full < width else "=") + " " * (width - full - 1) + "]"


def short(revision: str | None) -> str:
    """A revision with eight digits of its commit."""
    branch, _, commit = (revision or "").partition("@sha1:")
    return f"{clean(branch)}@{commit[:8]}" if commit else clean(branch)
