"""What commands print of values that others wrote."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gitsyncd.cli.output import complain, print_json
from gitsyncd.model.errors import ConfigError, Rejected
from gitsyncd.text.plan import plan_text
from gitsyncd.text.status import View, status_text

WILD = "a\x1b[2J\x9b\u202eb"


def test_an_error_of_a_server_does_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain(Rejected(f"denied {WILD}", subject=f"x{WILD}", hint=f"try {WILD}"))

    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert all(line.isprintable() for line in shown)


def test_several_mistakes_of_the_agent_file_stay_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    complain(ConfigError("one\ntwo", hint="three"))

    assert capsys.readouterr().err == "gitsyncd: one\ntwo\nfix: three\n"


def test_json_on_a_terminal_does_not_act_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"error": WILD})

    assert capsys.readouterr().out.replace("\n", "").isprintable()


def plan_of(**change: Any) -> dict[str, Any]:
    row = {
        "object": WILD,
        "operation": "update",
        "reason": WILD,
        "path": WILD,
        "note": WILD,
        "error": WILD,
        "hint": WILD,
    }
    field = {
        "path": WILD,
        "manager": WILD,
        "written_at": "",
        "last_applied": WILD,
        "git": {"k": WILD},
        "cluster": [WILD],
    }
    return {
        "target": "web@c1", "revision": WILD, "plan": "00", "keep": 0, "refused": {"reason": WILD},
        "held": {"source": "s", "revision": "r", "reason": WILD}, "changes": [row | {"fields": [field]} | change],
    }  # fmt: skip


def test_a_plan_and_a_status_do_not_act_on_the_terminal() -> None:
    target = {
        "target": "web@c1", "state": "failed", "revision": None, "objects": 1, "health": "unknown", "since": None,
        "suspended": {"until": None, "reason": WILD}, "problems": [{"object": WILD, "error": WILD, "hint": WILD}],
    }  # fmt: skip
    cluster = {"cluster": "c1", "state": "unreachable", "since": None, "error": WILD}

    plan = plan_text({"targets": [plan_of()]}, colours=False)
    view = View(now=datetime(2026, 1, 1, tzinfo=UTC))
    status = status_text({"targets": [target], "sources": [], "clusters": [cluster]}, view)

    assert all(line.isprintable() for line in [*plan.split("\n"), *status.split("\n")])
