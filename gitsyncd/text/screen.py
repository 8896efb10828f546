"""What is known of the terminal that a stream leads to, if it leads to one."""

from __future__ import annotations

import os
import shutil
from typing import TextIO


def can_redraw(stream: TextIO) -> bool:
    """Whether lines of this stream can be drawn again in place."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def colours(stream: TextIO) -> bool:
    """Whether to colour it: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(stream: TextIO) -> int | None:
    """Columns; None where lines may be as long as they are."""
    return shutil.get_terminal_size().columns if stream.isatty() else None
