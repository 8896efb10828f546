"""structlog's home: how a log line looks. What is logged is decided by whoever logs.

JSON lines for programs: `timestamp`, `level`, `event`, then the facts. On a terminal, aligned and coloured for people.
"""

from __future__ import annotations

import json as _json
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import IO, TYPE_CHECKING, Any, cast

import orjson

from gitsyncd.model.printable import printable, safe_json

# structlog loads rich wherever it finds it, for tracebacks that nobody sees here: 7 MB of every daemon.
_RICH = "rich"
sys.modules.setdefault(_RICH, cast("Any", None))
import structlog  # noqa: E402 - after the line above, on purpose

if sys.modules.get(_RICH) is None:
    del sys.modules[_RICH]

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

_REVISION = re.compile(r"\S+@sha1:[0-9a-f]{40}")
_FIRST = ("timestamp", "level", "event")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up(level: str, *, json: bool, stream: IO[str] | None = None, erase: bool = False) -> FilteringBoundLogger:
    """The logger of this process, writing whole lines to `stream` (standard output).

    Levels are named as in the agent file. With `erase` a line for people takes the place of whatever stood in its line
    of the terminal, such as progress.
    """
    out = stream or sys.stdout
    shared: list[Any] = [
        structlog.processors.add_log_level,
        # Not "iso", which leaves the microseconds out once in a million lines.
        structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True),
    ]
    for_programs: list[Any] = [_ordered, structlog.processors.JSONRenderer(serializer=_dumps)]
    for_people: list[Any] = [_abbreviated, _tame, _console(out), *([_erasing] if erase else [])]
    last = for_programs if json else for_people
    structlog.configure(
        processors=shared + last,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("Any", _Lines(out))),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module; what they say is theirs and may quote what must not be quoted.
    logging.getLogger().addHandler(logging.NullHandler())
    return cast("FilteringBoundLogger", structlog.get_logger())


def on_terminal(stream: IO[str]) -> bool:
    """Whether people read this stream: a terminal."""
    return stream.isatty()


def colours(stream: IO[str]) -> bool:
    """Whether to colour it: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Lines:
    """A stream whose every line is complete when it is written, and whose reader may go away."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            # Nobody reads the log any more. That must not stop a daemon from doing its work.
            self._stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - kept open for the life of the process


def _console(out: IO[str]) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=colours(out), pad_event_to=22, sort_keys=False)


def _erasing(_logger: Any, _method: str, line: str) -> str:
    return f"{line}\033[K"


def _abbreviated(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Revisions with ten digits of their commit, for the width of a terminal. A hint, which is to be typed, stays."""
    return {k: v[:-30] if isinstance(v, str) and _REVISION.fullmatch(v) else v for k, v in event.items()}


def _tame(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Nothing that a terminal would obey: texts come from clusters and repositories. Lists are shown as Python does."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _ordered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Timestamp, level and event first, the facts in the order in which they were given."""
    head = {key: event.pop(key) for key in _FIRST if key in event}
    return {**head, **event}


def _dumps(value: Any, **_options: Any) -> str:
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # halves of surrogates, integers beyond 64 bits: a line of the log is never a reason to fail
        text = _json.dumps(value, default=str, separators=(",", ":"))
    return safe_json(text)
