"""What registries answer, read from bytes and headers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gitsyncd.edges.registry.answers import origin, pause_s
from gitsyncd.model.image import Origin

SOURCE, REVISION = "org.opencontainers.image.source", "org.opencontainers.image.revision"
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": " 17 "}, 17.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "١٧"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Thu, 01 Jan 2026 12:01:30 GMT"}, 90.0),
        ({"Retry-After": "Thursday, 01-Jan-26 12:01:30 GMT"}, 90.0),
        ({"Retry-After": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "Thu, 99 Jan 2026 12:01:30 GMT"}, None),
        # by the server's clock where it tells the time, even if ours is an hour late
        ({"Retry-After": "Thu, 01 Jan 2026 13:01:30 GMT", "Date": "Thu, 01 Jan 2026 13:00:00 GMT"}, 90.0),
        ({"Retry-After": "Thu, 01 Jan 2026 12:01:30 GMT", "Date": "nonsense"}, 90.0),
    ],
)
def test_a_pause_is_read_in_either_form(headers: dict[str, str], seconds: float | None) -> None:
    assert pause_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        ({}, {}, None),
        ({SOURCE: " ", REVISION: ""}, {}, None),
        (
            {SOURCE: "https://git.example/a", REVISION: "c0ffee"},
            {},
            Origin(source="https://git.example/a", revision="c0ffee"),
        ),
        ({REVISION: "c0ffee"}, {}, Origin(revision="c0ffee")),
        ({}, {SOURCE: "https://git.example/a"}, Origin(source="https://git.example/a")),
        # labels come first, each by itself
        ({REVISION: "c0ffee"}, {REVISION: "0ff1ce", SOURCE: "a"}, Origin(source="a", revision="c0ffee")),
        # how a build has cloned its code is nobody's business
        ({SOURCE: "https://x:t0ken@git.example/a.git"}, {}, Origin(source="https://git.example/a.git")),
        ({SOURCE: "https://t0ken@git.example/a@b"}, {}, Origin(source="https://git.example/a@b")),
        ({SOURCE: "git@git.example:a.git"}, {}, Origin(source="git@git.example:a.git")),
        # what nobody could read
        ({SOURCE: "a\nb", REVISION: "c" * 301}, {}, None),
        ({SOURCE: "\x1b[31m", REVISION: "c0ffee"}, {}, Origin(revision="c0ffee")),
    ],
)
def test_what_an_image_is_made_from_is_in_its_labels_or_in_annotations(
    labels: dict[str, str], annotations: dict[str, str], expected: Origin | None
) -> None:
    assert origin(labels, annotations) == expected
