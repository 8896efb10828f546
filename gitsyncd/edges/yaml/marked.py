"""Scalars of YAML files that are marked for a policy, and files with other values there and not a byte else.

A mark is a comment behind the scalar, at the end of its line, as Flux writes it:

    image: registry.example.com/team/front:1.2.3  # {"$imagepolicy": "front"}
    newTag: 1.2.3                                 # {"$imagepolicy": "flux-system:front:tag"}

Found by the events of the parser, which say where each scalar begins and ends, never by the look of a line; and proven:
after each edit the file is parsed again, and every event must be what it was but for those scalars. The parser is the
one by which manifests are read (libyaml), so that what was proven is what will be applied.

Here: where marks are, and writing there. Not here: which value is wanted, and files.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.events import AliasEvent, Event, ScalarEvent

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.loader import YamlError, parser_of
from gitsyncd.model.image import Mark

PARTS: Final = frozenset({"name", "tag", "digest"})
"""What of a reference a mark may ask for; nothing for the whole."""

_SIGN: Final = b'"$imagepolicy"'
_COMMENT: Final = re.compile(r'#[ \t]*(\{[^\r\n]*"\$imagepolicy"[^\r\n]*\})[ \t]*(?=[\r\n]|\Z)')
_BETWEEN: Final = re.compile(r"[ \t,\]}]*")
_PROPERTIES: Final = re.compile(r"(?:[&!][^\s]*[ \t]+)*")
_LINES: Final = re.compile(r"[\r\n]")
_BREAK: Final = r"(?:\r\n|\r|\n)"
_BLOCK: Final = re.compile(rf"(?P<head>[|>][^\r\n]*{_BREAK}(?:[ \t]*{_BREAK})*[ ]+)[^\r\n]*(?P<tail>\s*)")
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
"""What references consist of: nothing in it means anything to YAML, quoted or not."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a scalar or an alias stands; `start` is behind its anchor and its tag."""

    start: int
    end: int
    event: ScalarEvent | AliasEvent


def marks(text: bytes) -> tuple[Mark, ...]:
    """All marks of a file, in its order. Raises `YamlError`: it cannot be parsed, or a mark cannot be followed."""
    if _SIGN not in text:
        return ()
    content = _decoded(text)
    spans = [_span(content, event) for event in _events(content) if isinstance(event, ScalarEvent | AliasEvent)]
    starts = [span.start for span in spans]
    return tuple(mark for match in _COMMENT.finditer(content) if (mark := _mark(content, match, spans, starts)))


def edited(text: bytes, values: Mapping[Mark, str]) -> bytes:
    """The file with these values at these marks. Raises `YamlError` where that cannot be done or proven."""
    content = _decoded(text)
    pieces, at = [], 0
    for mark, value in sorted(values.items(), key=lambda item: item[0].start):
        if not _SAFE.fullmatch(value):
            raise YamlError(f"`{value}` is no part of a reference to an image", mark.line)
        pieces += [content[at : mark.start], _written(content[mark.start : mark.end], mark, value)]
        at = mark.end
    after = "".join([*pieces, content[at:]])
    _prove(content, after, values)
    return after.encode()


# --- Finding ---------------------------------------------------------------------------------------------------------
def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise YamlError("the file is not UTF-8", line, hint="Save it as UTF-8.") from None


def _events(content: str) -> Iterator[Event]:
    parser = parser_of(content)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlError(str(error.problem or "it is not YAML"), line) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise YamlError(str(error).splitlines()[0], 1) from None


