"""Scalars of YAML files that are marked for a policy, and files with other values there and not a byte else.

A mark is a comment behind the scalar, at the end of its line, as Flux writes it:

    image: registry.example.com/team/front:1.2.3  # {"$imagepolicy": "front"}
    newTag: 1.2.3                                 # {"$imagepolicy": "flux-system:front:tag"}

Found by the parser and never by the look of a line; and proven: after each edit the file is parsed again, and every
event must be what it was but for those scalars. The parser is the one by which manifests are read (libyaml), so that
what was proven is what will be applied. There are two ways of asking it.

**By events**, which say where each scalar begins and ends: any file, but slow, because Python makes three objects of
each.

**By counting**, where each mark stands behind one word, quoted or not (`_WORD`), as nearly all do. The parser counts
the events of a file in a fifth of the time. It counts them as the file is, and once more with each word in brackets.
- Two more for each word, and no complaint: each is a scalar, whole and by itself. Inside of a longer scalar or of a
  comment brackets are characters like any other, and where a word begins or ends in something else they are no YAML.
- The same again with the new words: what stands around them is what it was. The parser reads in one direction, and so
  comes to the first of them as before. It leaves each as it left the old one, because only a comment follows until the
  line ends; and with the line ends all that could depend on how long the word is: what may still become a key, and
  columns.
What does not add up is judged by its events.

Here: where marks are, and writing there. Not here: which value is wanted, and files.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

from yaml.events import AliasEvent, Event, ScalarEvent

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.events import count, decoded, line_of, lines, parsed, place
from gitsyncd.edges.yaml.loader import YamlError, parser_of
from gitsyncd.model.image import Mark

PARTS: Final = frozenset({"name", "tag", "digest"})
"""What of a reference a mark may ask for; nothing for the whole."""

MAX_FILE_BYTES: Final = 4 << 20
_MAX_BRACKETS: Final = 4_000
"""The parser's time grows with their depth, and while it counts it does not say how deep it is: 30,000 take seconds."""

_SIGN: Final = '"$imagepolicy"'
_OPENING: Final = re.compile(r"#[ \t]*(?=\{)")
_BETWEEN: Final = re.compile(r"[ \t,\]}]*")
_PROPERTIES: Final = re.compile(r"(?:[&!][^\s]*[ \t]+)*")
_LINE_END: Final = re.compile(r"[\r\n]|\Z")
_BREAK: Final = r"(?:\r\n|\r|\n)"
_BLOCK: Final = re.compile(
    rf"(?P<head>[|>][^\r\n]*{_BREAK}(?:[ \t]*{_BREAK})*[ ]+)[^\r\n\x85\u2028\u2029]*(?P<tail>\s*)"
)
_PLAIN: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._:/@+-]*[A-Za-z0-9._+-])?"
_SAFE: Final = re.compile(_PLAIN)
"""What references consist of: nothing in it means anything to YAML, quoted or not. A colon at its end would."""
_WORD: Final = re.compile(
    rf"""(?:\A|(?<=[ \t\r\n]))(?:{_PLAIN}(?=[ \t,\]}}])|'[ -&(-~]*'|"[ !#-\[\]-~]*")(?P<behind>[ \t,\]}}]*)\#"""
)
"""One word and the comment behind it, which would be a part of an unquoted one without anything in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A file and its marks, in its order."""

    text: bytes = field(repr=False)
    marks: tuple[Mark, ...] = ()
    events: int | None = None
    """How many the file has, where counting them has shown that each mark stands behind one word."""

    def edited(self, values: Mapping[Mark, str]) -> bytes:
        """The file with these values at these of its marks. Raises `YamlError`: it cannot be done, or not be proven."""
        if not values:
            return self.text
        content = self.text.decode()
        after, spans = _replaced(content, self.marks, values)
        wanted = [values[mark] for mark in self.marks if mark in values]
        if self.events is None or not _proven_by_counting(after, spans, wanted, self.events):
            _prove_by_events(content, after, values)
        return after.encode()


def read(text: bytes) -> Marked:
    """Raises `YamlError`: a file in which marks stand cannot be parsed, or one of them cannot be followed."""
    if _SIGN.encode() not in text:
        return Marked(text=text)
    if len(text) > MAX_FILE_BYTES:
        raise YamlError(f"the file has {len(text):,} bytes; at most {MAX_FILE_BYTES:,} are searched for marks", 1)
    content = decoded(text)
    comments = list(_comments(content))
    if content.count("[") + content.count("{") <= _MAX_BRACKETS and (events := count(content)) is not None:
        found = _found_by_counting(content, comments, events)
        if found is not None:
            return Marked(text=text, marks=found, events=events)
    return Marked(text=text, marks=_found_by_events(content, comments))


