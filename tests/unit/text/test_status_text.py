"""What a person reads of one target, of some in every state, and of hundreds.

`python -m tests.unit.text.test_status_text` writes the pictures anew; look at them before they are committed.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.text.layout import columns
from gitsyncd.text.status import View, holder, status_text
from tests.unit.text import answers
from tests.unit.text.answers import NOW, answer, cluster, problem, source, target

PICTURES = Path(__file__).parent / "pictures"
SCENES = {
    "every-state-60": (answers.every_state, 60),
    "every-state-80": (answers.every_state, 80),
    "every-state-120": (answers.every_state, 120),
    "every-state-200": (answers.every_state, 200),
    "every-state-piped": (answers.every_state, None),
    "one-80": (lambda: answer([target()]), 80),
    "fleet-80": (answers.fleet, 80),
    "standing-by-80": (answers.standing_by, 80),
}


def shown(said: dict[str, Any], width: int | None = None, **view: Any) -> str:
    return status_text(said, View(now=NOW, width=width, **view))


@pytest.mark.parametrize("name", SCENES)
def test_the_status_looks_as_in_the_picture(name: str) -> None:
    scene, width = SCENES[name]

    assert shown(scene(), width, bars=True) + "\n" == (PICTURES / f"{name}.txt").read_text()


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_no_line_is_wider_than_the_terminal_except_one_that_is_to_be_copied(width: int) -> None:
    lines = shown(answers.every_state(), width, bars=True).split("\n")

    assert [line for line in lines if columns(line) > width and not line.startswith("      gitsyncd ")] == []


wild = st.text(st.characters(codec="utf-8"), max_size=60)


@given(text=wild, width=st.integers(40, 120))
def test_a_table_stays_a_table_whatever_stands_in_it(text: str, width: int) -> None:
    said = answer(
        [
            target(text, "failed", problems=[problem(text, text, text)], admitted=f"{text}@sha1:{answers.NEW}"),
            target("web@eu-1", "suspended", suspended={"until": None, "reason": text}),
        ],
        sources=[source(text, "unreachable", error=text, hint=text)],
        clusters=[cluster(text, writer=text, warnings=[text])],
    )

    lines = shown(said, width).split("\n")

    assert all(
        line.isprintable()
        for line in (re.sub(r"[\u200b-\u200d\ufeff]|\s", "", line) for line in lines)
        if line.isascii()
    )
    assert not any(set(line) & set("\x1b\x9b\x07\t\r\u202e") for line in lines)
    assert [line for line in lines if columns(line) > width and ": gitsyncd " not in text] == []


def test_the_worst_stands_first_and_each_problem_has_its_fix_right_beneath() -> None:
    lines = shown(answers.every_state()).split("\n")

    states = [line.split()[1] for line in lines[2:] if re.match(r"\S+@", line)]
    assert states == ["failed", "refused", "held", "unknown", "unmanaged", "suspended", "syncing", "in-sync", "in-sync"]
    pinned = next(index for index, line in enumerate(lines) if "Deployment.apps/shop/front" in line)
    assert lines[pinned + 1] == "    fix: Pin it by digest."


def test_a_cluster_out_of_reach_is_explained_once_and_not_at_each_of_its_targets() -> None:
    out = problem(answers.OUT, answers.OUT_HINT)
    said = answer(
        [target(f"t{n}@us-1", "unknown", problems=[out]) for n in range(5)],
        clusters=[cluster("us-1", "unreachable", error=answers.OUT, hint=answers.OUT_HINT)],
    )

    text = shown(said)

    assert text.count(answers.OUT) == text.count(answers.OUT_HINT) == 1
    assert text.count("cluster us-1 is unreachable: see below") == 5


def test_of_many_targets_those_in_sync_are_counted_and_all_shows_them() -> None:
    few, everything = shown(answers.fleet()), shown(answers.fleet(), everything=True)

    assert few.count("\nweb@eu-") == 2
    assert "not shown: 298 targets in sync: gitsyncd status --all" in few
    assert everything.count("\nweb@eu-") == 300
    assert "not shown" not in everything


def test_a_long_list_of_failures_is_cut_with_a_count() -> None:
    bad = [target(f"t{n}@c1", "failed", problems=[problem("no")]) for n in range(90)]
    said = answer([*bad, *(target(f"u{n}@c1") for n in range(10))])

    assert "not shown: 60 more that are not in sync, 10 targets in sync: gitsyncd status --all" in shown(said)


def test_what_is_in_sync_and_not_healthy_is_never_hidden() -> None:
    said = answers.fleet()
    said["targets"][7] |= {"health": "failed", "health_message": "Deployment/web/front: past its deadline"}

    text = shown(said)

    assert "failed: Deployment/web/front: past its deadline" in text
    assert "1 in sync and not healthy" in text


def test_a_daemon_that_stands_by_is_calm_about_it() -> None:
    said = answers.standing_by(300)
    said["configuration"] = None

    painted = shown(said, 80, colours=True)

    assert "not shown: 1 target in sync, 300 targets that another daemon writes to" in shown(said)
    assert "not shown: 1 cluster ready, 300 clusters that another daemon writes to" in shown(said)
    assert "Nothing to do." not in shown(said, everything=True)
    assert not re.search(r"\033\[3[13]m", painted), "neither red nor yellow"


def test_of_a_lease_holder_host_and_pid_are_shown() -> None:
    assert holder("node-7/4711/88231/5c1f-4026531836") == "node-7/4711"
    assert holder("somebody else") == "somebody else"


def test_one_target_that_was_named_is_shown_with_its_own_source_and_cluster_alone() -> None:
    said = answer([target()], sources=[source(), source("other")], clusters=[cluster(), cluster("us-9")])

    text = shown(said, named=True)

    assert "fleet" in text and "eu-1" in text
    assert "other" not in text and "us-9" not in text


def test_in_brief_a_source_is_shown_when_something_is_wrong_with_it() -> None:
    bad = answer([target()], sources=[source("apps", "unreachable", error="no answer", hint="Look at it.")])

    assert shown(answer([target()]), brief=True).split("\n")[-1].startswith("web@eu-1")
    assert shown(bad, brief=True).split("\n")[-1] == "    fix: Look at it."


def test_warnings_are_shown_where_they_belong() -> None:
    said = answer([target()], sources=[source(warnings=["asked over plain http"])], warnings=["the disk is full"])

    lines = shown(said).split("\n")

    assert lines[1] == "warning: the disk is full"
    assert lines[lines.index("  warning: asked over plain http") - 1].startswith("fleet")


def test_colours_change_nothing_but_the_colour() -> None:
    plain = shown(answers.every_state(), 80, bars=True)
    painted = shown(answers.every_state(), 80, bars=True, colours=True)

    assert "\033[31m" in painted
    assert re.sub(r"\033\[[0-9;]*m", "", painted) == plain


def write() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, (scene, width) in SCENES.items():
        (PICTURES / f"{name}.txt").write_text(shown(scene(), width, bars=True) + "\n")


if __name__ == "__main__":
    write()
