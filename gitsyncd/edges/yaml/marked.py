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
the events of a text in a fifth of the time. It counts them as the text is, and once more with each word in brackets.
- Two more for each word, and no complaint: each is a scalar, whole and by itself. Inside of a longer scalar or of a
  comment brackets are characters like any other, and where a word begins or ends in something else they are no YAML.
- The same in the edited text, and as many there as in the old one with brackets: what stands around the words is what
  it was. The parser reads in one direction, and so comes to the first of them as before. It leaves each as it left the
  old one, because only a comment follows until the line ends; and with the line ends all that could depend on how long
  a word is: what may still become a key, and columns.
What does not add up is judged by its events.

Here: where marks are, and writing there. Not here: which value is wanted, and files.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from yaml.events import AliasEvent, Event, ScalarEvent

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.events import count, decoded, line_of, lines, parsed, place
from gitsyncd.edges.yaml.loader import YamlError, parser_of
from gitsyncd.model.image import MARK_SIGN, Mark
from gitsyncd.model.immutable import immutable

_MOST_WRONG: Final = 20
"""Of one file: who mends these finds the rest."""

PARTS: Final = frozenset({"name", "tag", "digest"})
"""What of a reference a mark may ask for; nothing for the whole."""

MAX_FILE_BYTES: Final = 4 << 20
_MAX_BRACKETS: Final = 4_000
"""The parser's time grows with their depth, and while it counts it does not say how deep it is: 30,000 take seconds."""

_SIGN: Final = MARK_SIGN.decode()
_OPENING: Final = re.compile(r"#[ \t]*(?=\{)")
_BETWEEN: Final = re.compile(r"[ \t,\]}]*")
_PROPERTIES: Final = re.compile(r"(?:[&!][^\s]*[ \t]+)*")
_LINE_END: Final = re.compile(r"[\r\n]|\Z")
_BREAK: Final = r"(?:\r\n|\r|\n)"
_BLOCK: Final = re.compile(
    rf"(?P<head>[|>][^\r\n]*{_BREAK}(?>(?:[ \t]*{_BREAK})*)[ ]+)[^\r\n\x85\u2028\u2029]*(?P<tail>\s*)"
)
_PLAIN: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9._:/@+-]*[A-Za-z0-9._+-])?"
_SAFE: Final = re.compile(_PLAIN)
"""What references consist of: nothing in it means anything to YAML, quoted or not. A colon at its end would."""
_WORD: Final = re.compile(
    rf"""(?:\A|(?<=[ \t\r\n]))(?:{_PLAIN}(?=[ \t,\]}}])|'[ -&(-~]*'|"[ !#-\[\]-~]*")(?P<behind>[ \t,\]}}]*)\#"""
)
"""One word and the comment behind it, which would be a part of an unquoted one without anything in between."""


def marks(text: bytes) -> tuple[Sequence[Mark], Sequence[YamlError]]:
    """The marks of a file in its order, and what is wrong with those that cannot be followed (the first of them).

    Raises `YamlError`: it cannot be parsed.
    """
    if MARK_SIGN not in text:
        return (), ()
    content = _content(text)
    comments = list(_comments(content))
    found = _found_by_counting(content, comments)
    if found is not None:
        return found, ()
    good: list[Mark] = []
    wrong: list[YamlError] = []
    for each in _found_by_events(content, comments):
        if isinstance(each, Mark):
            good.append(each)
        elif len(wrong) < _MOST_WRONG:
            wrong.append(each)
    return good, wrong


def edited(text: bytes, values: Mapping[Mark, str]) -> bytes:
    """The file with these values at these of its marks. Raises `YamlError`: it cannot be done, or not be proven."""
    if not values:
        return text
    content = _content(text)
    of_words = _are_of_words(content, values)
    if not of_words and (stray := values.keys() - set(marks(text)[0])):
        line = min(mark.line for mark in stray)
        raise YamlError("the mark is none of this file", line, hint="Look at the file afresh.")
    ordered = sorted(values, key=lambda mark: mark.start)
    after, places = _replaced(content, ordered, values)
    if not (of_words and _proven_by_counting(content, ordered, after, places, values)):
        _prove_by_events(content, after, values)
    return after.encode()


def _content(text: bytes) -> str:
    if len(text) > MAX_FILE_BYTES:
        raise YamlError(f"the file has {len(text):,} bytes; at most {MAX_FILE_BYTES:,} are searched for marks", 1)
    return decoded(text)


@immutable(kw_only=False)
class _Span:
    """Where a scalar or an alias stands; `start` is behind its anchor and its tag."""

    start: int
    end: int
    event: ScalarEvent | AliasEvent


@immutable(kw_only=False)
class _Comment:
    """What looks like a mark: its line, where that begins, where the comment does, and what it holds."""

    line: int
    line_at: int
    at: int
    asked: str


