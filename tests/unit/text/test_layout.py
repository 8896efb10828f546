"""Widths as terminals count them, cutting, wrapping, ages."""

import unicodedata

import pytest

from gitsyncd.text.layout import Column, Paint, Table, age, bar, clipped, columns, duration, padded, short, wrapped
from tests.unit.text.answers import NOW, ago

COMBINED = unicodedata.normalize("NFD", "é")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", 3), ("日本", 4), (COMBINED, 1), ("é", 1), ("a\u200bb", 2), ("✔\ufe0f", 2), ("🚀", 2), ("", 0)],
)
def test_columns_are_those_of_a_terminal(text: str, expected: int) -> None:
    assert columns(text) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abcdef", 6, "abcdef"), ("abcdef", 5, "abcd…"), ("日本語", 4, "日…"), ("日本語", 5, "日本…"), ("ab", 1, "…")],
)
def test_what_is_cut_ends_with_an_ellipsis(text: str, width: int, expected: str) -> None:
    assert clipped(text, width) == expected


def test_a_cell_fills_its_column_although_a_wide_sign_does_not_fit_its_end() -> None:
    assert padded("日本語", 4) == "日… "
    assert padded("7", 3, right=True) == "  7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three four", ["> one two", "    three", "    four"]),
        ("abcdefghijklmnop", ["> abcdefgh", "    ijklmn", "    op"]),
        ("yes: gitsyncd approve web --plan 44f4", ["> yes:", "    gitsyncd approve web --plan 44f4"]),
    ],
)
def test_words_are_wrapped_long_ones_broken_and_commands_left_whole(text: str, expected: list[str]) -> None:
    assert wrapped(text, 10, first="> ", rest="    ") == expected


def test_without_a_width_a_line_stays_one_line() -> None:
    assert wrapped("one two three four", None, first="> ", rest="  ") == ["> one two three four"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (7800, "2h10m"),
        (36600, "10h"),
        (86400 * 5, "5d"),
    ],
)
def test_a_duration_has_the_unit_that_matters(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_an_age_is_counted_from_now_and_of_nothing_there_is_none() -> None:
    assert age(ago(minutes=3), NOW) == "3m"
    assert age(None, NOW) == ""


@pytest.mark.parametrize(
    ("done", "total", "expected"), [(0, 4, "[>   ]"), (2, 4, "[==> ]"), (4, 4, "[====]"), (0, 0, "[>   ]")]
)
def test_a_bar(done: int, total: int, expected: str) -> None:
    assert bar(done, total, 4) == expected


def test_a_revision_is_shown_with_eight_digits() -> None:
    assert short("env/eu@sha1:" + "ab" * 20) == "env/eu@abababab"
    assert short(None) == ""


HEADS = (Column("NAME", shrinks=True), Column("STATE"), Column("MORE", 2), Column("LEAST", 3))


def test_columns_are_left_out_in_their_order_before_names_are_cut_short() -> None:
    row = ["n" * 30, "ready", "more", "least"]

    shown = {width: Table(HEADS, [row], width).row(row, Paint(on=False), {}) for width in (60, 42, 32, 20)}

    assert shown == {
        60: f"{'n' * 30}  ready  more  least",
        42: f"{'n' * 28}…  ready  more",
        32: f"{'n' * 24}…  ready",
        20: f"{'n' * 12}…  ready",
    }


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    row = ["a", "ready", "", "b"]

    assert Table(HEADS, [row], None).head(Paint(on=False)) == "NAME  STATE  LEAST"
