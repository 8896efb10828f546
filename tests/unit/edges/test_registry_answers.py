"""What registries answer, read from bytes and headers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gitsyncd.edges.registry.answers import pause_s

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
