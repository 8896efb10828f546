"""Values of the agent file and the line of each."""

from typing import Any

import pytest

from gitsyncd.edges.yaml.agentfile import Problem, read

VALUES: list[tuple[str, Any]] = [
    ("yes", "yes"),
    ("on", "on"),
    ("true", True),
    ("False", False),
    ("~", None),
    ("", None),
    ("012", 12),
    ("0o17", 15),
    ("0x1f", 31),
    ("-5", -5),
    ("1e3", 1000.0),
    ("1:30", "1:30"),
    ("2026-01-01", "2026-01-01"),
    ("'5'", "5"),
    ("30s", "30s"),
    ("9" * 5000, "9" * 5000),
    ("[a, 1]", ["a", 1]),
    ("{5: x}", {"5": "x"}),
]


@pytest.mark.parametrize(("text", "expected"), VALUES, ids=[row[0][:20] for row in VALUES])
def test_a_value_means_what_yaml_1_2_says(text: str, expected: Any) -> None:
    assert read(f"a: {text}\n").value == {"a": expected}


def test_every_key_and_item_has_its_line() -> None:
    located = read("# comment\na:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n")

    assert located.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", 0): 4,
        ("a", "b", 1): 5,
        ("a", "b", 1, "c"): 5,
        ("a", "b", 1, "d"): 6,
    }


def test_merged_keys_have_the_line_where_they_are_written_and_yield_to_own_ones() -> None:
    located = read("a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  <<: [*a, *b]\n  y: 3\n")

    assert located.value["c"] == {"x": 1, "y": 3, "z": 2}
    assert [located.lines["c", key] for key in "xyz"] == [1, 5, 2]


def test_an_anchor_that_is_used_twice_counts_as_yaml_says_and_warns_of_nothing() -> None:
    located = read("a: &x 1\nb: &x 2\nc: *x\n")

    assert (located.value["c"], located.problems) == (2, ())


def test_several_problems_are_found_in_one_reading() -> None:
    located = read("a: 1\na: 2\nb: !x []\n<<: 5\n")

    assert located.problems == (
        Problem(line=2, path=("a",), what="is written twice, first in line 1", fix="keep one of them"),
        Problem(
            line=3,
            path=("b",),
            what="has a tag, which means nothing here",
            fix="remove the word that begins with !",
        ),
        Problem(
            line=4,
            path=(),
            what="`<<` stands before something that is no map",
            fix="write `<<: *name-of-a-map`",
        ),
    )


def test_a_byte_order_mark_and_an_end_marker_are_no_content() -> None:
    assert read("\ufeff---\na: 1\n...\n").value == {"a": 1}
