"""Properties of the quarantine file: any bytes are read or refused, and what is added takes nothing away."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.quarantine import read, with_entries
from gitsyncd.model.image import Quarantine, Quarantined, QuarantinedCommit

COMMIT, DIGEST = "0123456789abcdef0123456789abcdef01234567", f"sha256:{'12' * 32}"
PIECES = st.sampled_from(
    [
        "images:",
        "commits:",
        "- ",
        "  ",
        "\n",
        "\n  ",
        "\n- ",
        "\n  - ",
        "\r\n",
        "image: a",
        "tag: b",
        f"digest: {DIGEST}",
        f"commit: {COMMIT}",
        "since: 2026-03-31",
        "reason: ",
        "reason: |+\n      ",
        " # c\n",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "~",
        "'",
        '"',
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "!!str ",
        "\0",
        "\ufeff",
        "\x85",
    ]
)
TEXT = st.text(max_size=30)
SINCE = st.sampled_from(["", "2026-03-31", "2026-03-31T09:00:00Z", "2026-03-31 09:00+02:00"])
HEX = st.sampled_from([COMMIT, "1" * 40, f"{'9' * 38}e1", "f" * 64])
IMAGES = st.builds(
    Quarantined,
    image=st.sampled_from(["nginx", "registry.example.com:5000/team/front", "a/b"]),
    tag=st.sampled_from(["1.10", "latest", "yes", "0x1f", "_a-"]),
    digest=st.sampled_from(["", DIGEST]),
    reason=TEXT,
    since=SINCE,
    commit=st.just("") | HEX,
)
COMMITS = st.builds(QuarantinedCommit, commit=HEX, reason=TEXT, since=SINCE)


def extended(text: bytes, images: list[Quarantined], commits: list[QuarantinedCommit]) -> tuple[bytes, str]:
    try:
        return with_entries(text, images=images, commits=commits), ""
    except YamlError as error:
        return b"", error.message


def added(text: bytes, images: list[Quarantined], commits: list[QuarantinedCommit]) -> bytes | None:
    """None where the layout does not allow it. Everything that was read is still there, and the new entries once."""
    before = read(text)
    after, told = extended(text, images, commits)
    if told:
        assert "layout" in told
        return None
    now = read(after)
    assert now.images[: len(before.images)] == before.images
    assert now.commits[: len(before.commits)] == before.commits
    assert {(entry.image, entry.tag, entry.digest) for entry in now.images} == {
        (entry.image, entry.tag, entry.digest) for entry in (*before.images, *images)
    }
    assert {entry.commit for entry in now.commits} == {entry.commit for entry in (*before.commits, *commits)}
    assert with_entries(after, images=images, commits=commits) == after
    return after


@given(
    st.binary(max_size=200)
    | st.lists(PIECES, max_size=20).map(lambda pieces: "".join(pieces).encode())
    | TEXT.map(str.encode)
)
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    with contextlib.suppress(YamlError):
        assert isinstance(read(text), Quarantine)
        added(text, [Quarantined(image="c", tag="d")], [QuarantinedCommit(commit=COMMIT)])


@given(st.lists(IMAGES, max_size=3), st.lists(COMMITS, max_size=3))
def test_what_is_written_is_read(images: list[Quarantined], commits: list[QuarantinedCommit]) -> None:
    after = added(b"", images, commits)

    assert after is not None
    if len(images) == 1:
        (now,) = read(after).images
        (was,) = images
        assert now.reason == was.reason.strip()
        assert (now.image, now.tag, now.digest, now.since, now.commit) == (
            was.image,
            was.tag,
            was.digest,
            was.since,
            was.commit,
        )


@st.composite
def files(draw: st.DrawFn) -> str:
    """As many hands would write it: styles, comments at the ends of lines and between them, missing and empty lists."""
    content: dict[str, Any] = {}
    for key, entries in (
        ("images", draw(st.lists(IMAGES, max_size=3))),
        ("commits", draw(st.lists(COMMITS, max_size=3))),
    ):
        fields = [
            {
                field.name: value
                for field in reversed(dataclasses.fields(entry))
                if (value := getattr(entry, field.name))
            }
            for entry in entries
        ]
        if fields:
            content[key] = fields
        elif draw(st.booleans()):
            content[key] = draw(st.sampled_from([None, []]))
    text = yaml.safe_dump(
        content or None,
        default_flow_style=draw(st.sampled_from([None, False, False])),
        default_style=draw(st.sampled_from([None, None, '"', "|", ">"])) if content and all(content.values()) else None,
        width=draw(st.sampled_from([20, 200])),
        indent=draw(st.sampled_from([2, 4])),
        explicit_start=draw(st.booleans()),
        explicit_end=draw(st.booleans()),
        sort_keys=draw(st.booleans()),
        allow_unicode=draw(st.booleans()),
    )
    lines = text.split("\n")
    for number in draw(st.lists(st.integers(0, len(lines)), max_size=4)):
        lines.insert(number, " " * draw(st.sampled_from([0, 1, 2, 4])) + draw(st.sampled_from(["# c", "", "#"])))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)[: draw(st.sampled_from([None, -1]))]


@given(files(), st.lists(IMAGES, max_size=2), st.lists(COMMITS, max_size=2))
def test_nothing_that_people_wrote_is_lost(
    text: str, images: list[Quarantined], commits: list[QuarantinedCommit]
) -> None:
    try:
        read(text.encode())
    except YamlError:
        return  # a comment that fell into a text

    after = added(text.encode(), images, commits)

    assert after is not None, "no layout that people write is refused"
    rest = iter(after.decode())
    kept = re.sub(r"null|\[\]|~|[ \r\n]+", "", text)
    assert all(letter in rest for letter in kept), "every character is still there, in its order"
