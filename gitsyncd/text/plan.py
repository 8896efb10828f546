"""Plans and diffs as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gitsyncd.text.layout import Paint, clean

_SIGN = {
    "create": ("+", "green"), "update": ("~", "yellow"), "revert": ("<", "yellow"), "adopt": (">", "blue"),
    "recreate": ("!", "red"), "prune": ("-", "red"), "release": (".", "dim"), "block": ("x", "red"),
}  # fmt: skip


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


def _value(value: Any) -> str:
    return "(none)" if value is None else clean(value)
