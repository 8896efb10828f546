"""Texts that people write to the parser's events: what each thing is and where it stands, in characters and lines.

Here: decoding, parsing, counting lines. Not here: what anything means (`loader`), and which file it is of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent, Event

from gitsyncd.edges.yaml.loader import YamlError, parser_of

MAX_DEPTH: Final = 200
"""The parser's time grows with the square of it."""


def decoded(text: bytes) -> str:
    """Raises `YamlError`: it is not UTF-8."""
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = 1 + lines(text[: error.start].decode(), 0, error.start)
        raise YamlError("the file is not UTF-8", line, hint="Save it as UTF-8.") from None


def parsed(content: str) -> Iterator[Event]:
    """All of them, as they are parsed. Raises `YamlError` where that cannot go on."""
    parser, depth = parser_of(content), 0
    try:
        while (event := parser.get_event()) is not None:
            if isinstance(event, CollectionStartEvent):
                depth += 1
            elif isinstance(event, CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise YamlError(f"nested more than {MAX_DEPTH} deep", line_of(event))
            yield event
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(str(error.problem or "it is not YAML"), line) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise YamlError(str(error).splitlines()[0], 1) from None


def count(content: str) -> int | None:
    """How many events there are, in a fifth of the time that it takes to look at them; None if it cannot be parsed."""
    try:
        return parser_of(content).raw_parse()
    except yaml.YAMLError:
        return None


def place(content: str, event: Event) -> tuple[int, int]:
    """Where an event begins and ends in the text."""
    assert event.start_mark is not None
    assert event.end_mark is not None
    # libyaml takes a byte order mark for nothing, and does not count it.
    offset = int(content.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"))
    return event.start_mark.index + offset, event.end_mark.index + offset


def line_of(event: Event) -> int:
    """Counted from 1."""
    return 1 if event.start_mark is None else event.start_mark.line + 1


def lines(content: str, start: int, end: int) -> int:
    """How many lines end there, with LF, CR LF or CR alone."""
    return content.count("\n", start, end) + content.count("\r", start, end) - content.count("\r\n", start, end)