def marks(text: bytes) -> tuple[Mark, ...]:
    """All marks of a file, for those who write nothing there. Raises as `read` does."""
    return read(text).marks


def edited(text: bytes, values: Mapping[Mark, str]) -> bytes:
    """The file with these values at marks that were found in it before. Raises as `read` and `Marked.edited` do."""
    return read(text).edited(values)


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a scalar or an alias stands; `start` is behind its anchor and its tag."""

    start: int
    end: int
    event: ScalarEvent | AliasEvent


@dataclass(frozen=True, slots=True)
class _Comment:
    """What looks like a mark: its line, where that begins, where the comment does, and what it holds."""

    line: int
    line_at: int
    at: int
    asked: str


# --- Finding ---------------------------------------------------------------------------------------------------------
def _comments(content: str) -> Iterator[_Comment]:
    """The last comment of each line that could be one, if it does not begin inside of another."""
    seen, line = 0, 1
    while (sign := content.find(_SIGN, seen)) >= 0:
        end = _end_of_line(content, sign)
        line_at = max(content.rfind("\n", seen, sign), content.rfind("\r", seen, sign), seen - 1) + 1
        line += lines(content, seen, line_at)
        opening = _OPENING.search(content, line_at, content.rfind(_SIGN, sign, end))
        asked = content[opening.end() : end].rstrip(" \t") if opening else ""
        if opening and asked.endswith("}"):
            yield _Comment(line, line_at, opening.start(), asked)
        seen = end


def _end_of_line(content: str, at: int) -> int:
    end = _LINE_END.search(content, at)
    assert end is not None
    return end.start()


def _found_by_counting(content: str, comments: Sequence[_Comment], events: int) -> tuple[Mark, ...] | None:
    """None where a mark stands behind something else than one word, or is none."""
    spans = []
    for comment in comments:
        word = _WORD.search(content, comment.line_at, comment.at + 1)
        if word is None or word.end() != comment.at + 1:
            return None
        spans.append((word.start(), word.start("behind")))
    if not _are_scalars(content, spans, events):
        return None
    return tuple(_mark_of_word(content, span, comment) for span, comment in zip(spans, comments, strict=True))


def _mark_of_word(content: str, span: tuple[int, int], comment: _Comment) -> Mark:
    start, end = span
    policy, part = _asked(comment)
    style = content[start] if content[start] in "'\"" else ""
    value = content[start + len(style) : end - len(style)].strip()
    return Mark(policy=policy, part=part, value=value, line=comment.line, start=start, end=end, style=style)


def _are_scalars(content: str, spans: Sequence[tuple[int, int]], events: int) -> bool:
    """Whether two more events come of each span that is put in brackets."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [content[at:start], "[", content[start:end], "]"]
        at = end
    return count("".join([*pieces, content[at:]])) == events + 2 * len(spans)


def _found_by_events(content: str, comments: Sequence[_Comment]) -> tuple[Mark, ...]:
    spans = [_span(content, event) for event in parsed(content) if isinstance(event, ScalarEvent | AliasEvent)]
    starts = [span.start for span in spans]
    return tuple(mark for comment in comments if (mark := _mark(content, comment, spans, starts)))


def _span(content: str, event: ScalarEvent | AliasEvent) -> _Span:
    start, end = place(content, event)
    properties = _PROPERTIES.match(content, start, end)
    return _Span(properties.end() if properties else start, end, event)


def _mark(content: str, comment: _Comment, spans: list[_Span], starts: list[int]) -> Mark | None:
    """None for what looks like a mark and is part of a text, or of a comment that began before it."""
    at, line = comment.at, comment.line
    before = bisect_right(starts, at) - 1
    span = spans[before] if before >= 0 else None
    head_only = span is not None and _is_head(comment, span)
    if span is not None and span.end > at and not head_only:
        return None
    behind = 0 if span is None else span.start if head_only else span.end
    if "#" in content[max(behind, comment.line_at) : at]:
        return None
    policy, part = _asked(comment)
    if span is None or not (head_only or _BETWEEN.fullmatch(content, span.end, at)):
        raise YamlError("the mark stands behind no scalar", line, hint="Write it at the end of the scalar's own line.")
    if isinstance(span.event, AliasEvent):
        raise YamlError("the mark stands behind an alias", line, hint="Mark the scalar that has the anchor.")
    if not span.event.style and not span.event.value:
        raise YamlError("the marked scalar is empty", line, hint="Write the value that it has now.")
    style = span.event.style or ""
    if not head_only and span.start < comment.line_at:
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


