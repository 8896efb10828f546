"""Versions, their order, and the meaning of ranges.

The rows of ranges are the facts of Masterminds/semver v3, from its README ("Basic Comparisons", "Working With Prerelease
Versions", "Hyphen Range Comparisons", "Wildcards", "Tilde", "Caret") and, where that is silent, from its answers
(v3.5.0). The rows of order are those of semver.org 2.0.0, section 11.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.semver import Version, parse_range, version

HOLDS: dict[str, tuple[str, str]] = {
    # comparison
    "1.2.3": ("1.2.3 v1.2.3 1.2.3+linux", "1.2.4 1.2.2 1.2.3-rc.1"),
    "=1.2.3": ("1.2.3", "1.2.4 1.2"),
    "= v1.2.3": ("1.2.3 v1.2.3", "1.2.4"),
    "!=1.2.3": ("1.2.4 0.0.0 2.0.0", "1.2.3 v1.2.3 1.2.4-rc.1"),
    "!=1.2.x": ("1.3.0 1.1.9 2.2.0", "1.2.0 1.2.9"),
    "!=1": ("0.9.0 2.0.0", "1.0.0 1.9.9"),
    ">1.2.3": ("1.2.4 1.3.0 2.0.0", "1.2.3 1.2.2"),
    ">1.2": ("1.3.0 2.0.0", "1.2.0 1.2.9"),
    ">11": ("12.0.0", "11.1.0 11.0.0"),
    ">=1.2.3": ("1.2.3 1.2.4 2.0.0", "1.2.2 1.2.3-rc.1 1.3.0-rc.1"),
    ">=1.2": ("1.2.0 1.2.1", "1.1.9"),
    "=>1.2": ("1.2.0 9.0.0", "1.1.9"),
    ">= 1.2.x": ("1.2.0 1.3.0", "1.1.9"),
    "<1.2.3": ("1.2.2 0.9.0", "1.2.3 1.2.3-rc.1 1.2.4"),
    "<1.2": ("1.1.9", "1.2.0"),
    "<=1.2.3": ("1.2.3 1.2.2", "1.2.4"),
    "=<1.2": ("1.2.0 1.2.9 1.1.0", "1.3.0"),
    "<= 2.x": ("2.9.9 1.0.0", "3.0.0"),
    "<11": ("10.9.9", "11.0.0"),
    # and, or
    ">= 1.2, < 3.0.0 || >= 4.2.3": ("1.2.0 2.9.9 4.2.3 5.0.0", "3.0.0 4.2.2 1.1.9"),
    ">= 1.2 < 3.0.0 || >= 4.2.3": ("1.2.0 4.2.3", "3.0.0"),
    ">=1.2 <2": ("1.2.0 1.99.0", "2.0.0 1.1.9 1.3.0-rc.1 2.0.0-rc.1"),
    ">1.1, <2, !=1.3.x": ("1.2.0 1.4.0", "1.3.0 1.3.9 1.1.5"),
    "1.2.3 || 1.2.5": ("1.2.3 1.2.5", "1.2.4"),
    "1.x||3.x": ("1.9.0 3.0.0", "2.0.0"),
    # pre-releases, when the range names one
    ">=1.2.3-0": ("1.2.3-rc.1 1.2.3 1.3.0-beta 2.0.0-alpha", "1.2.2 1.2.2-rc.1"),
    ">=1.2.0-0 <2.0.0": ("1.3.0-rc.1 2.0.0-rc.1 1.2.0-0", "2.0.0 1.1.9"),
    ">=1.2.3-beta.2": ("1.2.3-beta.2 1.2.3-beta.11 1.2.3-rc.1 1.2.3", "1.2.3-beta.1 1.2.3-alpha.9"),
    "1.2.3-beta.1": ("1.2.3-beta.1", "1.2.3 1.2.3-beta.2"),
    "~1.2.3-beta.2": ("1.2.3-beta.2 1.2.3 1.2.9", "1.2.3-beta.1 1.3.0"),
    "^1.2.3-beta.2": ("1.2.3-beta.2 1.9.0 1.9.0-rc.1", "1.2.3-beta.1 2.0.0 2.0.0-rc.1"),
    "*-0": ("1.0.0-alpha 2.0.0", ""),
    "<2.0.0-0 || 3.x": ("1.9.0-rc.1 3.1.0", "2.0.0 3.1.0-rc.1"),
    # hyphens
    "1.2 - 1.4.5": ("1.2.0 1.4.5", "1.1.9 1.4.6 1.3.0-rc.1"),
    "2.3.4 - 4.5": ("2.3.4 4.5.0 4.5.9", "2.3.3 4.6.0"),
    "1.2.3 - 2": ("1.2.3 2.9.9", "3.0.0"),
    "1.0.0-alpha - 1.0.0": ("1.0.0-beta 1.0.0", "1.0.1"),
    # wildcards
    "*": ("0.0.0 1.2.3 99.0.0", "1.0.0-rc.1"),
    "x": ("1.2.3", "1.2.3-rc.1"),
    "1.x": ("1.0.0 1.9.9", "2.0.0 0.9.9"),
    "1.X.x": ("1.0.0 1.9.9", "2.0.0"),
    "1.2.x": ("1.2.0 1.2.9", "1.3.0 1.1.9"),
    "1.2.*": ("1.2.0", "1.3.0"),
    "1": ("1.0.0 1.9.9", "2.0.0"),
    "1.2": ("1.2.0 1.2.9", "1.3.0"),
    "0": ("0.0.0 0.9.9", "1.0.0"),
    # tilde
    "~1.2.3": ("1.2.3 1.2.9", "1.3.0 1.2.2"),
    "~1": ("1.0.0 1.9.9", "2.0.0"),
    "~2.3": ("2.3.0 2.3.9", "2.4.0"),
    "~1.2.x": ("1.2.0 1.2.9", "1.3.0"),
    "~1.x": ("1.0.0 1.9.9", "2.0.0"),
    "~>2.0": ("2.0.0 2.0.9", "2.1.0"),
    "~0.0.0": ("0.0.0 7.0.0", ""),
    "~0.2.3": ("0.2.3 0.2.9", "0.3.0"),
    # caret
    "^1.2.3": ("1.2.3 1.9.9", "2.0.0 1.2.2"),
    "^1.2.x": ("1.2.0 1.9.9", "2.0.0"),
    "^2.3": ("2.3.0 2.9.9", "3.0.0"),
    "^2.x": ("2.0.0 2.9.9", "3.0.0"),
    "^0.2.3": ("0.2.3 0.2.9", "0.3.0 1.0.0"),
    "^0.2": ("0.2.0 0.2.9", "0.3.0"),
    "^0.0.3": ("0.0.3", "0.0.4 0.0.2"),
    "^0.0": ("0.0.0 0.0.9", "0.1.0"),
    "^0": ("0.0.0 0.9.9", "1.0.0"),
}
ROWS = [
    (text, each, holds) for text, row in HOLDS.items() for holds, found in zip((True, False), row, strict=True) for each in found.split()
]  # fmt: skip


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(ROWS) >= 150


@pytest.mark.parametrize(("text", "found", "holds"), ROWS)
def test_a_range_holds_what_masterminds_says(text: str, found: str, holds: bool) -> None:
    number = version(found)

    assert number is not None
    assert (number in parse_range(text)) is holds


def test_an_open_caret_holds_every_release() -> None:
    """So says the comment of its constraintCaret; its code lets no major but 0 pass."""
    assert Version(5, 0, 0) in parse_range("^*")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" ", "empty"),
        (">=1.2 ||", "empty"),
        ("latest", "no comparison"),
        (">", "no comparison"),
        ("1.2.3.4", "no comparison"),
        (">=1.2 and <2", "no comparison"),
        ("1 -", "no comparison"),
        ("a - b", "no comparison"),
        ("1.2.3-01", "leading zero"),
        ("1" * 300, "at most 256"),
    ],
)
def test_what_is_no_range_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_range(text)


ORDER = """0.0.0-0 0.0.0-0.0 0.0.0-1 0.0.0-10 0.0.0-a 0.0.0 0.0.1 0.9.10 0.10.0 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta
1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.2.0 1.10.0 2.0.0 2.1.0 2.1.1 10.0.0""".split()  # noqa: SIM905 - to be read as a line


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ORDER)))
def test_versions_are_ordered_as_semver_says(lower: str, higher: str) -> None:
    first, second = version(lower), version(higher)

    assert first is not None
    assert second is not None
    assert first < second
    assert not second < first
    assert first != second


@pytest.mark.parametrize(
    ("text", "other"), [("1", "1.0.0"), ("v1.2", "1.2.0"), ("1.2.3+a", "1.2.3+b"), ("01.2.3", "1.2.3")]
)
def test_versions_that_are_written_in_another_way_are_equal(text: str, other: str) -> None:
    assert version(text) == version(other) != None  # noqa: E711 - both are versions


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v",
        "latest",
        "1.",
        "1.2.3.4",
        "1.2.3-",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3+",
        "V1",
        "1.2.3 ",
        "١.٢.٣",
        "1" * 300,
        str(2**64),
        f"1.{2**64}",
    ],
)
def test_what_is_no_version_is_none(text: str) -> None:
    assert version(text) is None


def test_the_largest_number_that_masterminds_takes() -> None:
    assert version(f"1.{2**64 - 1}") is not None


NUMBERS = st.integers(0, 3)
VERSIONS = st.builds(Version, NUMBERS, NUMBERS, NUMBERS)


@given(VERSIONS, VERSIONS)
def test_two_comparisons_of_one_version_share_all_releases_out(bound: Version, found: Version) -> None:
    text = f"{bound.major}.{bound.minor}.{bound.patch}"

    assert (found in parse_range(f"<{text}")) is not (found in parse_range(f">={text}"))
    assert (found in parse_range(f"<={text}")) is not (found in parse_range(f">{text}"))
    assert (found in parse_range(f"={text}")) is not (found in parse_range(f"!={text}"))
    assert (found in parse_range(f"^{text} || ~{text} || {text}")) <= (found in parse_range(f">={text}"))


@given(st.text(alphabet="0123456789.xX*v-+<>=!~^|, ab", max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    version(text)
    try:
        parse_range(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right
