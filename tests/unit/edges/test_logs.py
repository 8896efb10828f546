"""How a log line looks: for programs, and for people."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from gitsyncd.edges import logs

REVISION = "main@sha1:0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def line(*, json: bool) -> str:
    out = io.StringIO()
    log = logs.set_up("info", json=json, stream=out)
    log.info(
        "object applied", target="web@eu-1", object="ConfigMap/web/settings", revision=REVISION, hint=f"see {REVISION}"
    )
    return out.getvalue()


def test_a_line_for_programs_has_time_level_and_event_first_and_every_value_whole() -> None:
    facts = json.loads(line(json=True))

    assert list(facts) == ["timestamp", "level", "event", "target", "object", "revision", "hint"]
    assert facts["revision"] == REVISION


def test_a_line_for_people_keeps_the_order_of_the_facts_and_abbreviates_commits_but_not_in_hints() -> None:
    shown = line(json=False).split("object applied", 1)[1].split()

    assert shown == [
        "target=web@eu-1",
        "object=ConfigMap/web/settings",
        "revision=main@sha1:0123456789",
        "hint='see",
        f"{REVISION}'",
    ]
