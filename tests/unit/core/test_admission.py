"""Which commit may be applied."""

import pytest

from gitsyncd.core.admission import REWOUND, Admission, admit
from gitsyncd.model.source import OnRewind

OLD, NEW = "a" * 40, "b" * 40


def test_the_first_commit_is_admitted() -> None:
    assert admit(head=NEW, admitted="", descends=False) == Admission(commit=NEW)


def test_a_descendant_is_admitted() -> None:
    assert admit(head=NEW, admitted=OLD, descends=True) == Admission(commit=NEW)


def test_the_same_commit_stays_admitted() -> None:
    assert admit(head=OLD, admitted=OLD, descends=False) == Admission(commit=OLD)


def test_a_head_that_does_not_descend_is_held_and_the_admitted_commit_stays() -> None:
    assert admit(head=NEW, admitted=OLD, descends=False) == Admission(commit=OLD, held=REWOUND)


def test_a_rewind_is_followed_where_the_source_says_so() -> None:
    assert admit(head=NEW, admitted=OLD, descends=False, on_rewind=OnRewind.FOLLOW) == Admission(commit=NEW)


@pytest.mark.parametrize(("approved", "expected"), [
    ({NEW}, Admission(commit=NEW)),
    ({OLD}, Admission(commit=OLD, held=REWOUND)),
    ({NEW[:12]}, Admission(commit=OLD, held=REWOUND)),
])  # fmt: skip
def test_an_approval_is_for_exactly_that_head(approved: set[str], expected: Admission) -> None:
    assert admit(head=NEW, admitted=OLD, descends=False, approved=approved) == expected
