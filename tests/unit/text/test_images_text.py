"""Policies and revisions as people read them: what of an image leads back to its code."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gitsyncd.text.history import history_text
from gitsyncd.text.images import images_text
from tests.unit.text.answers import IMAGE, policy

SOURCE = "https://git.example.com/team/front"
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def revision(commit: str, *images: str, **facts: Any) -> dict[str, Any]:
    return {
        "revision": f"main@sha1:{commit * 40}",
        **dict.fromkeys(("admitted", "applied", "in_sync", "healthy", "failed", "error")),
        "images": list(images),
        "made_from": [],
        **facts,
    }


@pytest.mark.parametrize(
    ("source", "commit", "shown"),
    [
        (SOURCE, "c0ffee11" + "0" * 32, f"made from {SOURCE}@c0ffee11"),
        (SOURCE, "v1.2.0", f"made from {SOURCE}@v1.2.0"),
        (SOURCE, "", f"made from {SOURCE}"),
        ("", "c0ffee", "made from c0ffee"),
    ],
)
def test_the_code_of_an_image_is_shown_beneath_its_policy(source: str, commit: str, shown: str) -> None:
    answer = {"policies": [policy(made_from={"source": source, "revision": commit})], "updates": []}

    text = images_text(answer, now=NOW, width=None, colours=False)

    assert f"  {shown}" in text.splitlines()


def test_a_revision_says_which_code_its_images_are_made_from() -> None:
    new = f"{IMAGE}:1.2.0"
    origin = {"image": new, "source": SOURCE, "revision": "c0ffee11" + "0" * 32}
    revisions = [
        revision("b", f"{IMAGE}2:1.0.0", new, made_from=[origin]),
        revision("a", f"{IMAGE}2:1.0.0", f"{IMAGE}:1.1.0"),
    ]

    text = history_text(
        {"targets": [{"target": "web@eu", "damage": None, "revisions": revisions}]}, width=None, colours=False
    )

    assert f"  image {new}, made from {SOURCE}@c0ffee11" in text.splitlines()
    assert f"  image {IMAGE}2:1.0.0, made" not in text
