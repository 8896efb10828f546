"""Properties of marks: counting finds what the events say, and an edit changes one scalar's event and no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yaml._yaml import CParser
from yaml.events import Event, ScalarEvent

from gitsyncd.edges.yaml import marked
from gitsyncd.edges.yaml.events import count
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.marked import edited, marks
from gitsyncd.model.image import Mark

MARK = '# {"$imagepolicy": "front"}'
NEW = ("2.0.0", "1.10", "registry.example.com:5000/team/front:1.2.3", "x" * 1100, "yes")

WORDS = st.text(alphabet="ab1 :#-.'\"\\{}[],&*!|>%@\t\né𝄞\N{LINE SEPARATOR}\x85", max_size=14)
VALUES = st.recursive(
    WORDS | st.integers() | st.booleans() | st.none() | st.sampled_from(["front:1", "1.2.3", "a b", "r.io/x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
STYLES = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([None, True, False]),
        "default_style": st.sampled_from([None, None, '"', "'", "|", ">"]),
        "allow_unicode": st.booleans(),
        "width": st.sampled_from([8, 20, 80]),
        "explicit_start": st.booleans(),
    }
)
PIECES = st.sampled_from(
    [
        "a",
        "b:1",
        '"c"',
        "'d'",
        "''",
        '"',
        "'",
        ": ",
        "- ",
        "? ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "#",
        " # ",
        "&a ",
        "*a ",
        "!t ",
        "|\n",
        ">-\n",
        "\n",
        "\n",
        "\n  ",
        "\n  ",
        " ",
        "\r",
        "\r\n",
        "\t",
        "---\n",
        "--- ",
        "...\n",
        "%TAG ! ",
        "\\",
        "a: ",
        f" {MARK}\n",
        f" {MARK}\n",
        f"{MARK}\n",
        f"a: b {MARK}\n  ",
        f'- "c" {MARK}\n',
    ]
)


# --- the oracle ------------------------------------------------------------------------------------------------------
def events_of(text: str) -> list[Event]:
    parser = CParser(text)
    found = []
    while (event := parser.get_event()) is not None:
        found.append(event)
    return found


def facts(event: Event) -> tuple[Any, ...]:
    names = ("anchor", "tag", "implicit", "value", "style", "flow_style", "explicit", "version", "tags")
    return (type(event), *(getattr(event, name, None) for name in names))


def changed(before: bytes, after: bytes) -> list[tuple[ScalarEvent, ScalarEvent]]:
    """The scalars that two texts differ in. Fails where they differ in anything else."""
    pairs = []
    for was, now in zip(events_of(before.decode()), events_of(after.decode()), strict=True):
        if facts(was) != facts(now):
            assert isinstance(was, ScalarEvent)
            assert isinstance(now, ScalarEvent)
            assert (was.anchor, was.tag) == (now.anchor, now.tag)
            pairs.append((was, now))
    return pairs


def check_edits(text: bytes, found: Sequence[Mark]) -> None:
    """Each mark alone and all of them at once, with values of every kind."""
    for first in range(len(NEW)):
        wanted = {mark: NEW[(first + number) % len(NEW)] for number, mark in enumerate(found)}
        check_edit(text, wanted)
        check_edit(text, dict(list(wanted.items())[first % len(wanted) :][:1]))


def check_edit(text: bytes, values: dict[Mark, str]) -> None:
    after, told = told_or_edited(text, values)
    if told:
        # A block of another number of lines is found, and is not written.
        assert "more than one line" in told
        assert any(mark.style in {"|", ">"} for mark in values)
        return
    stay = re.compile("(.*)".join(map(re.escape, outside(text.decode(), values))), re.DOTALL)
    assert stay.fullmatch(after.decode())
    pairs = changed(text, after)
    assert [(was.value.strip(), now.value.strip()) for was, now in pairs] == [
        (mark.value, value) for mark, value in values.items() if facts_differ(mark, value)
    ]


def told_or_edited(text: bytes, values: dict[Mark, str]) -> tuple[bytes, str]:
    try:
        return edited(text, values), ""
    except YamlError as error:
        return b"", error.message


def facts_differ(mark: Mark, value: str) -> bool:
    return mark.value != value or (mark.style == "" and value in {"1.10", "yes"})


def outside(content: str, values: dict[Mark, str]) -> list[str]:
    """What stands around the scalars."""
    pieces, at = [], 0
    for mark in values:
        pieces.append(content[at : mark.start])
        at = mark.end
    return [*pieces, content[at:]]


def by_events(content: str) -> tuple[Mark | YamlError, ...] | None:
    """None for what cannot be parsed."""
    try:
        return tuple(marked._found_by_events(content, comments_of(content)))
    except YamlError:
        return None


def by_counting(content: str) -> tuple[Mark, ...] | None:
    return marked._found_by_counting(content, comments_of(content))


def comments_of(content: str) -> list[marked._Comment]:
    return list(marked._comments(content))


# --- the properties --------------------------------------------------------------------------------------------------
TRICKY = [
    f'a: ["x\n  ", " {MARK}\n  "]\n',
    f'a: ["x\n  ", foo" {MARK}\n  ]\n',
    f'a: [["x\n  ", foo" {MARK}\n  ], b {MARK}\n]\n',
    f"a: ['x\n  '' ', b {MARK}\n]\n",
    f'a: "x\n  \\ " {MARK}\n',
    f'a: "x\\\n  b {MARK}\n  "\n',
    f"a: b c {MARK}\n",
    f"a: b\n  c {MARK}\n",
    f"a: b] {MARK}\n",
    f"a: b, {MARK}\n",
    f"a: b{MARK}\n",
    f"a: b, {MARK[1:]}\n",
    f'a: "b"{MARK}\n',
    f"[a, b]{MARK}\n",
    f"[a, b {MARK}\n]\n",
    f"{{a, b {MARK}\n}}\n",
    f"{{a: 1, b {MARK}\n : c}}\n",
    f"[? a {MARK}\n : b]\n",
    f"? a {MARK}\n: b {MARK}\n",
    f"a: &x b {MARK}\nc: *x\n",
    f"a: !t b {MARK}\n",
    f"a: !t &x {MARK}\n",
    f"%TAG ! b {MARK}\n---\na: 1\n",
    f"%YAML 1.1 {MARK}\n---\na: 1\n",
    f"--- a {MARK}\n--- b {MARK}\n",
    f"--- |\n a {MARK}\n b {MARK}\n...\n",
    f"a: |\n  b: c {MARK}\nd: e {MARK}\n",
    f"a: > {MARK}\n  b\nc: d {MARK}\n",
    f"# a {MARK}\nb: c {MARK}\n",
    f"a: b # c {MARK}\nd: e {MARK}\n",
    f"a: b {MARK}\rc: d {MARK}\r\ne: f {MARK}",
    f"a: b {MARK} \x85c: d {MARK}\n",
    f"a: b \N{LINE SEPARATOR}  c {MARK}\n",
    f"\ufeffa {MARK}\n",
    f"a {MARK}\n",
    f"- a {MARK}\n- b: c {MARK}\n  d: 'e' {MARK}\n",
    f"a: '' {MARK}\n",
    f"a: ' b ' {MARK}\n",
    f"a: 'b''c' {MARK}\n",
    f"a: b: {MARK}\n",
    f"a: b {MARK}\n  c: d\n",
    f"key{'y' * 900}: [a, b {MARK}\n]\n",
]


@pytest.mark.parametrize("content", TRICKY)
def test_where_counting_finds_marks_it_finds_what_the_events_say(content: str) -> None:
    check(content)


def check(content: str) -> None:
    found, counted = by_events(content), by_counting(content)
    assert counted is None or counted == found
    text = content.encode()
    if found and (good := marks(text)[0]):
        check_edits(text, good)


@given(st.lists(PIECES, max_size=14).map("".join))
@example("")
def test_in_any_soup_counting_finds_what_the_events_say(content: str) -> None:
    check(content)


@given(documents=st.lists(VALUES, min_size=1, max_size=3), style=STYLES, data=st.data())
def test_whatever_lines_of_whatever_files_are_marked_one_scalar_changes(
    documents: list[Any], style: dict[str, Any], data: st.DataObject
) -> None:
    """Ends of lines lie behind scalars, in the midst of them, behind brackets, keys and anchors."""
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = yaml.safe_dump_all(documents, **style).split("\n")
    places = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=4))
    content = end.join(f"{line} {MARK}" if place in places else line for place, line in enumerate(lines))

    check(content)


@given(documents=st.lists(VALUES, min_size=1, max_size=3), style=STYLES, data=st.data())
def test_the_usual_mark_is_found_by_counting_whatever_stands_around(
    documents: list[Any], style: dict[str, Any], data: st.DataObject
) -> None:
    """Else it would be right and slow, and nobody would notice."""
    parts = [yaml.safe_dump(document, **style).removesuffix("...\n") for document in documents]
    word = data.draw(st.sampled_from(["front:1", "'front:1'", '"front:1"']))
    kept = data.draw(st.sampled_from(["image: @@ MARK", "- image: @@ MARK", "{image: @@ } MARK", "- [a, @@] MARK"]))
    kept = kept.replace("@@", word).replace("MARK", MARK)
    content = "\n---\n".join([*parts, kept, *parts]) + "\n"
    assume(count(content) is not None)

    found = by_counting(content)

    assert found is not None
    assert [mark.value for mark in found] == ["front:1"]
    check(content)
