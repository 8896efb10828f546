"""What commands write to the terminal: answers for people or for programs, and errors with their fix.

Does not belong here: how a certain answer looks (`gitsyncd.text`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gitsyncd.model.errors import GitsyncdError, LocalError
from gitsyncd.model.printable import masked, safe_json

if TYPE_CHECKING:
    import argparse

DONE, DIFFERS, WRONG, REFUSED = range(4)
"""Exit codes, as `docs/reference/commands.md` promises them."""


def complain(error: GitsyncdError) -> None:
    """`gitsyncd: WHAT: WHY` and a second line with the fix."""
    print(f"gitsyncd: {_lines(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"fix: {_lines(error.hint)}", file=sys.stderr)


def _lines(text: str) -> str:
    """Several mistakes are several lines. Within a line nothing is left that a terminal would obey."""
    return "\n".join(map(masked, text.split("\n")))


def print_answer(options: argparse.Namespace, answer: Any, text: Callable[[], str]) -> None:
    if options.output == "json":
        print_json(answer)
    else:
        write(text())


def print_json(value: Any, *, lines: bool = False) -> None:
    import orjson

    write(safe_json(orjson.dumps(value, option=0 if lines else orjson.OPT_INDENT_2, default=str).decode()))


def write(text: str) -> None:
    try:
        # What the terminal's encoding does not have is no reason to show nothing.
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        let_go_of_output()
        raise LocalError(
            f"cannot write the answer to standard output: {error.strerror or error}",
            hint="Free some space there, or send the output elsewhere.",
        ) from error


def let_go_of_output() -> None:
    """What could not be written must not be tried again when Python ends: it would show a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