# --- Finding ---------------------------------------------------------------------------------------------------------
def _comments(content: str) -> Iterator[_Comment]:
    """What could be a mark by its look: the last of each line."""
    seen, line = 0, 1
    while (sign := content.find(_SIGN, seen)) >= 0:
        end = _end_of_line(content, sign)
        line_at = max(content.rfind("\n", seen, sign), content.rfind("\r", seen, sign), seen - 1) + 1
        line += lines(content, seen, line_at)
        openings = deque(_OPENING.finditer(content, line_at, content.rfind(_SIGN, sign, end)), maxlen=1)
        asked = content[openings[0].end() : end].rstrip(" \t") if openings else ""
        if asked.endswith("}"):
            yield _Comment(line, line_at, openings[0].start(), asked)
        seen = end


def _end_of_line(content: str, at: int) -> int:
    end = _LINE_END.search(content, at)
    assert end is not None
    return end.start()


def _found_by_counting(content: str, comments: Sequence[_Comment]) -> tuple[Mark, ...] | None:
    """None where a mark stands behind something else than one word, is none, or cannot be followed."""
    words = [word for comment in comments if (word := _word(content, comment))]
    if len(words) < len(comments) or not _is_quick(content):
        return None
    events = count(content)
    if events is None or _count_in_brackets(content, words) != events + 2 * len(words):
        return None
    try:
        return tuple(_mark_of_word(content, word, comment) for word, comment in zip(words, comments, strict=True))
    except YamlError:
        return None


def _word(content: str, comment: _Comment) -> tuple[int, int] | None:
    """Where the word stands that a comment seems to be behind."""
    word = _WORD.search(content, comment.line_at, comment.at + 1)
    return (word.start(), word.start("behind")) if word and word.end() == comment.at + 1 else None


def _is_quick(content: str) -> bool:
    return content.count("[") + content.count("{") <= _MAX_BRACKETS


def _mark_of_word(content: str, word: tuple[int, int], comment: _Comment) -> Mark:
    start, end = word
    policy, part = _asked(comment)
    style = content[start] if content[start] in "'\"" else ""
    value = content[start + len(style) : end - len(style)].strip()
    return Mark(policy=policy, part=part, value=value, line=comment.line, start=start, end=end, style=style)


def _count_in_brackets(content: str, words: Sequence[tuple[int, int]]) -> int | None:
    pieces, at = [], 0
    for start, end in words:
        pieces += [content[at:start], "[", content[start:end], "]"]
        at = end
    return count("".join([*pieces, content[at:]]))


def _found_by_events(content: str, comments: Sequence[_Comment]) -> Iterator[Mark | YamlError]:
    spans = [_span(content, event) for event in parsed(content) if isinstance(event, ScalarEvent | AliasEvent)]
    starts = [span.start for span in spans]
    for comment in comments:
        try:
            if mark := _mark(content, comment, spans, starts):
                yield mark
        except YamlError as error:
            yield error


def _span(content: str, event: ScalarEvent | AliasEvent) -> _Span:
    start, end = place(content, event)
    properties = _PROPERTIES.match(content, start, end)
    return _Span(properties.end() if properties else start, end, event)


def _mark(content: str, comment: _Comment, spans: list[_Span], starts: list[int]) -> Mark | None:
    """None for what looks like a mark and is part of a text, or of a comment that began before it.

    Raises `YamlError` for a mark that cannot be followed.
    """
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
    style = span.event.style or ""
    is_empty = not span.event.value.strip() if head_only else not style and not span.event.value
    if is_empty:
        raise YamlError("the marked scalar is empty", line, hint="Write the value that it has now.")
    if (head_only and not _BLOCK.fullmatch(content, span.start, span.end)) or (
        not head_only and span.start < comment.line_at
    ):
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
def _are_of_words(content: str, values: Iterable[Mark]) -> bool:
    """Whether each of these marks seems to be in the text, behind one word."""
    by_line = {comment.line: comment for comment in _comments(content)}
    for mark in values:
        comment = by_line.get(mark.line)
        word = _word(content, comment) if comment else None
        if comment is None or word is None or _mark_of_word(content, word, comment) != mark:
            return False
    return _is_quick(content)


def _replaced(content: str, ordered: Sequence[Mark], values: Mapping[Mark, str]) -> tuple[str, list[tuple[int, int]]]:
    """The text with these values, and where they stand in it."""
    pieces, places = [], []
    at = moved = 0
    for mark in ordered:
        piece = _written(content, mark, values[mark])
        pieces += [content[at : mark.start], piece]
        places.append((mark.start + moved, mark.start + moved + len(piece)))
        at, moved = mark.end, places[-1][1] - mark.end
    return "".join([*pieces, content[at:]]), places


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
            assert block is not None, "it would be no mark"
            return f"{block['head']}{value}{block['tail']}"


def _proven_by_counting(
    before: str, ordered: Sequence[Mark], after: str, places: Sequence[tuple[int, int]], values: Mapping[Mark, str]
) -> bool:
    """False where it takes the events themselves to tell."""
    if [_meaning(after[start:end]) for start, end in places] != [values[mark] for mark in ordered]:
        return False
    events = count(after)
    in_brackets = _count_in_brackets(before, [(mark.start, mark.end) for mark in ordered])
    return events is not None and events + 2 * len(places) == in_brackets == _count_in_brackets(after, places)


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
