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
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

import orjson

from gitsyncd.edges.log_stream import Lines, to_journald
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
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""Those of syslog (sd-daemon(3))."""
LONGEST = 47 * 1024
"""Bytes. journald splits what is longer than 48 KiB (LineMax in journald.conf(5)), and halves are no JSON."""
_SHORTER = (4096, 512, 64)


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
    for_programs: list[Any] = [_ordered, _rendered]
    for_people: list[Any] = [_abbreviated, _tame, _console(out), *([_erasing] if erase else [])]
    processors = shared + (for_programs if json else for_people)
    if to_journald(out, os.environ):
        processors.append(_prioritised)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast("Any", _patient(out))),
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


def _patient(out: IO[str]) -> IO[str] | Lines:
    """The same stream, made such that nobody ever waits for its reader."""

    def lost(count: int) -> None:
        log = structlog.get_logger()
        log.warning("log lines lost", lost=count)

    try:
        return Lines(cast("TextIO", out), lost)
    except OSError:  # nothing but memory
        return out


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


def _prioritised(_logger: Any, method: str, line: str) -> str:
    return f"<{_PRIORITIES[method]}>{line}"


def _rendered(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    """One line that a journal keeps whole; values that are too long for it are cut, and `cut` names them."""
    line = _dumps(event)
    for most in _SHORTER:
        if len(line) * 4 <= LONGEST or len(line.encode("utf-8", "replace")) <= LONGEST:
            return line
        short = {key: _cut(value, most) for key, value in event.items()}
        line = _dumps({**short, "cut": [key for key, value in event.items() if short[key] != value]})
    return line


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, list):
        return [_cut(item, most // 8) for item in value[: most // 16]]
    return value


def _dumps(value: Any) -> str:
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # halves of surrogates, integers beyond 64 bits: a line of the log is never a reason to fail
        text = _json.dumps(value, default=str, separators=(",", ":"))
    return safe_json(text)
