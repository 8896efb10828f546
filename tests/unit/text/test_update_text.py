"""Updates of images as people read them: what is wrong, with the file, and what they wait for."""

from datetime import UTC, datetime
from typing import Any

from gitsyncd.text.images import images_text
from tests.unit.text.answers import policy


def shown(**facts: Any) -> list[str]:
    update = {
        "update": "fleet",
        "source": "fleet",
        "branch": "image-updates",
        "state": "ready",
        "commit": None,
        "committed": None,
        "pull_request": None,
        "waits_for": [],
        "problems": [],
        "error": None,
        "hint": None,
        **facts,
    }
    answer = {"policies": [policy()], "updates": [update]}
    text = images_text(answer, now=datetime(2026, 5, 1, tzinfo=UTC), width=None, colours=False)
    return [line for line in text.splitlines() if line.startswith(("update", "  fix"))]


def test_a_file_that_cannot_be_used_is_shown_with_its_line_and_the_fix() -> None:
    problem = {
        "file": "web/front.yaml",
        "line": 7,
        "error": "the mark stands behind an alias",
        "hint": "Mark the scalar.",
    }

    assert shown(problems=[problem]) == [
        "update fleet: web/front.yaml:7: the mark stands behind an alias",
        "  fix: Mark the scalar.",
    ]


def test_what_an_update_waits_for_is_named_and_of_many_the_first() -> None:
    assert shown(waits_for=["back"]) == [
        "update fleet: image-updates stays as it is until it is known what is wanted of back"
    ]
    assert shown(waits_for=["a", "b", "c", "d", "e"]) == [
        "update fleet: image-updates stays as it is until it is known what is wanted of a, b, c and 2 more"
    ]
