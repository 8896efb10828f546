import pytest

from gitsyncd.core.headline import headline
from gitsyncd.model.report import TargetState

SYNC, FAILED = TargetState.IN_SYNC, TargetState.FAILED


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({}, "0 of 0 targets in sync"),
        ({"web@a": SYNC, "web@b": SYNC}, "2 of 2 targets in sync"),
        ({"web@a": SYNC, "web@b": FAILED}, "1 of 2 targets in sync, 1 failed: web@b"),
        (
            {"web@a": TargetState.WAITING, "web@b": TargetState.REFUSED, "web@c": FAILED},
            "0 of 3 targets in sync, 1 failed: web@c, 1 refused: web@b, 1 waiting: web@a",
        ),
        ({"web@a": SYNC, "web@b": TargetState.SYNCING}, "1 of 2 targets in sync, 1 syncing"),
        (
            {f"web@{name}": FAILED for name in "edcba"},
            "0 of 5 targets in sync, 5 failed: web@a web@b web@c and 2 more",
        ),
    ],
)
def test_what_is_wrong_is_named_worst_first(states: dict[str, TargetState], expected: str) -> None:
    assert headline(states) == expected


def test_a_refused_agent_file_is_told_beside_the_states() -> None:
    assert headline({"web@a": SYNC}, refused=True) == "1 of 1 targets in sync, the changed agent file is refused"


@pytest.mark.parametrize("state", list(TargetState))
def test_no_state_is_left_out(state: TargetState) -> None:
    line = headline({"web@a": state})

    assert line.startswith("1 of 1") if state is SYNC else f"1 {state}" in line