def _is_head(comment: _Comment, span: _Span) -> bool:
    """Whether the comment stands in the first line of a block scalar, behind its sign."""
    is_block = isinstance(span.event, ScalarEvent) and span.event.style in {"|", ">"}
    return is_block and comment.line_at <= span.start <= comment.at < span.end


def _asked(comment: _Comment) -> tuple[str, str]:
    """Policy and part. A namespace before the policy, as Flux has it, is left out."""
    try:
        found: Any = json.loads(comment.asked)
    except ValueError:
        found = None
    asked = found.get("$imagepolicy") if isinstance(found, dict) else None
    words = asked.split(":") if isinstance(asked, str) else []
    part = words.pop() if len(words) > 1 and words[-1] in PARTS else ""
    if not 1 <= len(words) <= 2 or not all(words):
        raise YamlError(
            "the mark cannot be read",
            comment.line,
            hint='Write # {"$imagepolicy": "POLICY"}, or "POLICY:tag", "POLICY:name", "POLICY:digest".',
        )
    return words[-1], part


# --- Writing ---------------------------------------------------------------------------------------------------------
def _replaced(content: str, of_file: Sequence[Mark], values: Mapping[Mark, str]) -> tuple[str, list[tuple[int, int]]]:
    """The text with these values, and where they stand in it."""
    pieces, spans = [], []
    at = moved = 0
    for mark in of_file:
        if mark not in values:
            continue
        piece = _written(content, mark, values[mark])
        pieces += [content[at : mark.start], piece]
        spans.append((mark.start + moved, mark.start + moved + len(piece)))
        at, moved = mark.end, spans[-1][1] - mark.end
    if len(spans) != len(values):
        stray = next(mark for mark in values if mark not in of_file)
        raise YamlError("the mark is none of this file", stray.line, hint="Look at the file afresh.")
    return "".join([*pieces, content[at:]]), spans


def _written(content: str, mark: Mark, value: str) -> str:
    """The scalar with this value, in the style that it has."""
    if not _SAFE.fullmatch(value):
        raise YamlError(f"`{value}` is no part of a reference to an image", mark.line)
    match mark.style:
        case "'" | '"':
            return f"{mark.style}{value}{mark.style}"
        case "":
            # `1.10` is a number to YAML, and another one than 1.1 to those who tag.
            return value if scalars.plain(value) == value else f'"{value}"'
        case _:
            block = _BLOCK.fullmatch(content, mark.start, mark.end)
            if block is None:
                raise YamlError("the marked scalar has more than one line", mark.line, hint="Write it in one line.")
            return f"{block['head']}{value}{block['tail']}"


def _proven_by_counting(after: str, spans: Sequence[tuple[int, int]], values: Sequence[str], events: int) -> bool:
    """False where it takes the events themselves to tell."""
    return (
        [_meaning(after[start:end]) for start, end in spans] == values
        and count(after) == events
        and _are_scalars(after, spans, events)
    )


def _meaning(word: str) -> str:
    """What the parser takes one scalar for."""
    parser = parser_of(word)
    parser.get_event()  # the start of the stream
    parser.get_event()  # and of the document
    event = parser.get_event()
    assert isinstance(event, ScalarEvent)
    return event.value


def _prove_by_events(before: str, after: str, values: Mapping[Mark, str]) -> None:
    """Every event is what it was, but for the marked scalars, which are what they should be."""
    wanted = {(mark.start, mark.end): (mark, value) for mark, value in values.items()}
    for was, now in zip_longest(parsed(before), _events_of_edit(after)):
        if was is None or now is None:
            raise _unproven(1)
        place = _span(before, was) if isinstance(was, ScalarEvent) else None
        mark, value = wanted.pop((place.start, place.end), (None, "")) if place else (None, "")
        if mark is None:
            if _facts(was) != _facts(now):
                raise _unproven(line_of(now))
        elif not isinstance(now, ScalarEvent) or _beside(was) != _beside(now) or now.value.strip() != value:
            raise _unproven(mark.line)
    if wanted:
        raise _unproven(next(mark.line for mark, _ in wanted.values()))


def _events_of_edit(content: str) -> Iterator[Event]:
    try:
        yield from parsed(content)
    except YamlError as error:
        raise _unproven(error.line) from None


def _beside(event: Event) -> tuple[Any, ...]:
    return getattr(event, "anchor", None), getattr(event, "tag", None)


def _facts(event: Event) -> tuple[Any, ...]:
    names = ("anchor", "tag", "implicit", "value", "style", "flow_style", "explicit", "version", "tags")
    return (type(event), *(getattr(event, name, None) for name in names))


def _unproven(line: int) -> YamlError:
    return YamlError("the edit would change more than the marked scalar", line, hint="Please report it with the file.")
