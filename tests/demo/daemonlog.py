"""The daemon's log as a witness: JSON lines in a file, asked for events with a deadline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.demo.screen import Unexpected

Line = dict[str, Any]

_SHOWN = {
    "target in sync": ("target", "revision", "objects", "took_s"),
    "drift reverted": ("object", "kind", "fields", "manager", "writer", "took_s"),
    "foreign field": ("object", "fields", "manager", "writer"),
    "plan made": ("target", "create", "update", "revert", "prune", "keep"),
    "plan refused": ("target", "reason", "prune", "limit"),
    "revision held": ("source", "revision", "admitted", "reason"),
    "source updated": ("source", "revision", "previous"),
    "object pruned": ("object", "reason"),
    "daemon stopped": ("signal",),
}
"""What of an event fits on a line; the log has the rest."""


class Log:
    """One file, written by one daemon after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self._lines: list[Line] = []
        self._read = 0

    def mark(self) -> int:
        """A place in the log: everything from here on is later than everything so far."""
        return len(self._all())

    def since(self, mark: int, event: str = "", **facts: object) -> list[Line]:
        """Lines from a place on, of this event and with these facts."""
        return [line for line in self._all()[mark:] if _is(line, event, facts)]

    def wait(self, mark: int, event: str, *, within_s: float = 20, **facts: object) -> Line:
        """The first such line from a place on. Raises `Unexpected` when there is none in time."""
        deadline = time.monotonic() + within_s
        while True:
            if found := self.since(mark, event, **facts):
                return found[0]
            if time.monotonic() > deadline:
                wanted = " ".join([repr(event), *(f"{key}={value}" for key, value in facts.items())])
                raise Unexpected(f"the log says no {wanted} within {within_s:g} s")
            time.sleep(0.01)

    def tail(self, count: int = 15) -> list[str]:
        """The last lines, as they are in the file."""
        return self.path.read_text(errors="replace").splitlines()[-count:]

    def _all(self) -> list[Line]:
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        # The last line may be half written.
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for text in whole.splitlines():
            try:
                self._lines.append(json.loads(text))
            except ValueError as error:
                raise Unexpected(f"the log has a line that is no JSON: {text.decode(errors='replace')}") from error
        return self._lines


def short(line: Line) -> str:
    """A log line for a person: the event and its most telling facts."""
    keys = _SHOWN.get(line["event"], tuple(key for key in line if key not in {"timestamp", "level", "event", "hint"}))
    facts = " ".join(f"{key}={_value(line[key])}" for key in keys if key in line)
    return f"{line['level']:<7} {line['event']}  {facts}".rstrip()


def _value(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value[:4]))}{', …' if len(value) > 4 else ''}]"
    text = "-" if value is None else str(value)
    head, separator, commit = text.rpartition("@sha1:")
    if separator:
        return f"{head}@{commit[:8]}"
    return text[:8] if len(text) == 40 and " " not in text else text


def _is(line: Line, event: str, facts: dict[str, object]) -> bool:
    return event in {"", line["event"]} and all(line.get(key) == value for key, value in facts.items())
