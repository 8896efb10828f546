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


HOSTILE = "kubectl\x1b]0;owned\x07\x9b31m\u202etxt\nfake=event"


@pytest.mark.parametrize("value", [HOSTILE, HOSTILE.replace("\n", ""), f"with spaces {HOSTILE}"])
@pytest.mark.parametrize("json", [True, False], ids=["programs", "people"])
def test_a_value_from_outside_neither_reaches_the_terminal_nor_makes_a_line_of_its_own(value: str, json: bool) -> None:
    out = io.StringIO()
    log = logs.set_up("info", json=json, stream=out)

    log.warning("drift reverted", manager=value, fields=[value])

    assert out.getvalue().removesuffix("\n").isprintable()


@pytest.mark.parametrize("value", ["\ud800", 2**70, {1: 2}, b"\xff"], ids=repr)
def test_no_value_is_a_reason_for_a_line_to_fail(value: object) -> None:
    out = io.StringIO()
    log = logs.set_up("info", json=True, stream=out)

    log.info("plan made", value=value)

    assert json.loads(out.getvalue())["event"] == "plan made"


def test_a_line_that_a_journal_would_split_is_cut_and_stays_json() -> None:
    out = io.StringIO()
    log = logs.set_up("info", json=True, stream=out)

    log.error("target failed", target="web@eu-1", error="é" * 100_000, fields=["x" * 9_000] * 900, hint="short")

    assert len(out.getvalue().encode()) < 48 * 1024
    said = json.loads(out.getvalue())
    assert (said["target"], said["hint"], said["cut"]) == ("web@eu-1", "short", ["error", "fields"])