def _span(content: str, event: ScalarEvent | AliasEvent) -> _Span:
    assert event.start_mark is not None
    assert event.end_mark is not None
    # libyaml takes a byte order mark for nothing, and does not count it.
    offset = int(content.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"))
    start, end = event.start_mark.index + offset, event.end_mark.index + offset
    properties = _PROPERTIES.match(content, start, end)
    return _Span(properties.end() if properties else start, end, event)


def _mark(content: str, match: re.Match[str], spans: list[_Span], starts: list[int]) -> Mark | None:
    """None for what looks like a mark and is part of a text, or of a comment that began before it."""
    line = content.count("\n", 0, match.start()) + 1
    before = bisect_right(starts, match.start()) - 1
    span = spans[before] if before >= 0 else None
    head_only = span is not None and _is_head(content, match.start(), span)
    if span is not None and span.end > match.start() and not head_only:
        return None
    behind = 0 if span is None else span.start if head_only else span.end
    if "#" in _LINES.split(content[behind : match.start()])[-1]:
        return None
    policy, part = _asked(match[1], line)
    if span is None or not (head_only or _BETWEEN.fullmatch(content, span.end, match.start())):
        raise YamlError("the mark stands behind no scalar", line, hint="Write it at the end of the scalar's own line.")
    if isinstance(span.event, AliasEvent):
        raise YamlError("the mark stands behind an alias", line, hint="Mark the scalar that has the anchor.")
    if span.start == span.end:
        raise YamlError("the marked scalar is empty", line, hint="Write the value that it has now.")
    style = span.event.style or ""
    if not head_only and re.search(r"[\r\n]", content[span.start : span.end]):
        raise YamlError("the marked scalar has more than one line", line, hint="Write it in one line.")
    return Mark(
        policy=policy,
        part=part,
        value=span.event.value.strip(),
        line=line,
        start=span.start,
        end=span.end,
        style=style,
    )


def _is_head(content: str, at: int, span: _Span) -> bool:
    """Whether the place is in the first line of a block scalar, where its comment stands."""
    if not isinstance(span.event, ScalarEvent) or span.event.style not in {"|", ">"} or not span.start <= at < span.end:
        return False
    return "\n" not in content[span.start : at] and "\r" not in content[span.start : at]


def _asked(text: str, line: int) -> tuple[str, str]:
    """Policy and part. A namespace before the policy, as Flux has it, is left out."""
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    asked = found.get("$imagepolicy") if isinstance(found, dict) else None
    words = asked.split(":") if isinstance(asked, str) else []
    part = words.pop() if len(words) > 1 and words[-1] in PARTS else ""
    if not 1 <= len(words) <= 2 or not all(words):
        raise YamlError(
            "the mark cannot be read",
            line,
            hint='Write # {"$imagepolicy": "POLICY"}, or "POLICY:tag", "POLICY:name", "POLICY:digest".',
        )
    return words[-1], part


# --- Writing ---------------------------------------------------------------------------------------------------------
def _written(old: str, mark: Mark, value: str) -> str:
    match mark.style:
        case "'" | '"':
            return f"{mark.style}{value}{mark.style}"
        case "":
            # `1.10` is a number to YAML, and another one than 1.1 to those who tag.
            return value if scalars.plain(value) == value else f'"{value}"'
        case _:
            block = _BLOCK.fullmatch(old)
            if block is None:
                raise YamlError("the marked scalar has more than one line", mark.line, hint="Write it in one line.")
            return f"{block['head']}{value}{block['tail']}"


def _prove(before: str, after: str, values: Mapping[Mark, str]) -> None:
    """Every event is what it was, but for the marked scalars, which are what they should be."""
    wanted = {(mark.start, mark.end): (mark, value) for mark, value in values.items()}
    for was, now in zip(_events(before), _events(after), strict=True):
        place = _span(before, was) if isinstance(was, ScalarEvent) else None
        mark, value = wanted.pop((place.start, place.end), (None, "")) if place else (None, "")
        if mark is None:
            if _facts(was) != _facts(now):
                raise _unproven(1 if now.start_mark is None else now.start_mark.line + 1)
        elif not isinstance(now, ScalarEvent) or _beside(was) != _beside(now) or now.value.strip() != value:
            raise _unproven(mark.line)
    if wanted:
        raise _unproven(next(mark.line for mark, _ in wanted.values()))


def _beside(event: Event) -> tuple[Any, ...]:
    return getattr(event, "anchor", None), getattr(event, "tag", None)


def _facts(event: Event) -> tuple[Any, ...]:
    names = ("anchor", "tag", "implicit", "value", "style", "flow_style", "explicit", "version", "tags")
    return (type(event), *(getattr(event, name, None) for name in names))


def _unproven(line: int) -> YamlError:
    return YamlError("the edit would change more than the marked scalar", line, hint="Please report it with the file.")
