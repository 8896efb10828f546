"""What people read on a terminal: plans, diffs and status, aligned, and coloured where that is wanted.

Only the wording and the layout stand here; the facts are those of `--output json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gitsyncd.model.printable import masked

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
_SIGN = {
    "create": ("+", "green"), "update": ("~", "yellow"), "revert": ("<", "yellow"), "adopt": (">", "blue"),
    "recreate": ("!", "red"), "prune": ("-", "red"), "release": (".", "dim"), "block": ("x", "red"),
}  # fmt: skip
_STATE = {
    "in-sync": "green",
    "syncing": "blue",
    "failed": "red",
    "refused": "red",
    "held": "red",
    "unmanaged": "yellow",
}


class Paint:
    """Colours, or none."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        return f"\033[{_COLOURS[colour]}m{text}\033[0m" if self._on and colour else text


def plan_text(answer: Mapping[str, Any], *, colours: bool) -> str:
    """The answer of `plan` or `diff`."""
    paint = Paint(on=colours)
    return "\n".join(line for target in answer["targets"] for line in _target_plan(target, paint))


def _target_plan(target: Mapping[str, Any], paint: Paint) -> Iterable[str]:
    yield paint(f"{target['target']}  {clean(target['revision'])}", "bold")
    if not target["changes"]:
        yield f"  in sync: {target['keep']} objects, nothing to do"
    width = max((len(change["operation"]) for change in target["changes"]), default=0)
    for change in target["changes"]:
        sign, colour = _SIGN[change["operation"]]
        operation = paint(f"{sign} {change['operation'].ljust(width)}", colour)
        yield f"  {operation}  {clean(change['object'])}  {paint(clean(change['reason']), 'dim')}"
        if change.get("note"):
            yield f"      {clean(change['note'])}"
        yield from _fields(change["fields"], paint)
        if change.get("error"):
            yield f"      {paint(clean(change['error']), 'red')}"
        if change.get("hint"):
            yield f"      fix: {clean(change['hint'])}"
    if target["changes"]:
        yield f"  {_counts(target)}   plan {target['plan']}"
    if held := target.get("held"):
        yield paint(f"  held: the head {held['revision']} is not admitted: {clean(held['reason'])}", "red")
        yield f"  fix: if it is meant: gitsyncd approve {held['source']} --revision {held['revision']}"
    refused = target["refused"]
    if refused:
        yield paint(f"  refused: {clean(refused['reason'])}", "red")
        yield f"  fix: if it is meant: gitsyncd approve {target['target']} --plan {target['plan']}"


def _fields(fields: Sequence[Mapping[str, Any]], paint: Paint) -> Iterable[str]:
    for field in fields:
        who = f"  by {clean(field['manager'])} at {field['written_at']}" if field["manager"] else ""
        yield f"      {clean(field['path'])}{paint(who, 'dim')}"
        for name in ("last_applied", "git", "cluster"):
            yield f"        {name.replace('_', ' '):<12} {_value(field[name])}"


def _counts(target: Mapping[str, Any]) -> str:
    order = list(_SIGN)
    counts = {name: sum(change["operation"] == name for change in target["changes"]) for name in order}
    return ", ".join([*(f"{count} to {name}" for name, count in counts.items() if count), f"{target['keep']} kept"])


def status_text(answer: Mapping[str, Any], *, colours: bool) -> str:
    """The answer of `status`."""
    paint = Paint(on=colours)
    rows = [("TARGET", "STATE", "REVISION", "OBJECTS", "HEALTH", "SINCE")]
    rows += [
        (t["target"], t["state"], _short(t["revision"]), str(t["objects"]), t["health"], str(t["since"] or "")[:19])
        for t in answer["targets"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if index:
            cells[1] = paint(cells[1], _STATE.get(row[1], ""))
        lines.append("  ".join(cells).rstrip())
    for target in answer["targets"]:
        lines += _problems(target, paint)
    for kind in ("source", "cluster"):
        lines += [
            f"{kind} {item[kind]}: {paint(item['state'], 'red')}: {clean(item['error'])}"
            for item in answer[f"{kind}s"]
            if item["error"]
        ]
    return "\n".join(lines)


def _problems(target: Mapping[str, Any], paint: Paint) -> Iterable[str]:
    if target.get("suspended"):
        suspended = target["suspended"]
        until = suspended["until"] or "the agent file says otherwise"
        yield f"{target['target']}: suspended until {until}: {clean(suspended['reason'])}"
    for problem in target["problems"]:
        where = f"{target['target']} {problem['object']}".strip()
        yield f"{clean(where)}: {paint(clean(problem['error']), 'red')}"
        if problem["hint"]:
            yield f"  fix: {clean(problem['hint'])}"


def clean(value: Any) -> str:
    """Text in which nothing is left that a terminal would obey."""
    return masked(str(value))


def _value(value: Any) -> str:
    return "(none)" if value is None else clean(value)


def _short(revision: str | None) -> str:
    if not revision:
        return "-"
    branch, _, commit = revision.partition("@sha1:")
    return f"{branch}@{commit[:8]}"
