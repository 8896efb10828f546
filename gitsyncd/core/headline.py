"""How everything stands, in one line for people: what `systemctl status` shows."""

from __future__ import annotations

from collections.abc import Mapping

from gitsyncd.model.report import TargetState

_NAMED = 3
"""Targets that are named per state; more would make the line longer than a terminal is wide."""

_WORST_FIRST = (
    TargetState.FAILED,
    TargetState.REFUSED,
    TargetState.HELD,
    TargetState.UNKNOWN,
    TargetState.UNMANAGED,
    TargetState.WAITING,
    TargetState.SUSPENDED,
)
"""States that are told by name. A target that is syncing is only counted: it changes from second to second."""


def headline(states: Mapping[str, TargetState], *, refused: bool = False) -> str:
    """`12 of 14 targets in sync, 1 failed: web@eu-1, 1 syncing`: the states of all targets, by name.

    `refused`: the agent file as it is now cannot be used, and the one before it stays in force.
    """
    by_state: dict[TargetState, list[str]] = {}
    for name, state in states.items():
        by_state.setdefault(state, []).append(name)
    good = len(by_state.get(TargetState.IN_SYNC, ()))
    parts = [f"{good} of {len(states)} targets in sync"]
    parts += [
        f"{len(by_state[state])} {state}: {_names(by_state[state])}" for state in _WORST_FIRST if state in by_state
    ]
    if TargetState.SYNCING in by_state:
        parts.append(f"{len(by_state[TargetState.SYNCING])} syncing")
    if refused:
        parts.append("the changed agent file is refused")
    return ", ".join(parts)


def _names(names: list[str]) -> str:
    first = " ".join(sorted(names)[:_NAMED])
    return f"{first} and {len(names) - _NAMED} more" if len(names) > _NAMED else first
